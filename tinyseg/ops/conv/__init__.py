"""Convolution: one equation (`conv2d.py`), its adjoint (`conv_transpose2d.py`), and the CPU bodies that make it fast.

geometry.py      sizes and options, checked once
plain.py         the definition: the loops of the equation, for every dtype; what the others are tested against
simd.py          the micro-kernel: a small tile of the result held in vector registers
direct.py        implicit GEMM on that tile: any stride, padding, dilation, groups
transforms.py    Winograd's small linear maps, derived from their points
winograd.py      3x3 filters, stride 1, with a quarter of the products, on the same micro-kernel
depthwise.py     one filter a channel: no sum over channels, so no GEMM
"""

from .conv2d import conv2d
from .conv_transpose2d import conv_transpose2d

__all__ = ["conv2d", "conv_transpose2d"]
