"""AlexNet, as Caffe's reference network has it. Krizhevsky, Sutskever & Hinton, NIPS 2012.

    conv 11x11 stride 4, 96   pool  norm   conv 5x5, 256   pool  norm   conv 3x3, 384   384   256   pool
                                           2 groups                               2 groups for the last two

then fully connected layers of 4096, 4096 and the classes. Pools are 3x3 of stride 2, sizes rounded up; norms are local
response normalisation over 5 channels; a ReLU behind each convolution. Pooling before ReLU, dropout before ReLU: see
`vgg.py`.
"""


from .. import ops
from ..nn import Conv2d, MaxPool2d, Module, ReLU, Sequential
from ..tensor import Tensor
from .vgg import Classifier


class LocalResponseNorm(Module):
    """`ops.local_response_norm` over 5 channels, alpha 1e-4, beta 0.75."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.local_response_norm(x, 5)


def channels(width: int) -> tuple[int, ...]:
    """Of the five convolutions; `width` (96) of the first, the others in AlexNet's proportions and even."""
    return width, *(max(2, n * width // 96 // 2 * 2) for n in (256, 384, 384, 256))


class AlexNetFeatures(Sequential):
    """The five convolutions: (N,H,W,in_channels) -> (N,H/32,W/32,256). first_padding: FCN's 100."""

    def __init__(self, in_channels: int = 3, width: int = 96, first_padding: int = 0):
        a, b, c, d, e = channels(width)
        super().__init__(
            Conv2d(in_channels, a, 11, stride=4, padding=first_padding),
            MaxPool2d(3, 2, ceil_mode=True),
            ReLU(),
            LocalResponseNorm(),
            Conv2d(a, b, 5, padding=2, groups=2),
            MaxPool2d(3, 2, ceil_mode=True),
            ReLU(),
            LocalResponseNorm(),
            Conv2d(b, c, 3, padding=1),
            ReLU(),
            Conv2d(c, d, 3, padding=1, groups=2),
            ReLU(),
            Conv2d(d, e, 3, padding=1, groups=2),
            MaxPool2d(3, 2, ceil_mode=True),
            ReLU(),
        )


class AlexNet(Classifier):
    """AlexNet, the classifier: 60,965,224 parameters for 1000 classes. Images of 227 x 227 give 6 x 6 before fc6.

    Maps of another size are averaged to 6 x 6 first. `width` (even) are the channels of the first convolution.

    Shapes: (N,H,W,in_channels) float, at least 67 x 67 -> logits (N,num_classes).
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, width: int = 96, seed: int = 0):
        features = AlexNetFeatures(in_channels, width)
        super().__init__(features, channels(width)[-1], 6, 4096 * width // 96, num_classes, seed)
