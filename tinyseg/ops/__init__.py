"""Every operator by name; importing this gives Tensor its operators and methods.

Operators take tensors, arrays and numbers, and return tensors. Images are (N,H,W,C), filters (R,S,C,K).
"""

from ..tensor import Tensor
from .activation import leaky_relu, log_sigmoid, relu, sigmoid, softplus, tanh
from .arithmetic import abs, add, astype, div, exp, log, mul, neg, pow, sqrt, sub
from .avg_pool2d import adaptive_avg_pool2d, avg_pool2d
from .batch_norm import batch_norm, batch_norm_relu
from .boxes import batched_nms, box_iou, match_boxes, nms
from .choice import (
    clip,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    maximum,
    minimum,
    not_equal,
    where,
)
from .conv import conv2d, conv2d_batch_norm, conv2d_relu, conv_transpose2d
from .cross_entropy import cross_entropy
from .dropout import dropout, dropout2d
from .interpolate import interpolate
from .local_response_norm import local_response_norm
from .masks import crop_masks, paste_masks
from .matmul import matmul
from .max_pool2d import max_pool2d, max_unpool2d
from .reduce import logsumexp, max, mean, min, sum, var
from .residual import add_relu, batch_norm_add_relu
from .roi_align import multiscale_roi_align, roi_align
from .shape import (
    broadcast_to,
    center_crop,
    concat,
    crop,
    flatten,
    getitem,
    pad,
    reshape,
    squeeze,
    stack,
    transpose,
    unsqueeze,
)
from .softmax import log_softmax, softmax

__all__ = [
    # arithmetic
    "abs", "add", "clip", "div", "exp", "log", "matmul", "maximum", "minimum", "mul", "neg", "pow", "sqrt", "sub",
    "where",
    # comparisons
    "equal", "greater", "greater_equal", "less", "less_equal", "not_equal",
    # reductions
    "logsumexp", "max", "mean", "min", "sum", "var",
    # shapes
    "astype", "broadcast_to", "center_crop", "concat", "crop", "flatten", "getitem", "pad", "reshape", "squeeze",
    "stack", "transpose", "unsqueeze",
    # activations
    "add_relu", "leaky_relu", "log_sigmoid", "relu", "sigmoid", "softplus", "tanh",
    # convolution, pooling, sampling
    "adaptive_avg_pool2d", "avg_pool2d", "conv2d", "conv2d_batch_norm", "conv2d_relu", "conv_transpose2d",
    "interpolate", "max_pool2d", "max_unpool2d",
    # boxes and masks of objects
    "batched_nms", "box_iou", "crop_masks", "match_boxes", "multiscale_roi_align", "nms", "paste_masks",
    "roi_align",
    # normalisation, losses
    "batch_norm", "batch_norm_add_relu", "batch_norm_relu", "cross_entropy", "dropout", "dropout2d",
    "local_response_norm", "log_softmax", "softmax",
]  # fmt: skip


def _swapped(function):
    """The operator of a tensor that stands on the right: 2 - x is x.__rsub__(2)."""
    return lambda x, other: function(other, x)


Tensor.__add__, Tensor.__radd__ = add, _swapped(add)
Tensor.__sub__, Tensor.__rsub__ = sub, _swapped(sub)
Tensor.__mul__, Tensor.__rmul__ = mul, _swapped(mul)
Tensor.__truediv__, Tensor.__rtruediv__ = div, _swapped(div)
Tensor.__pow__, Tensor.__rpow__ = pow, _swapped(pow)
Tensor.__matmul__, Tensor.__rmatmul__ = matmul, _swapped(matmul)
Tensor.__neg__, Tensor.__abs__ = neg, abs
Tensor.__lt__, Tensor.__le__, Tensor.__gt__, Tensor.__ge__ = less, less_equal, greater, greater_equal
Tensor.__eq__, Tensor.__ne__ = equal, not_equal
Tensor.__getitem__ = getitem

Tensor.abs, Tensor.clip, Tensor.exp, Tensor.log, Tensor.sqrt, Tensor.tanh = abs, clip, exp, log, sqrt, tanh
Tensor.sum, Tensor.mean, Tensor.var, Tensor.max, Tensor.min, Tensor.logsumexp = sum, mean, var, max, min, logsumexp
Tensor.astype, Tensor.broadcast_to, Tensor.flatten, Tensor.matmul = astype, broadcast_to, flatten, matmul
Tensor.squeeze, Tensor.unsqueeze, Tensor.pad = squeeze, unsqueeze, pad
Tensor.relu, Tensor.sigmoid = relu, sigmoid
Tensor.reshape = lambda x, *shape: reshape(x, shape[0] if len(shape) == 1 else shape)
Tensor.transpose = lambda x, *axes: transpose(x, axes[0] if len(axes) == 1 else axes or None)
