"""Convolution: one equation (`conv2d.py`), its adjoint (`conv_transpose2d.py`), and the bodies that make it fast.

geometry.py      sizes and options, checked once
plain.py         the definition: the loops of the equation, for every dtype; what the others are tested against
simd.py          the micro-kernel: a small tile of the result held in vector registers
direct.py        implicit GEMM on that tile: any stride, padding, dilation, groups
transforms.py    Winograd's small linear maps, derived from their points
winograd.py      3x3 filters, stride 1, with a quarter of the products, on the same micro-kernel
winograd_gradient.py    and the gradient of such filters
channelwise.py   the micro-kernels of rows times rows, channel by channel
depthwise.py     on them one filter a channel: no sum over channels, so no GEMM
tensorcore.py    on a GPU, all of these but channel by channel: implicit GEMM on tensor cores; its .cu names the
                 kernels, gather.cuh and gradient.cuh say what they multiply, cuda/matrix.cuh how
fused.py         a convolution with the batch norm and the ReLU behind it
"""

from .conv2d import conv2d
from .conv_transpose2d import conv_transpose2d
from .fused import conv2d_batch_norm, conv2d_relu

__all__ = ["conv2d", "conv2d_batch_norm", "conv2d_relu", "conv_transpose2d"]
