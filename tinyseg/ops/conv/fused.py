"""A convolution with what stands behind it, in fewer visits of memory. No kernels of its own.

    conv2d_relu          max(conv2d(x), 0): bias and ReLU are applied while the result is in registers
    conv2d_batch_norm    in training the convolution takes its result's statistics while that lies in the cache, and one
                         visit normalises it, adds a residual block's shortcut and clips; where no gradient is asked for
                         and the statistics are fixed, the norm is a factor and a bias of each channel, applied with the
                         rest while the result is in registers

`nn.Sequential` calls these for layers that stand in such an order.
"""

import numpy as np

from ...tensor import Tensor, grad_enabled
from ..batch_norm import BatchNorm
from ..residual import add_relu, normalised
from .conv2d import Conv2d
from .geometry import Options


def conv2d_relu(x, w, b=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
    """relu(conv2d(...)). Arguments, shapes and errors: see `conv2d`."""
    xs = tuple(x) if isinstance(x, list | tuple) else (x,)
    function = Conv2d(Options.of("conv2d", stride, padding, dilation, groups), len(xs), relu=True)
    return function(*xs, w) if b is None else function(*xs, w, b)


def conv2d_batch_norm(
    x,
    w,
    b,
    running_mean,
    running_var,
    weight,
    bias,
    training: bool,
    momentum=0.1,
    eps=1e-5,
    relu=False,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    add=None,
) -> Tensor:
    """batch_norm(conv2d(x, w, b, ...), running_mean, ...) + add, and max(..., 0) with relu, without which no `add`.

    Shapes and errors: see `conv2d` and `batch_norm`.
    Example:
        y = ts.ops.conv2d_batch_norm(x, w, None, mean, var, weight, bias, training=True, relu=True, padding=1)
    """
    if add is not None and not relu:
        raise ValueError("conv2d_batch_norm: add is given without relu=True; cure: + it behind the call")
    xs = tuple(x) if isinstance(x, list | tuple) else (x,)
    options = Options.of("conv2d", stride, padding, dilation, groups)
    wanted = any(isinstance(t, Tensor) and t.requires_grad for t in (*xs, w, b, weight, bias))
    every = w.shape[-1:]
    fits = all(t is not None and t.shape == every for t in (running_mean, running_var))
    fits = fits and all(t is None or t.shape == every for t in (weight, bias))  # where not, batch norm says so
    if not training and fits and not (wanted and grad_enabled()):
        scale, shift = _as_factor_and_bias(b, running_mean, running_var, weight, bias, eps)
        devices = {t.device for t in (*xs, w, add) if isinstance(t, Tensor)}
        shortcut = add.data if isinstance(add, Tensor) and len(devices) == 1 else None
        clipped = relu and (add is None or shortcut is not None)
        convolution = Conv2d(options, len(xs), clipped, scale=scale, shortcut=shortcut)
        y = convolution(*xs, w, shift)
        return y if add is None or convolution.added else add_relu(y, add)
    convolution = Conv2d(options, len(xs), statistics=training)
    y = convolution(*xs, w) if b is None else convolution(*xs, w, b)
    if add is not None:
        norm = running_mean, running_var, weight, bias, training, momentum, eps
        return normalised(y, add, convolution.runs, *norm)
    op = "batch_norm_relu" if relu else "batch_norm"
    norm = BatchNorm(op, running_mean, running_var, training, momentum, eps, relu, convolution.runs)
    return norm(y, 1.0 if weight is None else weight, 0.0 if bias is None else bias)


def _as_factor_and_bias(b, mean, var, weight, bias, eps):
    """scale and shift with scale * y + shift = batch_norm(y + b)."""
    b, mean, var, weight, bias = (t.data if isinstance(t, Tensor) else t for t in (b, mean, var, weight, bias))
    scale = (1 if weight is None else weight) / (var.astype(np.float64) + eps) ** 0.5
    shift = (0 if bias is None else bias) + ((0 if b is None else b) - mean) * scale
    return scale.astype(mean.dtype), shift.astype(mean.dtype)
