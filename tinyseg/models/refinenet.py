"""RefineNet: coarse maps refined by finer ones, along paths that add. Lin, Milan, Shen & Reid, CVPR 2017.

    ResNet stage 4, 1/32 -> [ block ] -> dropout 0.5 before stages 3 and 4
    ResNet stage 3, 1/16 ------> [ block ]             a block: each input through a 3x3 convolution and two RCUs;
    ResNet stage 2, 1/8  ----------> [ block ]         enlarged and summed; chained residual pooling; three RCUs
    ResNet stage 1, 1/4  --------------> [ block ] -> scores -> image                          (arXiv 1611.06612)

    RCU(x) = x + conv(relu(conv(relu(x))))           pooling(x): x = relu(x);  p = conv(maxpool 5x5(p));  x = x + p

Three RCUs lie between each block and the next. The paper counts them as one at the end of a block and two at the start
of the next; here, as in the authors' code, all three are the first block's, and the reduction to the next one's width
follows them, which computes the same where the widths agree. No batch norm outside of the ResNet, whose own is frozen
in the paper (`nn.freeze_batch_norm(model.backbone)`, once it holds weights that were trained).
"""

import numpy as np

from .. import ops
from ..nn import Conv2d, Dropout, Module, Sequential, init
from ..tensor import Tensor
from .parts import resize
from .recipe import Recipe
from .resnet import ResNet
from .vgg import he_init


class RefineNet50(Module):
    """RefineNet on ResNet-50: four blocks in a cascade, chained pooling of two.

    pools: 2 poolings in a chain, as in the paper (90,802,773 parameters with 21 classes), or 4, as in the released
        models (99,060,309).
    cascade: 4 blocks, one for each stage of the ResNet; 2, for stages 4 and 3, and 2 and 1; or 1 for all (figure 7).

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    depth = 50
    recipe = Recipe(
        paper="RefineNet: Lin, Milan, Shen & Reid, CVPR 2017 (arXiv 1611.06612)",
        batch=1,
        lr=5e-4,
        steps=200 * 10_582,
        weight_decay=5e-4,
        schedule="step",
        milestones=(0.5,),
        lr_factors=(("backbone", 0.1),),
        crop=(400, 400),
        augment=("flip", "scale"),
        frozen_batch_norm=True,
        pretrained="ResNet trained on ImageNet",
        notes=(
            "the rate goes to 5e-5 by hand when the loss settles: where is ours, and so is the number of steps",
            "the released crops are drawn so that rare classes come more often; scales 0.7 to 1.3",
        ),
    )

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        pools: int = 2,
        cascade: int = 4,
        seed: int = 0,
    ):
        if cascade not in (1, 2, 4):
            raise ValueError(f"RefineNet: cascade is {cascade}, expected 1, 2 or 4 blocks")
        self.config = {
            "name": f"refinenet{self.depth}",
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "pools": pools,
            "cascade": cascade,
        }
        self.backbone = ResNet(self.depth, in_channels, width)
        maps = [(channels, 4 * width) for channels in self.backbone.channels]
        maps[3] = maps[3][0], 8 * width
        self.blocks, below = [], None
        for stages in {4: [[3], [2], [1], [0]], 2: [[2, 3], [0, 1]], 1: [[0, 1, 2, 3]]}[cascade]:
            self.blocks.append(RefineBlock([maps[i] for i in stages], below, pools))
            below = self.blocks[-1].width
        self.dropout = [Dropout(0.5), Dropout(0.5), Dropout(0.5)]
        self.classifier = Conv2d(below, num_classes, 3, padding=1)
        self.cascade = cascade
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        """The paper gives no start for its own layers. Here N(0, 2 / fan_in), and a quarter of that where something is
        added to a path: twenty such sums in a row, without batch norm, would swell.
        """
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        for block in self.blocks:
            he_init(block, rng)
            added = [unit.conv2 for unit in block.modules() if isinstance(unit, ResidualUnit)] + block.pooling
            for conv in added:
                conv.weight.assign(init.kaiming_normal(conv.weight.shape, rng, gain=2 / 16))

    def forward(self, x: Tensor) -> Tensor:
        maps = list(self.backbone(x))
        maps[2], maps[3] = self.dropout[0](maps[2]), self.dropout[1](maps[3])
        each, y = 4 // self.cascade, None
        for block in self.blocks:
            maps, stages = maps[:-each], maps[-each:]
            y = block(stages, y)
        return resize(self.classifier(self.dropout[2](y)), x, align_corners=True)


class RefineNet101(RefineNet50):
    """RefineNet on ResNet-101: see `RefineNet50`. 109,794,901 parameters, with chains of 4 poolings 118,052,437."""

    depth = 101


class RefineNet152(RefineNet50):
    """RefineNet on ResNet-152: see `RefineNet50`. 125,438,549 parameters, with chains of 4 poolings 133,696,085."""

    depth = 152


class RefineBlock(Module):
    """Maps of several resolutions to one of the finest. `inputs`: (channels, width of its path) of each, finest first;
    `below`: channels of what the block before it gives, None for the first.
    """

    def __init__(self, inputs: list[tuple[int, int]], below: int | None, pools: int):
        self.adapt = [
            Sequential(conv3x3(channels, width), ResidualUnit(width), ResidualUnit(width)) for channels, width in inputs
        ]
        paths = [width for _, width in inputs] + ([] if below is None else [below])
        self.width = min(width for _, width in inputs)
        self.fuse = [conv3x3(channels, self.width) for channels in paths] if len(paths) > 1 else []
        self.pooling = [conv3x3(self.width, self.width) for _ in range(pools)]
        self.output = [ResidualUnit(self.width) for _ in range(3)]

    def forward(self, maps: list[Tensor], below: Tensor | None) -> Tensor:
        paths = [adapt(x) for adapt, x in zip(self.adapt, maps)] + ([] if below is None else [below])
        if self.fuse:
            paths = [fuse(path) for fuse, path in zip(self.fuse, paths)]
        x = paths[0]
        for path in paths[1:]:
            x = x + resize(path, x, align_corners=True)
        x = p = ops.relu(x)
        for conv in self.pooling:
            p = conv(ops.max_pool2d(p, 5, stride=1, padding=2))
            x = x + p
        for unit in self.output:
            x = unit(x)
        return x


class ResidualUnit(Module):
    """x + conv(relu(conv(relu(x)))), two 3x3 convolutions, the first with a bias."""

    def __init__(self, channels: int):
        self.conv1 = conv3x3(channels, channels, bias=True)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(ops.relu(self.conv1(ops.relu(x))))


def conv3x3(in_channels: int, out_channels: int, bias: bool = False) -> Conv2d:
    return Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
