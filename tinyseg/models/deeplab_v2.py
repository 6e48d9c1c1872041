"""DeepLab v2: one map seen at several rates at once, and the image at several sizes. Chen et al., PAMI 2017.

    ASPP:  scores = sum_r branch_r(y),  branch_r begins with a 3x3 convolution of rate r = 6, 12, 18, 24  (ASPP-L)
    MSC:   scores = max over s of scores(image resized by s), s = 1, 0.75, 0.5, enlarged to that of s = 1

"Atrous spatial pyramid pooling" (arXiv 1606.00915). The dense CRF of the paper comes behind:
`ts.structured.dense_crf(image, ts.predict(model, image, probabilities=True))`.
"""

from dataclasses import replace

import numpy as np

from .. import ops
from ..nn import Conv2d, Module, Sequential, init
from ..tensor import Tensor
from .deeplab_v1 import deeplab_features
from .parts import resize
from .recipe import Recipe
from .resnet import ResNet
from .vgg import FullyConvolutional, he_init

RECIPE = Recipe(
    paper="DeepLab v2: Chen, Papandreou, Kokkinos, Murphy & Yuille, PAMI 2017 (arXiv 1606.00915)",
    batch=10,
    lr=1e-3,
    steps=20_000,
    schedule="poly",
    lr_factors=(("classifier", 10),),
    bias_lr=2,
    crop=(321, 321),
    augment=("flip", "scale"),
    pretrained="VGG16 trained on ImageNet",
    notes=("scales 0.5 to 1.5", "then a dense CRF: 10 iterations, weights 4 and 3, sxy 67 and 1, srgb 3"),
)


class MultiScale(Module):
    """Base: scores at 1/8 of the image at each of `scales`, the greatest of them for each class and pixel.

    With aux=True it returns in training (logits, logits of scale 1, of the next, ...), each with a loss of its own, as
    the authors' release trains; without it the fused logits alone, as the paper writes.
    """

    def check_scales(self, scales: tuple[float, ...]) -> tuple[float, ...]:
        if not scales or scales[0] != 1 or any(not 0 < s <= 1 for s in scales):
            raise ValueError(f"{self.name}: scales are {scales}, expected 1.0 first and others between 0 and 1")
        return tuple(scales)

    def scores(self, x: Tensor) -> Tensor:
        """Classes at 1/8 of the image x."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        each = [self.scores(x)]
        for scale in self.scales[1:]:
            size = tuple(max(1, round(n * scale)) for n in x.shape[1:3])
            smaller = ops.interpolate(x, size, mode="bilinear", align_corners=True)
            each.append(resize(self.scores(smaller), each[0], align_corners=True))
        fused = each[0]
        for other in each[1:]:
            fused = ops.maximum(fused, other)
        if self.training and self.aux and len(each) > 1:
            return tuple(resize(y, x, align_corners=True) for y in (fused, *each))
        return resize(fused, x, align_corners=True)


class DeepLabV2VGG16(MultiScale):
    """DeepLab v2 on VGG16: ASPP whose branches are fc6 (3x3, rate r), fc7 and scores, summed.

    37,877,652 parameters with 21 classes. rates: (6, 12, 18, 24) is ASPP-L, (2, 4, 8, 12) ASPP-S. scales: as the base
    says; the paper's VGG16 takes one.

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    name = "deeplabv2_vgg16"
    recipe = RECIPE

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        aux: bool = False,
        rates: tuple[int, ...] = (6, 12, 18, 24),
        scales: tuple[float, ...] = (1.0,),
        seed: int = 0,
    ):
        self.config = {
            "name": self.name,
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "aux": aux,
            "rates": list(rates),
            "scales": list(scales),
        }
        self.scales, self.aux = self.check_scales(scales), aux
        self.features = deeplab_features(in_channels, width)
        self.fc = [FullyConvolutional(8 * width, 16 * width, 3, rate, rate) for rate in rates]
        self.classifier = [Conv2d(16 * width, num_classes, 1) for _ in rates]
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        """VGG's layers as He et al. 2015, scores from N(0, 0.01^2)."""
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        he_init(self, rng)
        small_scores(self.classifier, rng)

    def scores(self, x: Tensor) -> Tensor:
        y = self.features(x)
        return total(Sequential(*fc.layers, score)(y) for fc, score in zip(self.fc, self.classifier))


class DeepLabV2ResNet101(MultiScale):
    """DeepLab v2 on ResNet-101 at output stride 8: ASPP of one 3x3 convolution a rate, summed; three image sizes.

    44,048,532 parameters with 21 classes. rates: see `DeepLabV2VGG16`. The dilated stages have one rate throughout.
    Strides sit in the 3x3 convolutions (torchvision's ResNet), where the paper's has them in the 1x1 before.

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    name = "deeplabv2_resnet101"
    recipe = replace(
        RECIPE,
        lr=2.5e-4,
        frozen_batch_norm=True,
        aux_weights=(1.0, 1.0, 1.0),
        pretrained="ResNet-101 trained on ImageNet, then on COCO",
    )

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        aux: bool = False,
        output_stride: int = 8,
        rates: tuple[int, ...] = (6, 12, 18, 24),
        scales: tuple[float, ...] = (1.0, 0.75, 0.5),
        seed: int = 0,
    ):
        self.config = {
            "name": self.name,
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "aux": aux,
            "output_stride": output_stride,
            "rates": list(rates),
            "scales": list(scales),
        }
        self.scales, self.aux = self.check_scales(scales), aux
        self.backbone = ResNet(101, in_channels, width, output_stride, whole_stage=True)
        channels = self.backbone.channels[3]
        self.classifier = [Conv2d(channels, num_classes, 3, padding=rate, dilation=rate) for rate in rates]
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        """Scores from N(0, 0.01^2)."""
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        small_scores(self.classifier, rng)

    def scores(self, x: Tensor) -> Tensor:
        y = self.backbone(x)[3]
        return total(score(y) for score in self.classifier)


def small_scores(layers: list[Conv2d], rng: np.random.Generator) -> None:
    for layer in layers:
        layer.weight.assign(init.normal(layer.weight.shape, 0.01, rng))
        layer.bias.assign(init.zeros(layer.bias.shape))


def total(maps) -> Tensor:
    """The sum of maps, one after the other."""
    maps = iter(maps)
    y = next(maps)
    for other in maps:
        y = y + other
    return y
