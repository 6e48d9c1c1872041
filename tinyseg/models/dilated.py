"""Dilated convolutions: context without losing resolution. Yu & Koltun, ICLR 2016 (arXiv 1511.07122).

    image, mirrored by 186 -> VGG16 without padding, without pool4 and pool5, dilation 2 in conv5, 4 in fc6 -> fc7
                           -> 1x1 to the classes, at 1/8 -> context module -> x8 by fixed bilinear filters -> logits

The context module is a stack of 3x3 convolutions of growing dilation that keeps the size and begins as the identity:

    layer            1     2     3     4     5     6     7     8
    dilation         1     1     2     4     8     16    1     1 (1x1)
    sees             3     5     9     17    33    65    67    67 pixels
    width, basic     C     C     C     C     C     C     C     C
    width, large     2C    2C    4C    8C    16C   32C   32C   C

Dilation8 (VOC, CamVid) has these; Dilation10 (Cityscapes) adds 32 and 64 behind 16; Dilation7 (KITTI) ends at 8.
`padding="layers"` pads each layer by its dilation, as released for CamVid, Cityscapes and KITTI; `padding="once"`
pads by the sum (33) in front of the first, as for VOC.
"""

import numpy as np

from .. import ops
from ..nn import Conv2d, Identity, Module, ReLU, Sequential, init
from ..tensor import Tensor
from .fcn import Upscore
from .recipe import Recipe
from .vgg import FullyConvolutional, VGGFeatures, he_init, pools

MARGIN = 186  # what the front-end's valid convolutions take from each side, in pixels of the image
VOC_MEAN = (116.52 / 255, 111.36 / 255, 102.93 / 255)  # of the release, there in BGR and [0, 255]


def paper(name: str, batch: int, lr: float, steps: int, crop: int, momentum: float = 0.9, note: str = "") -> Recipe:
    return Recipe(
        paper=f"{name}: Yu & Koltun, ICLR 2016 (arXiv 1511.07122)",
        batch=batch,
        lr=lr,
        steps=steps,
        momentum=momentum,
        weight_decay=5e-4,
        bias_lr=2,
        crop=(crop, crop),
        augment=("flip",),
        mean=VOC_MEAN,
        std=(1 / 255,) * 3,
        pretrained="VGG16 on ImageNet",
        notes=(*((note,) if note else ()), "Caffe's weights expect BGR"),
    )


class DilatedFrontend(Module):
    """The front-end alone: VGG16 with dilation in place of the last two poolings. 134,346,581 parameters, 21 classes.

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).

    Example:
        model = ts.models.DilatedFrontend(num_classes=21)
    """

    recipe = paper(
        "Dilated front-end", 14, 1e-3, 60_000, 500, note="VOC without COCO; crops as its images, at most 500"
    )
    name = "dilated_frontend"

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 64, seed: int = 0):
        self.config = {"name": self.name, "num_classes": num_classes, "in_channels": in_channels, "width": width}
        self.build(num_classes, in_channels, width)
        self.context = Identity()
        self.reset_parameters(seed)

    def build(self, num_classes: int, in_channels: int, width: int) -> None:
        self.features = VGGFeatures(
            in_channels, width, pooling=pools(strides=(2, 2, 2, 0, 0)), same=False, dilations=(1, 1, 1, 1, 2)
        )
        self.fc = FullyConvolutional(8 * width, 64 * width, 7, dilation=4)
        self.final = Conv2d(64 * width, num_classes, 1)
        self.upsample = Upscore(num_classes, 16, 8, "fixed", offset=4)

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        he_init(self.features, rng)
        he_init(self.fc, rng)
        self.final.weight.assign(init.normal(self.final.weight.shape, 0.001, rng))
        self.final.bias.assign(init.zeros(self.final.bias.shape))

    def scores(self, x: Tensor) -> Tensor:
        """The front-end's scores at 1/8 of the image, H and W rounded up."""
        below, right = -x.shape[1] % 8, -x.shape[2] % 8
        x = mirror(x, (MARGIN, MARGIN + below), (MARGIN, MARGIN + right))
        return self.final(self.fc(self.features(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.upsample(self.context(self.scores(x)), x.shape[1:3])


def mirror(x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """x with a border mirrored at its edge pixels, again and again where it is wider than x (BORDER_REFLECT_101)."""
    for axis, (before, after) in ((1, rows), (2, columns)):
        if x.shape[axis] == 1:
            shape = list(x.shape)
            shape[axis] += before + after
            x = ops.broadcast_to(x, shape)
            continue
        while before or after:
            whole = x.shape[axis] - 1  # mirrored whole on both sides, the next mirrors stand at its new ends
            widths = [(0, 0)] * 4
            widths[axis] = (min(before, whole), min(after, whole))
            before, after = before - widths[axis][0], after - widths[axis][1]
            x = ops.pad(x, widths, mode="reflect")
    return x


class Context(Sequential):
    """The context module: 3x3 convolutions of these dilations, then 1x1; ReLU behind each but the last.

    widths: of the 3x3 convolutions, in multiples of the classes. padding: "layers" or "once". Begins as the identity
    on what is not negative; a wide one spreads each class over its share of the channels, with noise beside it.

    Shapes: (N,P,Q,num_classes) -> the same.
    Raises ValueError for another padding.
    """

    def __init__(self, num_classes: int, dilations: tuple[int, ...], widths: tuple[int, ...], padding: str = "layers"):
        if padding not in ("layers", "once"):
            raise ValueError(f"Context: padding is {padding!r}, expected 'layers' or 'once'")
        self.layers, channels = [], num_classes
        for i, (dilation, width) in enumerate(zip(dilations, widths)):
            pad = dilation if padding == "layers" else sum(dilations) * (i == 0)
            self.layers += [Conv2d(channels, width * num_classes, 3, padding=pad, dilation=dilation), ReLU()]
            channels = width * num_classes
        self.layers += [Conv2d(channels, num_classes, 1)]
        self.num_classes, self.noise = num_classes, 0.01 if max(widths) > 1 else 0.0

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        rng = np.random.default_rng(seed)
        for layer in self.layers:
            if isinstance(layer, Conv2d):
                layer.weight.assign(init.identity(layer.weight.shape, self.num_classes, self.noise, rng))
                layer.bias.assign(init.zeros(layer.bias.shape))


class Dilation8(DilatedFrontend):
    """Front-end and context module, dilations 1 1 2 4 8 16 1. 134,374,973 parameters for 21 classes (basic).

    context "basic" or "large" (141,149,720 parameters); padding "layers" (CamVid's release) or "once" (VOC's).

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    Raises ValueError for another context or padding.

    Example:
        model = ts.models.Dilation8(num_classes=21, context="large", padding="once")
    """

    recipe = paper(
        "Dilation8",
        1,
        1e-5,
        20_000,
        852,
        note="CamVid, jointly, after 20k of the front-end (crops of 628, batch 8, lr 1e-4, momentum 0.99)",
    )
    name, dilations, large = "dilation8", (1, 1, 2, 4, 8, 16, 1), (2, 2, 4, 8, 16, 32, 32)

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        context: str = "basic",
        padding: str = "layers",
        seed: int = 0,
    ):
        if context not in ("basic", "large"):
            raise ValueError(f"{self.name}: context is {context!r}, expected 'basic' or 'large'")
        self.config = {
            "name": self.name,
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "context": context,
            "padding": padding,
        }
        self.build(num_classes, in_channels, width)
        widths = self.large if context == "large" else (1,) * len(self.dilations)
        self.context = Context(num_classes, self.dilations, widths, padding)
        self.reset_parameters(seed)


class Dilation7(Dilation8):
    """Front-end and context module of one layer less, dilations 1 1 2 4 8 1, for KITTI. 134,370,983 parameters, basic.

    Options, shapes and errors: those of Dilation8.
    """

    recipe = paper("Dilation7", 1, 1e-5, 20_000, 852, note="KITTI; batches, rates and crops are those told of CamVid")
    name, dilations, large = "dilation7", (1, 1, 2, 4, 8, 1), (2, 2, 4, 8, 16, 16)


class Dilation10(Dilation8):
    """Front-end and context module of two layers more, dilations 1 1 2 4 8 16 32 64 1, for Cityscapes.

    134,368,179 parameters for 19 classes (basic). Options, shapes and errors: those of Dilation8; its large form is
    ours, the paper has none.
    """

    recipe = paper(
        "Dilation10",
        1,
        1e-5,
        60_000,
        852,
        note="Cityscapes, jointly, after 40k of the front-end, 24k of the context (lr 1e-4, momentum 0.99)",
    )
    name, dilations, large = "dilation10", (1, 1, 2, 4, 8, 16, 32, 64, 1), (2, 2, 4, 8, 16, 32, 32, 32, 32)
