"""conv_transpose2d: the adjoint of conv2d, with no kernels of its own.

If conv2d with filters w is the linear map A, then conv_transpose2d with the same w is A^T: <A x, y> = <x, A^T y>.
So its forward pass is conv2d's backward pass and the reverse.
"""

from ...precision import is_exact
from ...tensor import Function, Tensor
from ..checks import pair
from .conv2d import backward_w, backward_x, channel_sum, check_bias, check_dtypes, forward, narrow_for
from .geometry import Geometry, Options
from .tensorcore import narrowed


def conv_transpose2d(x, w, b=None, stride=1, padding=0, output_padding=0, dilation=1, groups=1) -> Tensor:
    """The adjoint of conv2d in its input ("deconvolution", "up-convolution"), plus a bias.

    y[n,h,w,c] = b[c] + sum_{r,s,k} w[r,s,c,k] x[n,p,q,k] over the p, q with p*stride + r*dilation - padding = h, ...

    Shapes: x (N,P,Q,K); w (R,S,C/groups,K), the filters of the conv2d whose adjoint this is, so C are the channels of
    the RESULT; b (C,). Result (N,H,W,C) with H = (P-1)*stride - 2*padding + dilation*(R-1) + 1 + output_padding.
    Raises ValueError where shapes or options do not fit, TypeError for mixed or integer dtypes.
    Example:
        y = ts.ops.conv_transpose2d(x, w, stride=2)        # w (2,2,C,K): doubles height and width
    """
    op = "conv_transpose2d"
    options = Options.of(op, stride, padding, dilation, groups)
    function = ConvTranspose2d(options, pair(op, "output_padding", output_padding, 0))
    return function(x, w) if b is None else function(x, w, b)


class ConvTranspose2d(Function):
    """y = A^T x + b; dx = A dy; dw is conv2d's with the roles of x and dy exchanged."""

    takes_half = "mixed"

    def __init__(self, options: Options, output_padding: tuple[int, int]):
        self.options, self.output_padding = options, output_padding

    def forward(self, x, w, b=None):
        check_dtypes("conv_transpose2d", x, w, b)
        g = self.g = adjoint_geometry(self.options, self.output_padding, x.shape, w.shape)
        check_bias("conv_transpose2d", b, g.C)
        self.exact, self.narrow = is_exact(), narrow_for(self.device, g, w.dtype)
        x, w = (narrowed(self.device, a, self.narrow) for a in (x, w))
        self.x = x if self.needs[1] else None
        self.w = w if self.needs[0] else None
        return backward_x(self.device, g, x, w, b, self.exact)

    def backward(self, dy):
        db = channel_sum(self.device, dy) if any(self.needs[2:]) else None
        dy = narrowed(self.device, dy, self.narrow)
        dx = forward(self.device, self.g, dy, self.w, None, self.exact) if self.needs[0] else None
        dw = backward_w(self.device, self.g, self.x, dy, self.exact) if self.needs[1] else None
        return (dx, dw, db)[: len(self.needs)]


def adjoint_geometry(options: Options, output_padding, x_shape, w_shape) -> Geometry:
    """The geometry of the conv2d whose result has the shape of x. Raises ValueError where x and w do not fit."""
    shapes = f"(x {x_shape}, w {w_shape})"
    if len(x_shape) != 4 or len(w_shape) != 4:
        raise ValueError(f"conv_transpose2d: expected x (N,P,Q,K) and w (R,S,C,K), got x {x_shape}, w {w_shape}")
    (N, P, Q, K), (R, S, Cg, w_K) = x_shape, w_shape
    if K != w_K:
        raise ValueError(f"conv_transpose2d: x has {K} channels but w (R,S,C,K) takes {w_K} {shapes}")
    if K % options.groups:
        raise ValueError(f"conv_transpose2d: {K} channels do not divide into {options.groups} groups {shapes}")
    if not min(R, S, Cg, K, P, Q):
        raise ValueError(f"conv_transpose2d: an image without pixels, or a filter without taps or channels {shapes}")
    size = []
    for n, taps, stride, padding, dilation, extra in zip(
        (P, Q), (R, S), options.stride, options.padding, options.dilation, output_padding
    ):
        if extra >= max(stride, dilation):
            raise ValueError(
                f"conv_transpose2d: output_padding {extra} must be less than stride {stride} or dilation {dilation}"
            )
        size.append((n - 1) * stride - 2 * padding + dilation * (taps - 1) + 1 + extra)
    if min(size) < 1:
        raise ValueError(f"conv_transpose2d: the result would have size {tuple(size)}; cure: less padding {shapes}")
    o = options
    return Geometry(N, *size, Cg * o.groups, R, S, K, P, Q, o.stride, o.padding, o.dilation, o.groups)
