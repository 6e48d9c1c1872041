"""conv2d, the algorithms behind it, and how one is chosen.

    y[n,p,q,k] = b[k] + sum_{r,s,c} w[r,s,c,k] x[n, p*stride + r*dilation - padding, q*stride + s*..., c]

Letters are cuDNN's: n image, c input channel, k output channel, (h,w) input pixel, (p,q) output pixel, (r,s) filter
tap. `forward`, `backward_x` and `backward_w` are the three linear maps on arrays; `Conv2d` and `ConvTranspose2d` are
made of them.
"""

import numpy as np

from ...tensor import Function, Tensor
from .depthwise import depthwise_backward_w, depthwise_backward_x, depthwise_forward
from .direct import add_columns, filter_gradient_tiles, gather_tiles, pack_filters, pad_columns, sum_parts
from .geometry import Geometry, Options
from .plain import channel_sums, plain_backward_w, plain_backward_x, plain_forward
from .simd import COLUMNS, ROWS
from .winograd import POINTS, SKEW, turn_filters, winograd_filter_gradient, winograd_filters, winograd_forward


def conv2d(x, w, b=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
    """2-D convolution (cross-correlation), PyTorch's meaning with channels last.

    y[n,p,q,k] = b[k] + sum_{r,s,c} w[r,s,c,k] x[n, p*stride + r*dilation - padding, ..., c]

    Shapes: x (N,H,W,C) and w (R,S,C/groups,K) of one float dtype, b (K,); stride, padding and dilation a number or
    (vertical, horizontal). Result (N,P,Q,K), P = floor((H + 2 padding - dilation (R-1) - 1) / stride) + 1.
    Raises ValueError where shapes or options do not fit, TypeError for mixed or integer dtypes.
    Example:
        y = ts.ops.conv2d(x, w, b, stride=2, padding=1)
    """
    function = Conv2d(Options.of("conv2d", stride, padding, dilation, groups))
    return function(x, w) if b is None else function(x, w, b)


class Conv2d(Function):
    """The equation above; dx is the adjoint map of x -> y, dw that of w -> y, db the sum of dy over all pixels."""

    def __init__(self, options: Options):
        self.options = options

    def forward(self, x, w, b=None):
        check_dtypes("conv2d", x, w, b)
        g = self.g = self.options.geometry(x.shape, w.shape)
        check_bias("conv2d", b, g.K)
        self.x = x if self.needs[1] else None
        self.w = w if self.needs[0] else None
        return forward(self.device, g, x, w, b)

    def backward(self, dy):
        dx = backward_x(self.device, self.g, dy, self.w) if self.needs[0] else None
        dw = backward_w(self.device, self.g, dy, self.x) if self.needs[1] else None
        if len(self.needs) == 2:
            return dx, dw
        return dx, dw, channel_sum(self.device, dy) if self.needs[2] else None


def check_dtypes(op: str, *arrays) -> None:
    """All arrays of one float dtype, or a TypeError that names what came."""
    dtypes = {a.dtype for a in arrays if a is not None}
    if len(dtypes) > 1 or dtypes.pop() not in (np.float32, np.float64):
        names = ", ".join(f"{n} {a.dtype}" for n, a in zip("xwb", arrays) if a is not None)
        raise TypeError(f"{op}: expected x, w and b of one dtype, float32 or float64, got {names}; cure: astype")


def check_bias(op: str, b, channels: int) -> None:
    if b is not None and b.shape != (channels,):
        raise ValueError(f"{op}: b has shape {b.shape}, expected ({channels},): one number for each output channel")


# ------------------------------------------------------------------------------------ choosing an algorithm


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
    "winograd": (_fills_winograd_tiles, (winograd_filters, winograd_forward, winograd_filter_gradient)),
    "direct": (_fills_vectors, (pack_filters, gather_tiles, filter_gradient_tiles)),
    "plain": (lambda g, dtype: True, (plain_forward, plain_backward_x, plain_backward_w)),
}


def algorithm(device, g: Geometry, dtype) -> str:
    """Which body computes a convolution: "depthwise", "winograd", "direct" (implicit GEMM) or "plain" (definition)."""
    for name, (fits, kernels) in ALGORITHMS.items():
        if fits(g, dtype) and all(map(device.has, kernels)):
            return name
    raise RuntimeError(f"conv2d: device {device.name!r} has no kernels for it")


def forward(device, g: Geometry, x, w, b=None):
    """y of x and w."""
    y = device.empty(g.y_shape, x.dtype)
    which = algorithm(device, g, x.dtype)
    if which == "direct":
        if _thin(g):
            x, g = _merge_taps(device, g, x)
        panels = _panels(device, g, w, transposed=False)
        _gather(device, y, x, panels, b, g.x_shape, g.y_shape, g, num=g.stride, den=(1, 1),
                off=(-g.padding[0], -g.padding[1]), inc=g.dilation)  # fmt: skip
    elif which == "winograd":
        _winograd(device, y, x, w, b, g.padding, g.dilation[0])
    else:
        b = device.zeros((g.K,), x.dtype) if b is None else b
        if which == "depthwise":
            device.launch(depthwise_forward, y, x, w, b, *_numbers(g))
        else:
            device.launch(plain_forward, y, x, w, b, *_numbers(g, g.K), g.groups)
    return y


def backward_x(device, g: Geometry, dy, w, b=None):
    """dx of dy and w: the adjoint of x -> y; plus b[c], the bias of a transposed convolution."""
    dx = device.empty(g.x_shape, dy.dtype)
    which = algorithm(device, g, dy.dtype)
    if which == "direct" and _thin(g):
        columns = _columns(device, g, dy, w)
        b = device.zeros((g.C,), dy.dtype) if b is None else b
        device.launch(add_columns, dx, columns, b, *_numbers(g))
    elif which == "direct":
        panels = _panels(device, g, w, transposed=True)
        _gather(device, dx, dy, panels, b, g.y_shape, g.x_shape, g, num=(1, 1), den=g.stride,
                off=g.padding, inc=(-g.dilation[0], -g.dilation[1]))  # fmt: skip
    elif which == "winograd":
        turned = device.empty((3, 3, g.K, g.C), w.dtype)
        device.launch(turn_filters, turned, w, g.C, g.K)
        padding = (2 * g.dilation[0] - g.padding[0], 2 * g.dilation[1] - g.padding[1])
        _winograd(device, dx, dy, turned, b, padding, g.dilation[0])
    else:
        b = device.zeros((g.C,), dy.dtype) if b is None else b
        if which == "depthwise":
            device.launch(depthwise_backward_x, dx, dy, w, b, *_numbers(g))
        else:
            device.launch(plain_backward_x, dx, dy, w, b, *_numbers(g, g.K), g.groups)
    return dx


def backward_w(device, g: Geometry, dy, x):
    """dw of dy and x: the adjoint of w -> y."""
    which = algorithm(device, g, x.dtype)
    if which == "plain":
        dw = device.empty(g.w_shape, x.dtype)
        device.launch(plain_backward_w, dw, dy, x, *_numbers(g, g.K), g.groups)
        return dw
    if which == "depthwise":
        splits = max(1, min(device.threads, g.N * g.P))
        parts = device.empty((splits, g.R * g.S * g.C), x.dtype)
        device.launch(depthwise_backward_w, parts, dy, x, *_numbers(g), splits)
    elif which == "winograd":
        parts = _winograd_gradient(device, dy, x, g)
        splits = len(parts)
    else:
        shape = g
        if _thin(g):
            x, g = _merge_taps(device, g, x)
        taps, M = g.R * g.S, g.C // g.groups
        panels = g.groups * -(-(g.K // g.groups) // COLUMNS)
        panel_jobs = min(panels, device.threads)
        splits = max(1, min(device.threads // panel_jobs, g.N * g.P))
        block = max(1, _pixels_in_cache(x.shape[3], 512) // g.Q)
        parts = device.empty((splits, taps * M * g.K), x.dtype)
        device.launch(filter_gradient_tiles, parts, dy.reshape(-1), x, g.N, g.H, g.W, x.shape[3], M, g.P, g.Q, g.K,
                      g.R, g.S, *g.stride, *g.padding, *g.dilation, g.groups, splits, panel_jobs, block)  # fmt: skip
        g = shape
    if splits == 1:
        return parts.reshape(g.w_shape)
    dw = device.empty((parts.shape[1],), x.dtype)
    device.launch(sum_parts, dw, parts, splits, dw.size)
    return dw.reshape(g.w_shape)


def channel_sum(device, dy):
    """The sum of dy (..., K) over all but the last axis: the gradient of a bias."""
    K = dy.shape[-1]
    rows = dy.size // K
    shares = max(1, min(64, rows // 1024))
    parts = device.empty((shares, K), np.float64)
    device.launch(channel_sums, parts, dy.reshape(rows, K), rows, K, shares)
    return parts.sum(axis=0).astype(dy.dtype)


def _numbers(g: Geometry, *K) -> tuple[int, ...]:
    return (g.N, g.H, g.W, g.C, g.P, g.Q, *K, g.R, g.S, *g.stride, *g.padding, *g.dilation)


# ---------------------------------------------------------------------------------- steps of the direct algorithm


def _thin(g: Geometry) -> bool:
    """Whether x has so few channels (an image's 1 or 3) that a run over them alone would be mostly overhead."""
    return g.C < 8 and g.S > 1 and g.groups == 1 and g.dilation[1] == 1


def _merge_taps(device, g: Geometry, x):
    """With the columns padded in memory, the taps of a filter row and their channels are one contiguous run.

    Returns the padded x, still C floats a pixel, and the geometry of the same convolution seen as one whose filters
    are (R, 1) with S*C channels that overlap from pixel to pixel.
    """
    width = max(g.W + g.padding[1], (g.Q - 1) * g.stride[1] + g.S - g.padding[1]) + g.padding[1]
    padded = device.empty((g.N, g.H, width, g.C), x.dtype)
    device.launch(pad_columns, padded.reshape(-1), x.reshape(-1), g.N * g.H, g.W, g.C, g.padding[1], width)
    merged = Geometry(g.N, g.H, width, g.S * g.C, g.R, 1, g.K, g.P, g.Q, g.stride, (g.padding[0], 0), g.dilation, 1)
    return padded, merged


def _columns(device, g: Geometry, dy, w):
    """What each pixel of dy gives to each tap and channel: dy w^T as a 1x1 convolution with R*S*C output channels.

    With few channels c the panels of the direct way would be mostly empty; here taps and channels fill them together.
    """
    outputs = g.R * g.S * g.C
    filters = device.copy(w.reshape(outputs, g.K).T).reshape(1, 1, g.K, outputs)
    pixelwise = Geometry(g.N, g.P, g.Q, g.K, 1, 1, outputs, g.P, g.Q, (1, 1), (0, 0), (1, 1), 1)
    return forward(device, pixelwise, dy, filters)


def _panels(device, g: Geometry, w, transposed: bool):
    columns, run = (g.C, g.K) if transposed else (g.K, g.C)
    count = -(-(columns // g.groups) // COLUMNS)
    panels = device.empty((g.groups, count, g.R * g.S, run // g.groups, COLUMNS), w.dtype)
    w = w.reshape(g.w_shape)  # merged taps are the same numbers in the same order
    device.launch(pack_filters, panels, w, g.R, g.S, g.C // g.groups, g.K, g.groups, transposed)
    return panels


def _winograd(device, out, a, w, b, padding, dilation: int) -> None:
    """out = the convolution of a with filters w (3,3,C,K) and bias b."""
    (N, H, W, C), (_, P, Q, K) = a.shape, out.shape
    zeros = device.zeros((max(C, COLUMNS),), a.dtype)
    b = device.zeros((K,), a.dtype) if b is None else b
    jobs = device.threads
    block = _share_of_tiles(P, Q, N, dilation, jobs)
    U = device.empty((POINTS, C * K + SKEW), w.dtype)
    device.launch(winograd_filters, U, w, C, K)
    V = device.empty((jobs, POINTS * (block * C + SKEW)), a.dtype)
    M = device.empty((jobs, POINTS * (block * K + SKEW)), a.dtype)
    device.launch(winograd_forward, out, a, U, b, zeros, V, M, N, H, W, C, P, Q, K, *padding, dilation, block, jobs)


def _share_of_tiles(P: int, Q: int, N: int, dilation: int, shares: int) -> int:
    """How many tiles go through Winograd's steps at a time: about 8 * ROWS, so that `shares` threads get as many."""
    tiles = N * dilation**2 * -(-P // (4 * dilation)) * -(-Q // (4 * dilation))
    rounds = max(1, -(-tiles // (shares * 8 * ROWS)))
    return max(1, -(-tiles // (shares * rounds * ROWS))) * ROWS


def _winograd_gradient(device, dy, x, g: Geometry):
    panels = g.K // COLUMNS
    panel_jobs = min(panels, device.threads)
    splits = max(1, device.threads // panel_jobs)
    block = _share_of_tiles(g.P, g.Q, g.N, g.dilation[0], splits)
    V = device.empty((splits * panel_jobs, POINTS * (block * g.C + SKEW) + ROWS), x.dtype)
    D = device.empty((splits * panel_jobs, POINTS * (block * g.K + SKEW)), x.dtype)
    zeros = device.zeros((max(g.C, g.K),), x.dtype)
    parts = device.empty((splits, 9 * g.C * g.K), x.dtype)
    device.launch(winograd_filter_gradient, parts, dy, x, zeros, V, D, g.N, g.H, g.W, g.C, g.P, g.Q, g.K, *g.padding,
                  g.dilation[0], block, splits, panel_jobs)  # fmt: skip
    return parts


def _gather(device, out, a, panels, b, a_shape, out_shape, g: Geometry, num, den, off, inc) -> None:
    groups, count, run = panels.shape[0], panels.shape[1], panels.shape[3]
    start = device.zeros((groups, count * COLUMNS), out.dtype)
    if b is not None:
        start[:, : out_shape[3] // groups] = b.reshape(groups, -1)
    zeros = device.zeros((max(a.shape[3], run),), out.dtype)
    pixels = _pixels_in_cache(run, 48 * ROWS)
    if panels.nbytes > 4 << 20:  # filters that outgrow the caches are read once by each thread, not once a block
        pixels = max(pixels, min(2048, a_shape[0] * out_shape[1] * out_shape[2] // (den[0] * den[1] * device.threads)))
    block = -(-pixels // ROWS) * ROWS
    device.launch(gather_tiles, out.reshape(-1), a, panels, start, zeros, *a_shape[:3], a.shape[3], *out_shape[1:],
                  g.R, g.S, groups, *num, *den, *off, *inc, block)  # fmt: skip


def _pixels_in_cache(channels: int, most: int) -> int:
    """How many pixels of so many float channels make up about a quarter of an L2 cache of 512 KiB."""
    return max(8 * ROWS, min(most, (128 << 10) // (4 * channels)))
