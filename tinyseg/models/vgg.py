"""VGG16: thirteen 3x3 convolutions in five blocks. Simonyan & Zisserman, ICLR 2015 (arXiv 1409.1556).

    block   1        2          3               4               5
    width   64 64    128 128    256 256 256     512 512 512     512 512 512      then max-pooling by 2 after each

FCN, SegNet, the dilated front-end and DeepLab v1 and v2 stand on these blocks. Each drops or changes poolings and
padding; numbers and names of the layers stay torchvision's `features` (0, 2, 5, 7, 10, ... 28; with batch norm 0, 1,
3, 4, 7, ...), so that its weights fit one to one.

Memory: the pooling stands before the block's last ReLU. max(relu(a), relu(b)) = relu(max(a, b)), so values and
gradients are the same, but what the ReLU keeps for its gradient is a quarter of the size.
"""

import numpy as np

from .. import ops
from ..nn import BatchNorm2d, Conv2d, Dropout, Identity, MaxPool2d, Module, ReLU, Sequential, init
from ..tensor import Tensor

DEPTHS = (2, 2, 3, 3, 3)


def pools(
    kernel_size: int = 2, strides: tuple[int, ...] = (2, 2, 2, 2, 2), padding: int = 0, ceil_mode: bool = True
) -> list[Module]:
    """The five poolings, rounding sizes up as Caffe does; a stride of 0 leaves that one out."""
    return [MaxPool2d(kernel_size, s, padding, ceil_mode=ceil_mode) if s else Identity() for s in strides]


def widths(width: int) -> tuple[int, ...]:
    """Channels of the five blocks."""
    return width, 2 * width, 4 * width, 8 * width, 8 * width


class VGGFeatures(Sequential):
    """The thirteen convolutions; `stages` gives the map behind each of the five poolings.

    batch_norm: between convolution and ReLU. pooling: five modules, see `pools`. same: each convolution pads by its
    dilation and keeps the size; else none pads. first_padding: of conv1_1 in place of that (FCN's 100).
    dilations: one a block.

    Shapes: (N,H,W,in_channels) -> (N,H/32,W/32,8 width), H and W rounded up.
    """

    def __init__(
        self,
        in_channels: int = 3,
        width: int = 64,
        batch_norm: bool = False,
        pooling: list[Module] | None = None,
        same: bool = True,
        first_padding: int | None = None,
        dilations: tuple[int, ...] = (1, 1, 1, 1, 1),
    ):
        self.layers, self.pieces = [], []  # the same layers, by number and by block
        channels = in_channels
        for depth, out, dilation, pool in zip(DEPTHS, widths(width), dilations, pooling or pools()):
            for _ in range(depth):
                padding = first_padding if not self.layers and first_padding is not None else dilation * same
                self.layers += [Conv2d(channels, out, 3, padding=padding, dilation=dilation)]
                self.layers += [BatchNorm2d(out)] * batch_norm + [ReLU()]
                channels = out
            if batch_norm:
                self.layers += [pool]  # behind batch norm and ReLU in one, which keep their input anyway
            else:
                self.layers[-1:] = [pool, ReLU()]
            self.pieces.append(Sequential(*self.layers[sum(map(len, self.pieces)) :]))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.pieces:
            x = block(x)
        return x

    def stages(self, x: Tensor, first: int = 0) -> list[Tensor]:
        """What comes out of the five blocks, each behind its pooling (strides 2 to 32), from block `first` on."""
        found = []
        for number, block in enumerate(self.pieces):
            x = block(x)
            found += [x] * (number >= first)
        return found


class Classifier(Module):
    """Features, averaged to side x side, and three fully connected layers: VGG16 and AlexNet, which name theirs.

    The layers are convolutions (side x side and 1x1), which are the same numbers: what FCN calls net surgery.
    """

    def __init__(self, features: Module, channels: int, side: int, hidden: int, num_classes: int, seed: int):
        self.features, self.side = features, side
        self.classifier = Sequential(
            Conv2d(channels, hidden, side),
            ReLU(),
            Dropout(0.5),
            Conv2d(hidden, hidden, 1),
            ReLU(),
            Dropout(0.5),
            Conv2d(hidden, num_classes, 1),
        )
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        he_init(self, rng)

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(self.classifier(ops.adaptive_avg_pool2d(self.features(x), self.side)), 1)


class VGG16(Classifier):
    """VGG16, the classifier: 138,357,544 parameters for 1000 classes, as torchvision's.

    Maps of another size than 7x7 are averaged to it first.

    Shapes: (N,H,W,in_channels) float -> logits (N,num_classes).

    Example:
        model = ts.models.VGG16(batch_norm=True)
    """

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, width: int = 64, batch_norm: bool = False, seed: int = 0
    ):
        features = VGGFeatures(in_channels, width, batch_norm, pools(ceil_mode=False))
        super().__init__(features, 8 * width, 7, 64 * width, num_classes, seed)


class FullyConvolutional(Sequential):
    """VGG16's fully connected layers as convolutions: fc6 (kernel_size, dilated), fc7 (1x1), dropout 0.5 behind each.

    Dropout comes before ReLU: it scales by 0 or 2, so the two commute, and only the ReLU's result is kept.
    """

    def __init__(self, in_channels: int, hidden: int, kernel_size: int = 7, padding: int = 0, dilation: int = 1):
        super().__init__(
            Conv2d(in_channels, hidden, kernel_size, padding=padding, dilation=dilation),
            Dropout(0.5),
            ReLU(),
            Conv2d(hidden, hidden, 1),
            Dropout(0.5),
            ReLU(),
        )


def he_init(module: Module, seed: int | np.random.Generator) -> None:
    """Each Conv2d inside from N(0, 2 / fan_in), its bias 0 (MSRA in Caffe). He et al. 2015."""
    rng = np.random.default_rng(seed)
    for layer in module.modules():
        if isinstance(layer, Conv2d):
            layer.weight.assign(init.kaiming_normal(layer.weight.shape, rng))
            if layer.bias is not None:
                layer.bias.assign(init.zeros(layer.bias.shape))


def surgery(state: dict) -> dict:
    """The state of a `VGG16` under the names of networks made of `features` and `fc` (FCN, the dilated front-end).

    Example:
        model.load_state_dict(surgery(vgg.state_dict()), strict=False)
    """
    parts = {"classifier.0": "fc.0", "classifier.3": "fc.3"}
    renamed = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        if layer.startswith("features") or layer in parts:
            renamed[f"{parts.get(layer, layer)}.{kind}"] = value
    return renamed
