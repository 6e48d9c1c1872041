"""ResNet: blocks that learn what to add to their input. He, Zhang, Ren & Sun, CVPR 2016 (arXiv 1512.03385).

    y = relu(x + f(x))        f: 3x3, 3x3 (basic, 18 and 34), or 1x1, 3x3, 1x1 with four times the width (bottleneck)

Each convolution is followed by batch norm. Layout and names of layers are torchvision's (the stride sits in the 3x3
convolution, "v1.5"), so that its weights fit one to one. As a backbone of segmentation a ResNet gives the maps of its
four stages, at 1/4, 1/8, 1/16 and 1/32 of the image; with an output stride of 16 or 8 the last stages do not stride
but dilate, which keeps what each weight sees.
"""

import numpy as np

from .. import ops
from ..nn import BatchNorm2d, Conv2d, Linear, Module, Sequential, init
from ..tensor import Tensor


class BasicBlock(Module):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, in_channels: int, planes: int, stride: int = 1, dilation: int = 1):
        self.conv1 = Conv2d(in_channels, planes, 3, stride, dilation, dilation, bias=False)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, 1, dilation, dilation, bias=False)
        self.bn2 = BatchNorm2d(planes)
        self.downsample = projection(in_channels, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1.forward_norm(x, self.bn1, relu=True)
        return self.conv2.forward_norm(y, self.bn2, relu=True, add=self.downsample(x) if self.downsample else x)


class Bottleneck(Module):
    """1x1 down to `planes` channels, 3x3, 1x1 up to four times as many."""

    expansion = 4

    def __init__(self, in_channels: int, planes: int, stride: int = 1, dilation: int = 1):
        out_channels = self.expansion * planes
        self.conv1 = Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, stride, dilation, dilation, bias=False)
        self.bn2 = BatchNorm2d(planes)
        self.conv3 = Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = BatchNorm2d(out_channels)
        self.downsample = projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1.forward_norm(x, self.bn1, relu=True)
        y = self.conv2.forward_norm(y, self.bn2, relu=True)
        return self.conv3.forward_norm(y, self.bn3, relu=True, add=self.downsample(x) if self.downsample else x)


def projection(in_channels: int, out_channels: int, stride: int) -> Sequential | None:
    """The shortcut where a block changes the shape; None where it does not."""
    if stride == 1 and in_channels == out_channels:
        return None
    return Sequential(Conv2d(in_channels, out_channels, 1, stride, bias=False), BatchNorm2d(out_channels))


BLOCKS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(Module):
    """The trunk of ResNet-18, 34, 50, 101 or 152 without its classifier: x -> the maps of its four stages.

    output_stride: 32, 16 or 8, that of the last stage. A stage that may not stride dilates instead:
        whole_stage=False: its first block keeps the dilation of the stage before, the others double it (torchvision)
        whole_stage=True: all its 3x3 convolutions have the doubled dilation (DeepLab, PSPNet)
    multi_grid: factors on the dilations of the blocks of the last stage, (1, 2, 4) in DeepLab v3; repeated if fewer.
    deep_stem: three 3x3 convolutions in place of the 7x7 (PSPNet). width: channels of the stem, 64 in the paper.
    `channels` and `strides` hold what the four maps have. Parameters: 23,508,032 / 42,500,160 / 58,143,808 (50, 101,
    152), with the deep stem 23,631,808 / 42,623,936. `nn.freeze_batch_norm(resnet)` fixes its batch norms.

    Shapes: (N,H,W,in_channels) -> ((N,H/4,W/4,channels[0]), ..., (N,H/stride,W/stride,channels[3])), rounded up.
    """

    def __init__(
        self,
        depth: int = 50,
        in_channels: int = 3,
        width: int = 64,
        output_stride: int = 32,
        whole_stage: bool = False,
        multi_grid: tuple[int, ...] = (1,),
        deep_stem: bool = False,
        seed: int | np.random.Generator = 0,
    ):
        if depth not in BLOCKS:
            raise ValueError(f"ResNet: depth is {depth}, expected one of {', '.join(map(str, BLOCKS))}")
        if output_stride not in (8, 16, 32):
            raise ValueError(f"ResNet: output_stride is {output_stride}, expected 8, 16 or 32")
        if deep_stem:
            self.conv1 = Conv2d(in_channels, width, 3, 2, 1, bias=False)
            self.bn1 = BatchNorm2d(width)
            self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
            self.bn2 = BatchNorm2d(width)
            self.conv3 = Conv2d(width, 2 * width, 3, padding=1, bias=False)
            self.bn3 = BatchNorm2d(2 * width)
        else:
            self.conv1 = Conv2d(in_channels, width, 7, 2, 3, bias=False)
            self.bn1 = BatchNorm2d(width)
        self.deep_stem = deep_stem
        block, counts = BLOCKS[depth]
        channels, total, rate = width * (1 + deep_stem), 4, 1
        stages, self.channels, self.strides = [], [], []
        for stage, count in enumerate(counts):
            stride, first = (1 if stage == 0 else 2), rate
            if total * stride > output_stride:
                stride, rate = 1, 2 * rate
            total *= stride
            rates = [rate if i or whole_stage else first for i in range(count)]
            if stage == 3:
                rates = [r * multi_grid[i % len(multi_grid)] for i, r in enumerate(rates)]
            planes, blocks = width << stage, []
            for i, r in enumerate(rates):
                blocks.append(block(channels, planes, 1 if i else stride, r))
                channels = block.expansion * planes
            stages.append(blocks)
            self.channels.append(channels)
            self.strides.append(total)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        """Filters from N(0, 2 / fan_out), batch norms at 1 and 0 (He et al. 2015)."""
        rng = np.random.default_rng(seed)
        for module in self.modules()[1:]:
            if isinstance(module, Conv2d):
                module.weight.assign(init.kaiming_normal(module.weight.shape, rng, "fan_out"))
            elif isinstance(module, BatchNorm2d | Linear):
                module.reset_parameters(rng)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.conv1.forward_norm(x, self.bn1, relu=True)
        if self.deep_stem:
            x = self.conv2.forward_norm(x, self.bn2, relu=True)
            x = self.conv3.forward_norm(x, self.bn3, relu=True)
        x = ops.max_pool2d(x, 3, stride=2, padding=1)
        maps = []
        for blocks in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in blocks:
                x = block(x)
            maps.append(x)
        return tuple(maps)


class ResNetClassifier(ResNet):
    """The whole ResNet: its trunk, the mean over all pixels, one linear layer. (N,H,W,C) -> (N,num_classes).

    25,557,032 / 44,549,160 / 60,192,808 parameters for ResNet-50 / 101 / 152 with 1000 classes.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        depth: int = 50,
        in_channels: int = 3,
        width: int = 64,
        seed: int | np.random.Generator = 0,
    ):
        super().__init__(depth, in_channels, width, seed=seed)
        self.fc = Linear(self.channels[-1], num_classes, seed=seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(ops.mean(super().forward(x)[-1], axis=(1, 2)))
