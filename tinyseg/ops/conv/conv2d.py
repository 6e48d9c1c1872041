"""conv2d, the algorithms behind it, and how one is chosen.

    y[n,p,q,k] = b[k] + sum_{r,s,c} w[r,s,c,k] x[n, p*stride + r*dilation - padding, q*stride + s*..., c]

Letters are cuDNN's: n image, c input channel, k output channel, (h,w) input pixel, (p,q) output pixel, (r,s) filter
tap. `forward`, `backward_x` and `backward_w` are the three linear maps on arrays; `Conv2d` and `ConvTranspose2d` are
made of them.
"""

import math

import numpy as np

from ...precision import is_exact, narrow_type
from ...tensor import Function, Tensor
from ..activation import relu_backward_flat, relu_flat
from ..checks import wide
from .depthwise import depthwise_backward_w, depthwise_backward_x, depthwise_forward
from .direct import filter_gradient_tiles, gather_tiles, sum_parts
from .direct_maps import direct_backward_x, direct_forward, direct_gradient_parts
from .geometry import Geometry, Options
from .parts import split, whole
from .plain import channel_sums, plain_backward_w, plain_backward_x, plain_forward
from .simd import COLUMNS
from .tensorcore import KERNELS as PRODUCTS
from .tensorcore import narrowed, product_backward_to_parts, product_backward_w, product_forward
from .winograd import (
    winograd_convolution,
    winograd_filters,
    winograd_forward,
    winograd_inputs,
    winograd_panels,
)
from .winograd_gradient import winograd_filter_gradient, winograd_gradient_parts


def conv2d(x, w, b=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
    """2-D convolution (cross-correlation), PyTorch's meaning with channels last.

    y[n,p,q,k] = b[k] + sum_{r,s,c} w[r,s,c,k] x[n, p*stride + r*dilation - padding, ..., c]

    x may be several tensors: they count as one, their channels one behind the other, and need not be brought together.

    Shapes: x (N,H,W,C) and w (R,S,C/groups,K) of one float dtype, b (K,); stride, padding and dilation a number or
    (vertical, horizontal). Result (N,P,Q,K), P = floor((H + 2 padding - dilation (R-1) - 1) / stride) + 1.
    Raises ValueError where shapes or options do not fit, TypeError for mixed or integer dtypes.
    Example:
        y = ts.ops.conv2d(x, w, b, stride=2, padding=1)
    """
    xs = tuple(x) if isinstance(x, list | tuple) else (x,)
    function = Conv2d(Options.of("conv2d", stride, padding, dilation, groups), len(xs))
    return function(*xs, w) if b is None else function(*xs, w, b)


class Conv2d(Function):
    """The equation above; dx is the adjoint map of x -> y, dw that of w -> y, db the sum of dy over all pixels.

    x comes in `parts` parts. With relu, max(y, 0) takes the place of y. With statistics, `runs` has y's when forward is
    done, if the algorithm takes them on the way (`ops/statistics.py`), else None. With scale, forward alone multiplies
    the sum over r, s and c by scale[k], and with `shortcut`, an array of y's form, adds that before relu: `added` tells
    whether the algorithm did; else relu waits too. Under autocast operands are rounded to 16 bits here, and so saved
    for backward.
    """

    takes_half = "mixed"

    def __init__(self, options: Options, parts: int = 1, relu=False, statistics=False, scale=None, shortcut=None):
        self.options, self.parts = options, parts
        self.relu, self.statistics, self.scale, self.runs = relu, statistics, scale, None
        self.shortcut, self.added = shortcut, False

    def forward(self, *inputs):
        xs, w, b = inputs[: self.parts], inputs[self.parts], (*inputs[self.parts :], None)[1]
        check_dtypes("conv2d", *xs, w, b)
        self.channels = [x.shape[-1] for x in xs]
        g = self.g = self.options.geometry(check_parts(xs), w.shape)
        check_bias("conv2d", b, g.K)
        self.needs_x, (self.needs_w, *needs_b) = any(self.needs[: self.parts]), self.needs[self.parts :]
        self.needs_b = any(needs_b)
        self.exact, self.narrow = is_exact(), narrow_for(self.device, g, w.dtype)
        if self.narrow and self.scale is not None:
            w, self.scale = w * self.scale, None
        *xs, w = (narrowed(self.device, a, self.narrow) for a in (*xs, w))
        self.xs = tuple(xs) if self.needs_w else None
        self.w = w if self.needs_x else None
        if self.shortcut is not None:
            fits = (self.shortcut.shape, self.shortcut.dtype) == (g.y_shape, w.dtype)
            self.added = fits and algorithm(self.device, g, w.dtype) == "direct"
        relu = self.relu and (self.shortcut is None or self.added)
        epilogue = relu, self.statistics, self.scale, self.shortcut if self.added else None
        y, self.runs = forward_with_epilogue(self.device, g, xs, w, b, self.exact, *epilogue)
        self.y = y if self.relu and any(self.needs) else None
        return y

    def backward(self, dy):
        device, g = self.device, self.g
        if self.relu:
            dz = device.empty(dy.shape, dy.dtype)
            device.launch(relu_backward_flat, dz.reshape(-1), dy.reshape(-1), self.y.reshape(-1), dy.size)
            dy = dz
        db = channel_sum(device, dy) if self.needs_b else None
        dy = narrowed(device, dy, self.narrow)
        dxs = [None] * self.parts
        if self.needs_x:
            dxs = backward_to_parts(device, g, dy, self.w, self.channels, self.exact)
        dw = backward_w(device, g, dy, self.xs, self.exact) if self.needs_w else None
        return (*dxs, dw, db)[: len(self.needs)]


def check_parts(xs) -> tuple[int, ...]:
    """The shape of the x that parts make up. Raises ValueError where they differ in more than their channels."""
    shapes = [x.shape for x in xs]
    if any(len(shape) != 4 for shape in shapes):
        return shapes[0] if len(xs) == 1 else shapes
    if len({shape[:3] for shape in shapes}) != 1:
        raise ValueError(
            f"conv2d: the parts of x have shapes {', '.join(map(str, shapes))}, expected equal N, H and W; cure: crop"
        )
    return (*shapes[0][:3], sum(shape[3] for shape in shapes))


def check_dtypes(op: str, *arrays) -> None:
    """All arrays of one float dtype, but for float16 beside float32, or a TypeError that names what came."""
    dtypes = {a.dtype for a in arrays if a is not None}
    dtypes = {np.dtype(np.float32) if d == np.float16 else d for d in dtypes}
    if len(dtypes) > 1 or dtypes.pop() not in (np.float32, np.float64):
        *xs, w, b = arrays
        names = ", ".join(f"{n} {a.dtype}" for n, a in zip(["x"] * len(xs) + ["w", "b"], arrays) if a is not None)
        raise TypeError(f"{op}: expected x, w and b of one dtype, float32 or float64, got {names}; cure: astype")


def check_bias(op: str, b, channels: int) -> None:
    if b is not None and b.shape != (channels,):
        raise ValueError(f"{op}: b has shape {b.shape}, expected ({channels},): one number for each output channel")


# ------------------------------------------------------------------------------------ choosing an algorithm


def narrow_for(device, g: Geometry, dtype) -> str | None:
    """In which 16 bits to multiply under autocast, "float16" or "bfloat16"; None: operands as they are."""
    narrow = narrow_type()
    if narrow is None or dtype == np.float64 or not all(map(device.has, PRODUCTS)):
        return None
    return None if narrow == "bfloat16" and _one_filter_a_channel(g, dtype) else narrow


def _one_filter_a_channel(g: Geometry, dtype) -> bool:
    return g.groups == g.C == g.K and g.C > 1


def _fills_vectors(g: Geometry, dtype) -> bool:
    return dtype == np.float32 and (g.groups == 1 or g.C // g.groups >= 4)


def _fills_winograd_tiles(g: Geometry, dtype) -> bool:
    three = (g.R, g.S, *g.stride, g.groups) == (3, 3, 1, 1, 1) and g.dilation[0] == g.dilation[1]
    panels = g.C % COLUMNS == 0 and g.K % COLUMNS == 0
    return dtype == np.float32 and three and panels and min(g.P, g.Q) >= 4 * g.dilation[0]


# From the best to the one that is always right: whether it fits a geometry and dtype, and the kernels that it needs.
# A device takes the first that fits and all of whose kernels it has.
ALGORITHMS = {
    "depthwise": (_one_filter_a_channel, (depthwise_forward, depthwise_backward_x, depthwise_backward_w, sum_parts)),
    "tensorcore": (lambda g, dtype: dtype != np.float64, PRODUCTS),
    "winograd": (
        _fills_winograd_tiles,
        (winograd_filters, winograd_forward, winograd_inputs, winograd_panels, winograd_filter_gradient),
    ),
    "direct": (_fills_vectors, (gather_tiles, filter_gradient_tiles)),
    "plain": (lambda g, dtype: True, (plain_forward, plain_backward_x, plain_backward_w)),
}


def algorithm(device, g: Geometry, dtype) -> str:
    """Which body computes a convolution: "depthwise", "tensorcore" or "direct" (implicit GEMM), "winograd" or "plain"
    (the definition)."""
    for name, (fits, kernels) in ALGORITHMS.items():
        if fits(g, dtype) and all(map(device.has, kernels)):
            return name
    raise RuntimeError(f"conv2d: device {device.name!r} has no kernels for it")


def forward(device, g: Geometry, x, w, b=None, exact=False):
    """y of x and w."""
    return forward_with_epilogue(device, g, (x,), w, b, exact)[0]


def forward_with_epilogue(
    device, g: Geometry, xs, w, b=None, exact=False, relu=False, statistics=False, scale=None, shortcut=None
):
    """y = b + scale * (w * x) of the parts of x, with relu max(y, 0); and y's statistics if wanted and on the way.

    The direct algorithm alone adds a shortcut, before relu.
    """
    which = algorithm(device, g, w.dtype)
    if which == "tensorcore":
        w = w if scale is None else w * scale
        return product_forward(device, g, xs, w, b, relu, statistics, exact)
    y, runs = device.empty(g.y_shape, w.dtype), None
    if which == "winograd":
        side, padding, d = _side(exact), g.padding, g.dilation[0]
        epilogue = dict(scale=scale, b=b, relu=relu, statistics=statistics)
        return y, winograd_convolution(device, (y,), _two_parts(device, xs), w, padding, d, side, **epilogue)
    x = whole(device, xs)
    if which == "direct":
        direct_forward(device, g, y, x, w, b, scale, shortcut, relu)
        return y, runs
    w = w if scale is None else w * scale
    b = device.zeros((g.K,), wide(x.dtype)) if b is None else b.astype(wide(x.dtype), copy=False)
    if which == "depthwise":
        device.launch(depthwise_forward, y, x, w, b, *_numbers(g))
    else:
        device.launch(plain_forward, y, x, w, b, *_numbers(g, g.K), g.groups)
    if relu:
        device.launch(relu_flat, y.reshape(-1), y.reshape(-1), y.size)
    return y, runs


def backward_x(device, g: Geometry, dy, w, b=None, exact=False):
    """dx of dy and w: the adjoint of x -> y; plus b[c], the bias of a transposed convolution."""
    return backward_to_parts(device, g, dy, w, [g.C], exact, b)[0]


def backward_to_parts(device, g: Geometry, dy, w, channels, exact=False, b=None):
    """dx in parts of so many channels each."""
    which = algorithm(device, g, dy.dtype)
    if which == "winograd" and _fit_panels(channels):
        dxs = [device.empty((*g.x_shape[:3], c), dy.dtype) for c in channels]
        padding = (2 * g.dilation[0] - g.padding[0], 2 * g.dilation[1] - g.padding[1])
        winograd_convolution(device, dxs, (dy,), w, padding, g.dilation[0], _side(exact), turned=True, b=b)
        return dxs
    if which == "tensorcore":
        return product_backward_to_parts(device, g, dy, w, channels, b, exact)
    if len(channels) > 1:
        return split(backward_x(device, g, dy, w, b, exact), channels)
    dx = device.empty(g.x_shape, dy.dtype)
    if which == "direct":
        direct_backward_x(device, g, dx, dy, w, b)
    else:
        b = device.zeros((g.C,), wide(dy.dtype)) if b is None else b.astype(wide(dy.dtype), copy=False)
        if which == "depthwise" and g.stride == (1, 1):  # the adjoint has the same form, with the filters turned round
            size = g.N, g.P, g.Q, g.C, g.H, g.W, g.R, g.S, 1, 1
            padding = (d * (taps - 1) - p for d, taps, p in zip(g.dilation, (g.R, g.S), g.padding))
            device.launch(depthwise_forward, dx, dy, device.copy(w[::-1, ::-1]), b, *size, *padding, *g.dilation)
        elif which == "depthwise":
            device.launch(depthwise_backward_x, dx, dy, w, b, *_numbers(g))
        else:
            device.launch(plain_backward_x, dx, dy, w, b, *_numbers(g, g.K), g.groups)
    return [dx]


def backward_w(device, g: Geometry, dy, x, exact=False):
    """dw of dy and x (or its parts): the adjoint of w -> y."""
    which, xs = algorithm(device, g, dy.dtype), x if isinstance(x, tuple) else (x,)
    if which == "tensorcore":
        return product_backward_w(device, g, dy, xs, exact)
    x = None if which == "winograd" else whole(device, xs)
    if which == "plain":
        dw = device.empty(g.w_shape, x.dtype)
        device.launch(plain_backward_w, dw, dy, x, *_numbers(g, g.K), g.groups)
        return dw
    if which == "depthwise":
        splits = max(1, min(device.shares(g.R * g.C), g.N * g.P))
        splits -= splits % GROUP if splits > MANY else 0
        parts = device.empty((splits, g.R * g.S * g.C), wide(x.dtype))
        device.launch(depthwise_backward_w, parts, dy, x, *_numbers(g), splits)
    elif which == "winograd":
        xs = _two_parts(device, xs)
        parts = winograd_gradient_parts(device, dy, xs, g.padding, g.dilation[0], _side(exact))
    else:
        parts = direct_gradient_parts(device, g, dy, x)
    return _sum(device, parts)[: math.prod(g.w_shape)].reshape(g.w_shape)


MANY, GROUP = 256, 32  # parts that are added up one by one; shares that are added up side by side if there are more


def _sum(device, parts):
    """The sum of the rows of parts; of many every GROUP-th first, so that no thread has to add them all."""
    count, n = parts.shape
    if count == 1:
        return parts[0]
    if count > MANY and count % GROUP == 0:
        return _sum(device, _sum(device, parts.reshape(count // GROUP, GROUP * n)).reshape(GROUP, n))
    total = device.empty((n,), parts.dtype)
    device.launch(sum_parts, total, parts, count, n)
    return total


def channel_sum(device, dy):
    """The sum of dy (..., K) over all but the last axis: the gradient of a bias."""
    K = dy.shape[-1]
    rows = dy.size // K
    shares = max(1, min(max(64, device.shares(K)), rows // 1024))
    parts = device.empty((shares, K), np.float64)
    device.launch(channel_sums, parts, dy.reshape(rows, K), rows, K, shares)
    return parts.sum(axis=0).astype(np.float32 if dy.dtype == np.float16 else dy.dtype)


def _numbers(g: Geometry, *K) -> tuple[int, ...]:
    return (g.N, g.H, g.W, g.C, g.P, g.Q, *K, g.R, g.S, *g.stride, *g.padding, *g.dilation)


def _side(exact: bool) -> int:
    """Of Winograd's tiles."""
    return 2 if exact else 4


def _fit_panels(channels) -> bool:
    """Whether Winograd's kernels take x in these parts as they are."""
    return len(channels) <= 2 and all(c % COLUMNS == 0 for c in channels)


def _two_parts(device, xs):
    """The parts of x as Winograd's kernels take them: one or two."""
    return xs if _fit_panels([x.shape[3] for x in xs]) else (whole(device, xs),)
