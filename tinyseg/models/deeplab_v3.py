"""DeepLab v3: ASPP with batch norm and the mean of the whole image. Chen, Papandreou, Schroff & Adam 2017.

    y -> [ 1x1, 3x3 rate r1, 3x3 rate r2, 3x3 rate r3, mean of the image ], 256 channels each -> 1x1, 256 -> scores

Rates are 6, 12, 18 at output stride 16 and twice that at 8 (arXiv 1706.05587). Two forms:

    torchvision's     output stride 8, no multi-grid, one more 3x3 convolution before the scores, dropout 0.5
    the paper's       output stride 16, multi-grid (1, 2, 4) in the last stage, scores right behind the 1x1

The first has the names and the weights of torchvision's deeplabv3_resnet50 and _resnet101.
"""

from dataclasses import replace

from ..nn import Conv2d, Dropout, Module, Sequential
from ..tensor import Tensor
from .parts import Auxiliary, PooledContext, conv_bn_relu, fcn_head
from .recipe import Recipe
from .resnet import ResNet

RECIPE = Recipe(
    paper="DeepLab v3: Chen, Papandreou, Schroff & Adam 2017 (arXiv 1706.05587)",
    batch=16,
    lr=7e-3,
    steps=30_000,
    weight_decay=1e-4,
    schedule="poly",
    crop=(513, 513),
    augment=("flip", "scale"),
    pretrained="ResNet trained on ImageNet",
    notes=(
        "scales 0.5 to 2; running statistics move by 3e-4 a step (decay 0.9997)",
        "then 30,000 steps more with batch norm frozen, output stride 8, learning rate 0.001, on trainval",
    ),
)


class ASPP(Module):
    """Atrous spatial pyramid pooling: (N,H,W,in_channels) -> (N,H,W,channels). `convs` has one branch each.

    conv3x3: makes a 3x3 branch of (in_channels, out_channels, 3, rate); the mean of a single image is normalised by
    running statistics (see `PooledContext`).
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        rates: tuple[int, ...],
        dropout: float,
        align_corners: bool = False,
        conv3x3=conv_bn_relu,
    ):
        self.convs = [
            conv_bn_relu(in_channels, channels),
            *(conv3x3(in_channels, channels, 3, rate) for rate in rates),
            PooledContext(in_channels, channels, 1, align_corners),
        ]
        self.project = Sequential(*conv_bn_relu(len(self.convs) * channels, channels).layers, Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.project([branch(x) for branch in self.convs])


def aspp_rates(output_stride: int) -> tuple[int, int, int]:
    """6, 12, 18 at output stride 16, in proportion at others."""
    return tuple(rate * 16 // output_stride for rate in (6, 12, 18))


class DeepLabV3ResNet50(Auxiliary):
    """DeepLab v3 on ResNet-50 in torchvision's form (see the head of the file): its deeplabv3_resnet50.

    39,638,869 parameters with 21 classes, 42,004,074 with aux. aux=True adds an auxiliary head on stage 3 (not in the
    paper): in training it then returns (logits, auxiliary logits) for L(logits) + 0.5 L(auxiliary).

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    depth = 50
    name = "deeplabv3_resnet50"
    recipe = replace(RECIPE, aux_weights=(0.5,))

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        aux: bool = False,
        output_stride: int = 8,
        seed: int = 0,
    ):
        self.config = {
            "name": self.name,
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "aux": aux,
            "output_stride": output_stride,
        }
        self.backbone = self.make_backbone(in_channels, width, output_stride)
        _, _, inner, outer = self.backbone.channels
        self.classifier = self.make_head(outer, 4 * width, aspp_rates(output_stride), num_classes)
        self.aux_classifier = fcn_head(inner, inner // 4, num_classes) if aux else None
        self.reset_parameters(seed)

    def make_backbone(self, in_channels: int, width: int, output_stride: int) -> ResNet:
        return ResNet(self.depth, in_channels, width, output_stride)

    def make_head(self, in_channels: int, channels: int, rates: tuple[int, ...], num_classes: int) -> Sequential:
        return Sequential(
            ASPP(in_channels, channels, rates, dropout=0.5),
            *conv_bn_relu(channels, channels, 3).layers,
            Conv2d(channels, num_classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        _, _, inner, outer = self.backbone(x)
        return self.outputs(x, outer, inner)


class DeepLabV3ResNet101(DeepLabV3ResNet50):
    """DeepLab v3 on ResNet-101 in torchvision's form: see `DeepLabV3ResNet50`.

    58,630,997 parameters with 21 classes, 60,996,202 with aux.
    """

    depth = 101
    name = "deeplabv3_resnet101"


class DeepLabV3PaperResNet50(DeepLabV3ResNet50):
    """DeepLab v3 on ResNet-50 to the letter of the paper: output stride 16 (or 8, to predict), multi-grid (1, 2, 4).

    39,048,533 parameters with 21 classes; no auxiliary head unless asked for. Resizing aligns corners.

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    name = "deeplabv3_resnet50_paper"
    align_corners = True
    recipe = RECIPE

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        aux: bool = False,
        output_stride: int = 16,
        seed: int = 0,
    ):
        super().__init__(num_classes, in_channels, width, aux, output_stride, seed)

    def make_backbone(self, in_channels, width, output_stride):
        return ResNet(self.depth, in_channels, width, output_stride, whole_stage=True, multi_grid=(1, 2, 4))

    def make_head(self, in_channels, channels, rates, num_classes):
        aspp = ASPP(in_channels, channels, rates, dropout=0.0, align_corners=True)
        return Sequential(aspp, Conv2d(channels, num_classes, 1))


class DeepLabV3PaperResNet101(DeepLabV3PaperResNet50):
    """DeepLab v3 on ResNet-101 to the letter of the paper: see `DeepLabV3PaperResNet50`. 58,040,661 parameters."""

    depth = 101
    name = "deeplabv3_resnet101_paper"
