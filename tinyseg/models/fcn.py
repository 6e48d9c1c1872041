"""Fully convolutional networks. Long, Shelhamer & Darrell, CVPR 2015 (arXiv 1411.4038); Shelhamer et al., PAMI 2017.

    image, padded by 100 -> conv1 .. pool3 ------> pool4 ------> pool5 -> fc6 7x7 -> fc7 -> score 1x1
                                    |                |                                        | x2 (4x4, stride 2)
                                    |             score 1x1, cropped by 5 ------------------> +
                                    |                                                         | x2
                                 score 1x1, cropped by 9 -----------------------------------> +
                                                                                              | x8, cropped by 31
                                                                                           logits

FCN-8s; FCN-16s ends at the first sum (x16, cropped by 27), FCN-32s takes the deepest score alone (x32, cropped by 19).
The padding of 100 leaves an output for small images; the crops undo it, for any height and width. x2, x8 ... are
transposed convolutions that start as bilinear interpolation; the score layers start at zero.

Which follows whom: the paper fixes the last upsampling and learns those between (`upsampling="paper"`, the default);
the release fixes all ("fixed"). "dense" and "depthwise" learn all, the former from every class to every class.
"""

import numpy as np

from .. import ops
from ..nn import Buffer, Conv2d, Module, Parameter, init
from ..tensor import Tensor
from .alexnet import AlexNetFeatures, channels
from .recipe import Recipe
from .vgg import FullyConvolutional, VGGFeatures, he_init

BGR_MEAN = (122.679 / 255, 116.669 / 255, 104.007 / 255)  # the release subtracts these from BGR in [0, 255]


def release(stage: str, lr: float, steps: int = 100_000, warm_start: str | None = None) -> Recipe:
    """The solvers of shelhamer/fcn.berkeleyvision.org."""
    return Recipe(
        paper=f"FCN-{stage}: Long, Shelhamer & Darrell, CVPR 2015 (arXiv 1411.4038), as released",
        batch=1,
        lr=lr,
        steps=steps,
        momentum=0.99,
        weight_decay=5e-4,
        bias_lr=2,
        mean=BGR_MEAN,
        std=(1 / 255,) * 3,
        sum_of_pixels=True,
        pretrained="VGG16 on ImageNet",
        warm_start=warm_start,
        notes=(
            "Caffe's weights expect BGR; the release fixes all upsamplings (upsampling='fixed')",
            "the paper itself: batches of 20, momentum 0.9, lr 1e-4; mirroring and 32-pixel jitter gave no gain",
        ),
    )


class Upscore(Module):
    """A transposed convolution of `kernel_size` and `stride` that starts as bilinear interpolation, without a bias.

    how: "fixed" (a buffer, one filter for each channel), "depthwise" (the same, learned) or "dense" (learned, from all
    channels to all). `offset` pixels are cut at the top and left, and what is then beyond `size`.
    """

    def __init__(self, channels: int, kernel_size: int, stride: int, how: str, offset: int = 0):
        self.stride, self.offset, self.how = stride, offset, how
        self.groups = 1 if how == "dense" else channels
        kind = Buffer if how == "fixed" else Parameter
        self.weight = kind(init.bilinear((kernel_size, kernel_size, channels // self.groups, channels)))

    def reset_parameters(self, seed=0) -> None:
        self.weight.assign(init.bilinear(self.weight.shape))

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        size, taps = size or (0, 0), self.weight.shape[0]
        left = [(n - 1) * self.stride + taps - 2 * self.offset for n in x.shape[1:3]]  # padding cuts at both ends
        back = tuple(max(0, want - have) for want, have in zip(size, left))
        y = ops.conv_transpose2d(x, self.weight, None, self.stride, self.offset, back, groups=self.groups)
        return y if size == (0, 0) else ops.crop(y, 0, 0, *size)

    def _options(self):
        return f"{self.weight.shape[0]}, stride={self.stride}, {self.how}, offset={self.offset}"


class FCN(Module):
    """What all of them share: VGG16 padded by 100, its fully connected layers as convolutions, the score of fc7."""

    def __init__(self, name: str, num_classes: int, in_channels: int, width: int, upsampling: str):
        if upsampling not in ("paper", "fixed", "dense", "depthwise"):
            raise ValueError(f"{name}: upsampling is {upsampling!r}, expected 'paper', 'fixed', 'dense' or 'depthwise'")
        self.config = {
            "name": name,
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "upsampling": upsampling,
        }
        self.features = VGGFeatures(in_channels, width, first_padding=100)
        self.fc = FullyConvolutional(8 * width, 64 * width, 7)
        self.score_fr = Conv2d(64 * width, num_classes, 1)
        self.between, self.last = ("dense", "fixed") if upsampling == "paper" else (upsampling, upsampling)

    def scores(self) -> list[Conv2d]:
        """The 1x1 convolutions to class scores; they start at zero."""
        return [getattr(self, name) for name in ("score_fr", "score_pool4", "score_pool3") if hasattr(self, name)]

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        he_init(self, rng)
        zero(*self.scores())


def zero(*layers: Conv2d) -> None:
    for layer in layers:
        layer.weight.assign(init.zeros(layer.weight.shape))
        layer.bias.assign(init.zeros(layer.bias.shape))


class FCN32s(FCN):
    """FCN-32s: the score of the last layer, times 32.

    134,346,581 parameters for 21 classes (the paper's "134M"); 136,152,917 with upsampling="dense".

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).

    Example:
        model = ts.models.FCN32s(num_classes=21)
    """

    recipe = release("32s", 1e-10)

    def __init__(
        self, num_classes: int, in_channels: int = 3, width: int = 64, upsampling: str = "paper", seed: int = 0
    ):
        super().__init__("fcn32s", num_classes, in_channels, width, upsampling)
        self.upscore = Upscore(num_classes, 64, 32, self.last, offset=19)
        self.reset_parameters(seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.upscore(self.score_fr(self.fc(self.features(x))), x.shape[1:3])


class FCN16s(FCN):
    """FCN-16s: with the score of pool4. Begin from an FCN-32s.

    134,364,410 parameters for 21 classes, 7,056 of them in the upsampling between: 134,357,354 with upsampling="fixed",
    where it learns nothing, 134,815,994 with "dense".

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).

    Example:
        model.load_state_dict(fcn32s.state_dict(), strict=False)     # the warm start
    """

    recipe = release("16s", 1e-12, warm_start="fcn32s")

    def __init__(
        self, num_classes: int, in_channels: int = 3, width: int = 64, upsampling: str = "paper", seed: int = 0
    ):
        super().__init__("fcn16s", num_classes, in_channels, width, upsampling)
        self.upscore2 = Upscore(num_classes, 4, 2, self.between)
        self.score_pool4 = Conv2d(8 * width, num_classes, 1)
        self.upscore16 = Upscore(num_classes, 32, 16, self.last, offset=27)
        self.reset_parameters(seed)

    def forward(self, x: Tensor) -> Tensor:
        pool4, pool5 = self.features.stages(x, first=3)
        score = self.upscore2(self.score_fr(self.fc(pool5)))
        score = score + ops.crop(self.score_pool4(pool4), 5, 5, *score.shape[1:3])
        return self.upscore16(score, x.shape[1:3])


class FCN8s(FCN):
    """FCN-8s: with the scores of pool4 and pool3. Begin from an FCN-16s.

    134,376,863 parameters for 21 classes, 14,112 of them in the upsamplings between: 134,362,751 with
    upsampling="fixed", where those learn nothing, 134,489,759 with "dense", 134,368,799 with "depthwise".

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).

    Example:
        model.load_state_dict(fcn16s.state_dict(), strict=False)     # the warm start
    """

    recipe = release("8s", 1e-14, warm_start="fcn16s")
    name, scales = "fcn8s", (1.0, 1.0)  # of pool4 and pool3 before their scores

    def __init__(
        self, num_classes: int, in_channels: int = 3, width: int = 64, upsampling: str = "paper", seed: int = 0
    ):
        super().__init__(self.name, num_classes, in_channels, width, upsampling)
        self.upscore2 = Upscore(num_classes, 4, 2, self.between)
        self.score_pool4 = Conv2d(8 * width, num_classes, 1)
        self.upscore_pool4 = Upscore(num_classes, 4, 2, self.between)
        self.score_pool3 = Conv2d(4 * width, num_classes, 1)
        self.upscore8 = Upscore(num_classes, 16, 8, self.last, offset=31)
        self.reset_parameters(seed)

    def forward(self, x: Tensor) -> Tensor:
        pool3, pool4, pool5 = self.features.stages(x, first=2)
        score = self.upscore2(self.score_fr(self.fc(pool5)))
        score = score + ops.crop(scaled(self.score_pool4, pool4, self.scales[0]), 5, 5, *score.shape[1:3])
        score = self.upscore_pool4(score)
        score = score + ops.crop(scaled(self.score_pool3, pool3, self.scales[1]), 9, 9, *score.shape[1:3])
        return self.upscore8(score, x.shape[1:3])


def scaled(score: Conv2d, x: Tensor, scale: float) -> Tensor:
    """score(scale * x). The few weights are scaled, not the many pixels: x is kept for the gradient once, as it is."""
    return score(x) if scale == 1 else ops.conv2d(x, score.weight * scale, score.bias)


class FCN8sAtOnce(FCN8s):
    """FCN-8s trained in one stage: pool4 times 0.01 and pool3 times 0.0001 before their scores, for even gradients.

    Parameters, shapes and options: those of FCN-8s.
    """

    recipe = release("8s at once", 1e-10, steps=300_000)
    name, scales = "fcn8s_atonce", (0.01, 0.0001)


class FCN32sAlexNet(Module):
    """FCN-32s on AlexNet: 6x6 for fc6, times 32 by a 63x63 filter, cropped by 18. 56,954,261 parameters, 21 classes.

    `width` (even; 96) are the channels of the first convolution.

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    recipe = Recipe(
        paper="FCN-AlexNet: Long, Shelhamer & Darrell, CVPR 2015 (arXiv 1411.4038), as released",
        batch=20,
        lr=1e-4,
        steps=100_000,
        momentum=0.9,
        weight_decay=5e-4,
        bias_lr=2,
        mean=BGR_MEAN,
        std=(1 / 255,) * 3,
        pretrained="AlexNet on ImageNet",
        notes=("Caffe's weights expect BGR", "the release adds up the gradients of 20 images one by one"),
    )

    def __init__(
        self, num_classes: int, in_channels: int = 3, width: int = 96, upsampling: str = "paper", seed: int = 0
    ):
        if upsampling not in ("paper", "fixed", "dense", "depthwise"):
            raise ValueError(f"fcn32s_alexnet: upsampling is {upsampling!r}, expected 'paper', 'dense' or 'depthwise'")
        self.config = {
            "name": "fcn32s_alexnet",
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "upsampling": upsampling,
        }
        hidden = 4096 * width // 96
        self.features = AlexNetFeatures(in_channels, width, first_padding=100)
        self.fc = FullyConvolutional(channels(width)[-1], hidden, 6)
        self.score_fr = Conv2d(hidden, num_classes, 1)
        self.upscore = Upscore(num_classes, 63, 32, "fixed" if upsampling == "paper" else upsampling, offset=18)
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        he_init(self, rng)
        zero(self.score_fr)

    def forward(self, x: Tensor) -> Tensor:
        return self.upscore(self.score_fr(self.fc(self.features(x))), x.shape[1:3])
