"""DeepLab v1: VGG16 whose last poolings do not stride, and a dilated fc6 that sees far. Chen et al., ICLR 2015.

    x -> blocks 1 to 3, 1/8 -> blocks 4 and 5, undiluted: conv5 has rate 2 -> mean 3x3 -> fc6, rate 12 -> fc7 -> scores

"LargeFOV" (arXiv 1412.7062): fc6 is 3x3 with rate 12 and 1024 channels, which sees as far as VGG's 7x7 and has a
seventh of the weights. Poolings are 3x3. Scores are bilinear at 1/8; here they are enlarged to the image in training
too, where the paper shrinks the labels. What it calls the dense CRF comes behind:
`ts.structured.dense_crf(image, ts.predict(model, image, probabilities=True))`.
"""

import numpy as np

from .. import ops
from ..nn import Conv2d, Dropout, Module, ReLU, Sequential, init
from ..tensor import Tensor
from .parts import resize
from .recipe import Recipe
from .vgg import FullyConvolutional, VGGFeatures, he_init, pools

PAPER = "DeepLab v1: Chen, Papandreou, Kokkinos, Murphy & Yuille, ICLR 2015 (arXiv 1412.7062)"


def deeplab_features(in_channels: int, width: int) -> VGGFeatures:
    """VGG16's convolutions at output stride 8: poolings of 3x3, the last two without stride, the last block dilated."""
    return VGGFeatures(in_channels, width, pooling=pools(3, (2, 2, 2, 1, 1), 1), dilations=(1, 1, 1, 1, 2))


class LargeFOV(Module):
    """DeepLab v1 with a large field of view: 20,505,429 parameters with 21 classes.

    kernel_size, dilation, hidden: of fc6. (3, 12, 1024) is LargeFOV; the paper's others are (7, 4, 4096), the plain
    VGG16, and (4, 4, 4096) and (4, 8, 4096), its fc6 subsampled (65.1 million).

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    name = "deeplabv1_largefov"
    side_channels = 0
    recipe = Recipe(
        paper=PAPER,
        batch=20,
        lr=1e-3,
        steps=6000,
        schedule="step",
        milestones=(1 / 3, 2 / 3),
        lr_factors=(("classifier", 10),),
        bias_lr=2,
        crop=(321, 321),
        augment=("flip",),
        pretrained="VGG16 trained on ImageNet; fc6 a subsampling of its 7x7x4096",
        notes=(
            "labels shrunk by 8 there; here logits enlarged by 8",
            "then a dense CRF: 10 iterations, w1 3 to 6, sigma_alpha 30 to 100, sigma_beta 3 to 6; w2 3, sigma_gamma 3",
        ),
    )

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        kernel_size: int = 3,
        dilation: int = 12,
        hidden: int | None = None,
        seed: int = 0,
    ):
        hidden = hidden or 16 * width
        self.config = {
            "name": self.name,
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "kernel_size": kernel_size,
            "dilation": dilation,
            "hidden": hidden,
        }
        self.features = deeplab_features(in_channels, width)
        self.fc = FullyConvolutional(8 * width, hidden, kernel_size, dilation * (kernel_size - 1) // 2, dilation)
        self.sides = self.make_sides(in_channels, width)
        self.classifier = Conv2d(hidden + 2 * width * len(self.sides), num_classes, 1)
        self.reset_parameters(seed)

    def make_sides(self, in_channels: int, width: int) -> list[Module]:
        """What other resolutions add to the classifier's input: nothing here."""
        return []

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        """VGG's layers as He et al. 2015, the classifier from N(0, 0.01^2)."""
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        he_init(self, rng)
        self.classifier.weight.assign(init.normal(self.classifier.weight.shape, 0.01, rng))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features.stages(x)
        y = self.fc(ops.avg_pool2d(maps[4], 3, stride=1, padding=1))
        sides = [resize(side(z), y, align_corners=True) for side, z in zip(self.sides, [x, *maps])]
        return resize(self.classifier([y, *sides]), x, align_corners=True)


class MultiScaleLargeFOV(LargeFOV):
    """DeepLab v1 with multi-scale features (MSc): the image and the first four poolings speak to the classifier too.

    Each goes through a 3x3 and a 1x1 convolution of 128 channels, strided to 1/8, behind fc7 in the channels (640
    more). 21,711,445 parameters with 21 classes.

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    name = "deeplabv1_msc"

    def make_sides(self, in_channels: int, width: int) -> list[Module]:
        sources = zip((in_channels, width, 2 * width, 4 * width, 8 * width), (8, 4, 2, 1, 1))
        return [side(channels, 2 * width, stride) for channels, stride in sources]


def side(in_channels: int, channels: int, stride: int) -> Sequential:
    return Sequential(
        Conv2d(in_channels, channels, 3, stride, 1), Dropout(0.5), ReLU(),
        Conv2d(channels, channels, 1), Dropout(0.5), ReLU(),
    )  # fmt: skip
