"""DeepLab v3+: v3's map, enlarged, beside an early one that still knows where edges are. Chen et al., ECCV 2018.

    x -> backbone, 1/16 -> ASPP, 256 -> enlarge to 1/4 --\\
             |                                            [ concat ] -> 3x3, 256 -> 3x3, 256 -> scores -> image
             +- early map, 1/4 -> 1x1, 48 ---------------/                                    (arXiv 1802.02611)

Resizing aligns corners, as in the authors' TensorFlow code; ASPP and decoder are separable with the Xception backbone.
"""

from dataclasses import replace

import numpy as np

from ..nn import Conv2d, Module, Sequential, init
from ..tensor import Tensor
from .deeplab_v3 import ASPP, RECIPE, aspp_rates
from .parts import conv_bn_relu, resize
from .resnet import ResNet
from .xception import Xception65, separable


class DeepLabV3PlusResNet50(Module):
    """DeepLab v3+ on ResNet-50: output stride 16, multi-grid (1, 2, 4) in the last stage.

    40,352,181 parameters with 21 classes. separable_convs=True: depth-wise separable 3x3 convolutions in ASPP and
    decoder, as the paper has them with Xception.

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    depth = 50
    name = "deeplabv3plus_resnet50"
    recipe = replace(RECIPE, paper="DeepLab v3+: Chen, Zhu, Papandreou, Schroff & Adam, ECCV 2018 (arXiv 1802.02611)")

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        output_stride: int = 16,
        separable_convs: bool = False,
        seed: int = 0,
    ):
        self.config = {
            "name": self.name,
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "output_stride": output_stride,
            "separable_convs": separable_convs,
        }
        conv3x3 = separable if separable_convs else conv_bn_relu
        self.backbone = self.make_backbone(in_channels, width, output_stride)
        early, *_, late = self.backbone.channels
        channels, details = 4 * width, 3 * width // 4
        self.aspp = ASPP(late, channels, aspp_rates(output_stride), 0.1, align_corners=True, conv3x3=conv3x3)
        self.details = conv_bn_relu(early, details)
        self.decoder = Sequential(conv3x3(channels + details, channels, 3), conv3x3(channels, channels, 3))
        self.classifier = Conv2d(channels, num_classes, 1)
        self.reset_parameters(seed)

    def make_backbone(self, in_channels: int, width: int, output_stride: int) -> Module:
        return ResNet(self.depth, in_channels, width, output_stride, whole_stage=True, multi_grid=(1, 2, 4))

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        """Scores from a truncated normal of 0.01, as the authors' TensorFlow code."""
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        self.classifier.weight.assign(init.truncated_normal(self.classifier.weight.shape, 0.01, rng))
        self.classifier.bias.assign(init.zeros(self.classifier.bias.shape))

    def forward(self, x: Tensor) -> Tensor:
        early, *_, late = self.backbone(x)
        details = self.details(early)
        y = resize(self.aspp(late), details, align_corners=True)
        y = self.decoder([y, details])
        return resize(self.classifier(y), x, align_corners=True)


class DeepLabV3PlusResNet101(DeepLabV3PlusResNet50):
    """DeepLab v3+ on ResNet-101: see `DeepLabV3PlusResNet50`. 59,344,309 parameters with 21 classes."""

    depth = 101
    name = "deeplabv3plus_resnet101"


class DeepLabV3PlusXception65(DeepLabV3PlusResNet50):
    """DeepLab v3+ on aligned Xception-65: output stride 16, separable ASPP and decoder.

    41,055,413 parameters with 21 classes. separable_convs: see `DeepLabV3PlusResNet50`.

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    name = "deeplabv3plus_xception65"
    recipe = replace(DeepLabV3PlusResNet50.recipe, weight_decay=4e-5, pretrained="Xception-65 trained on ImageNet")

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        output_stride: int = 16,
        separable_convs: bool = True,
        seed: int = 0,
    ):
        super().__init__(num_classes, in_channels, width, output_stride, separable_convs, seed)

    def make_backbone(self, in_channels, width, output_stride):
        return Xception65(in_channels, width, output_stride)
