"""The feature pyramid: every level with the meaning of the deepest. Lin et al., CVPR 2017.

    M5 = lateral(C5),   M_l = lateral(C_l) + nearest(M_{l+1}),   P_l = 3x3(M_l),   P6 = every second pixel of P5
"""

from ... import ops
from ...nn import BatchNorm2d, Buffer, Conv2d, Module, Sequential, freeze_batch_norm, init
from ...tensor import Tensor
from ..resnet import ResNet


class FeaturePyramid(Module):
    """Maps C2..C5 of a backbone -> P2..P6, all with `channels` channels."""

    def __init__(self, in_channels: list[int], channels: int = 256):
        self.inner_blocks = [Sequential(Conv2d(c, channels, 1)) for c in in_channels]
        self.layer_blocks = [Sequential(Conv2d(channels, channels, 3, padding=1)) for _ in in_channels]

    def reset_parameters(self, seed=0) -> None:
        for block in (*self.inner_blocks, *self.layer_blocks):
            block[0].weight.assign(init.kaiming_uniform(block[0].weight.shape, seed, gain=1.0))
            block[0].bias.assign(init.zeros(block[0].bias.shape))

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        merged, results = None, []
        for x, lateral, smooth in list(zip(maps, self.inner_blocks, self.layer_blocks))[::-1]:
            below = lateral(x)
            if merged is not None:
                below = below + ops.interpolate(merged, size=below.shape[1:3], mode="nearest")
            merged = below
            results.insert(0, smooth(merged))
        return *results, ops.max_pool2d(results[-1], 1, stride=2)


class ResNetFPN(Module):
    """A ResNet and its feature pyramid: x -> (P2, ..., P6) at 1/4 ... 1/64 of the image.

    frozen_batch_norm: batch norms keep their statistics and weights, which are no parameters then: for weights trained
    elsewhere, as images are few in a batch. trainable_layers: of the five (stem, layer1 ... layer4), counted from the
    top, how many are trained.
    """

    def __init__(self, depth, in_channels, width, channels, frozen_batch_norm: bool, trainable_layers: int = 5):
        self.body = ResNet(depth, in_channels, width)
        self.fpn = FeaturePyramid(self.body.channels, channels)
        if frozen_batch_norm:
            freeze_batch_norm(self.body)
            for module in self.body.modules():
                if isinstance(module, BatchNorm2d):
                    module.weight, module.bias = Buffer(module.weight.numpy()), Buffer(module.bias.numpy())
        if not 0 <= trainable_layers <= 5:
            raise ValueError(f"mask_rcnn: trainable_layers is {trainable_layers}, expected 0 to 5")
        body = self.body
        layers = [[body.conv1, body.bn1], body.layer1, body.layer2, body.layer3, body.layer4]
        for module in [m for layer in layers[: 5 - trainable_layers] for m in layer]:
            for parameter in module.parameters():
                parameter.requires_grad = False

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.fpn(*self.body(x))
