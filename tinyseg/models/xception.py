"""Aligned Xception-65: a deep network of separable convolutions. Chen et al., ECCV 2018, figure 4.

    separable(x) = pointwise(relu(bn(depthwise(x)))), bn behind: a 3x3 filter for each channel, then a 1x1 convolution

    entry    3x3 /2, 3x3, then three blocks of 128, 256 and 728 channels, each /2
    middle   sixteen blocks of 728
    exit     a block of 728, 1024, 1024 channels, /2; separable 1536, 1536, 2048

A block is three times (relu, separable), its input added at the end, through a 1x1 convolution where the shape
changes. It is Chollet's Xception (CVPR 2017) with more layers in the middle and with strided separable convolutions in
the place of max-pooling, so that it can dilate; "aligned" means that each stride pads alike on both sides.
"""

import numpy as np

from .. import ops
from ..nn import BatchNorm2d, Conv2d, Module, ReLU, Sequential, init
from ..tensor import Tensor
from .parts import conv_bn_relu


class SeparableConv(Module):
    """Depth-wise 3x3 convolution and batch norm, then point-wise 1x1 and batch norm, each with a ReLU if asked for."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dilation: int = 1,
        inner_relu: bool = True,
        outer_relu: bool = True,
    ):
        self.depthwise = Conv2d(in_channels, in_channels, 3, stride, dilation, dilation, in_channels, bias=False)
        self.bn1 = BatchNorm2d(in_channels)
        self.pointwise = Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = BatchNorm2d(out_channels)
        self.inner_relu, self.outer_relu = inner_relu, outer_relu

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        """As the authors' TensorFlow code: truncated normals of 0.33 (depth-wise) and 0.06 (point-wise)."""
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        self.depthwise.weight.assign(init.truncated_normal(self.depthwise.weight.shape, 0.33, rng))
        self.pointwise.weight.assign(init.truncated_normal(self.pointwise.weight.shape, 0.06, rng))

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise.forward_norm(x, self.bn1, self.inner_relu)
        return self.pointwise.forward_norm(x, self.bn2, self.outer_relu)


def separable(in_channels: int, out_channels: int, kernel_size: int = 3, dilation: int = 1) -> SeparableConv:
    """The separable convolution with both its ReLUs, in the place of `conv_bn_relu`."""
    if kernel_size != 3:
        raise ValueError(f"separable: kernel_size is {kernel_size}, expected 3")
    return SeparableConv(in_channels, out_channels, dilation=dilation)


class XceptionBlock(Module):
    """Three separable convolutions, each behind a ReLU, added to the input. The stride is the last one's."""

    def __init__(self, in_channels: int, channels: tuple[int, int, int], stride: int, dilation: int, inner_relu: bool):
        ins, strides = (in_channels, *channels), (1, 1, stride)
        self.convs = [
            SeparableConv(a, b, s, dilation, inner_relu, outer_relu=False) for a, b, s in zip(ins, channels, strides)
        ]
        self.shortcut = None
        if stride > 1 or in_channels != channels[2]:
            self.shortcut = Sequential(
                Conv2d(in_channels, channels[2], 1, stride, bias=False), BatchNorm2d(channels[2])
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's result, and what its second convolution gives, before the stride."""
        y = x
        for i, conv in enumerate(self.convs):
            y = conv(ops.relu(y))
            if i == 1:
                before = y
        return y + (self.shortcut(x) if self.shortcut else x), before


class Xception65(Module):
    """The trunk of aligned Xception-65: x -> (low-level map at 1/4, map at 1/output_stride).

    The low-level map, for DeepLab v3+'s decoder, is that of the second block before it strides. inner_relu=True: batch
    norm and ReLU behind each depth-wise convolution, as the paper writes; False: there batch norm alone but in the last
    three, as in the authors' TensorFlow code. A block that may not stride dilates the blocks behind it, not itself.
    37,867,312 parameters. `channels`: of the two maps, 256 and 2048.

    Shapes: (N,H,W,in_channels) -> (N,H/4,W/4,channels[0]), (N,H/stride,W/stride,channels[1]), rounded up.
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 64,
        output_stride: int = 16,
        inner_relu: bool = True,
        seed: int | np.random.Generator = 0,
    ):
        if output_stride not in (8, 16, 32):
            raise ValueError(f"Xception65: output_stride is {output_stride}, expected 8, 16 or 32")
        self.stem = Sequential(
            Conv2d(in_channels, width // 2, 3, 2, 1, bias=False), BatchNorm2d(width // 2), ReLU(),
            *conv_bn_relu(width // 2, width, 3).layers,
        )  # fmt: skip
        middle = round(width * 728 / 64)
        plan = [((2 * width,) * 3, 2), ((4 * width,) * 3, 2), ((middle,) * 3, 2)]
        plan += [((middle,) * 3, 1)] * 16 + [((middle, 16 * width, 16 * width), 2)]
        self.blocks, channels, total, rate = [], width, 2, 1
        for planes, stride in plan:
            strides = total * stride <= output_stride
            self.blocks.append(XceptionBlock(channels, planes, stride if strides else 1, rate, inner_relu))
            total, rate = (total * stride, rate) if strides else (total, rate * stride)
            channels = planes[2]
        ins, outs = (16 * width, 24 * width, 24 * width), (24 * width, 24 * width, 32 * width)
        self.exit = Sequential(*(SeparableConv(a, b, dilation=rate) for a, b in zip(ins, outs)))
        self.channels = [4 * width, 32 * width]
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        """As the authors' TensorFlow code: ordinary convolutions from a truncated normal of 0.09."""
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        for part in (self.stem, *(block.shortcut for block in self.blocks if block.shortcut)):
            for layer in part:
                if isinstance(layer, Conv2d):
                    layer.weight.assign(init.truncated_normal(layer.weight.shape, 0.09, rng))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x, before = block(x)
            if i == 1:
                low = before
        return low, self.exit(x)
