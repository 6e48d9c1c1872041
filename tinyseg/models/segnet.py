"""SegNet: only the places of the maxima cross from the encoder to the decoder. Badrinarayanan, Kendall & Cipolla,
PAMI 2017 (arXiv 1511.00561). Bayesian SegNet: Kendall, Badrinarayanan & Cipolla, BMVC 2017 (arXiv 1511.02680).

    conv conv pool  conv conv pool  conv x3 pool  conv x3 pool  conv x3 pool      (VGG16's, each with batch norm, ReLU)
               |               |             |             |             |
             places          places        places        places        places
               v               v             v             v             v
    conv conv unpool  conv conv unpool  conv x3 unpool  conv x3 unpool  conv x3 unpool      <- read from the right

Unpooling puts each value where its maximum stood and zeros elsewhere, at the exact size that was pooled, odd or even.
The last convolution of each decoder block has the width of the block above; the very last gives the classes, alone.

Batch norm: the release computes the statistics of inference by one pass over the training images after training,
`nn.batch_norm_statistics`; until then the running means are used, with PyTorch's eps of 1e-5 in place of 1e-9.
"""

import numpy as np

from .. import ops
from ..nn import BatchNorm2d, Conv2d, Dropout, Module, ReLU, Sequential
from ..tensor import Tensor, no_grad
from .alexnet import LocalResponseNorm
from .recipe import Recipe
from .vgg import DEPTHS, VGGFeatures, he_init, pools, widths


def release(name: str, batch: int, lr: float, steps: int, pretrained: str = "") -> Recipe:
    """The solvers of alexgkendall/SegNet-Tutorial."""
    return Recipe(
        paper=f"{name}: Badrinarayanan, Kendall & Cipolla, PAMI 2017 (arXiv 1511.00561), as released for CamVid",
        batch=batch,
        lr=lr,
        steps=steps,
        momentum=0.9,
        weight_decay=5e-4,
        mean=(0.0, 0.0, 0.0),
        std=(1 / 255,) * 3,
        class_weights="median",
        batch_norm_pass=True,
        pretrained=pretrained,
        notes=(
            "images of 360 x 480 in [0, 255], Caffe's weights expect BGR; the paper normalises their local contrast",
            "the paper's ablations: lr 0.1, batch 12; its benchmarks: lr 1e-3, batch 5",
        ),
    )


class SegNet(Module):
    """SegNet on VGG16: 29,455,125 parameters for 21 classes.

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).

    Example:
        model = ts.models.SegNet(num_classes=11)
    """

    recipe = release("SegNet", 4, 1e-3, 40_000, "VGG16 on ImageNet")
    name = "segnet"

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 64, seed: int = 0):
        self.config = {"name": self.name, "num_classes": num_classes, "in_channels": in_channels, "width": width}
        self.features = VGGFeatures(in_channels, width, batch_norm=True, pooling=pools(strides=(0, 0, 0, 0, 0)))
        above = [num_classes, *widths(width)]
        self.decoder = [decoder_block(depth, *pair) for depth, *pair in zip(DEPTHS, above[1:], above)]
        self.decoder[0].layers[-2:] = []  # the classes have neither batch norm nor ReLU
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        he_init(self, rng)

    def forward(self, x: Tensor) -> Tensor:
        places = []
        for block, encode in enumerate(self.features.pieces):
            x = encode(x)
            size = x.shape[1:3]
            x, at = ops.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            places.append((at, size))
            x = self.after_encoder(block, x)
        for block in reversed(range(5)):
            x = self.decoder[block](ops.max_unpool2d(x, *places.pop()))
            x = self.after_decoder(block, x)
        return x

    def after_encoder(self, block: int, x: Tensor) -> Tensor:
        """Behind the pooling of a block (0 to 4); nothing here."""
        return x

    def after_decoder(self, block: int, x: Tensor) -> Tensor:
        """Behind a decoder block, which come from 4 to 0; nothing here."""
        return x


def decoder_block(depth: int, width: int, above: int) -> Sequential:
    """`depth` 3x3 convolutions with batch norm and ReLU, the last to the width of the block above."""
    layers = []
    for out in [width] * (depth - 1) + [above]:
        layers += [Conv2d(width, out, 3, padding=1), BatchNorm2d(out), ReLU()]
    return Sequential(*layers)


class SegNetBayesian(SegNet):
    """Bayesian SegNet: dropout 0.5 behind pool3, pool4, pool5 and decoder blocks 5, 4, 3, kept on for `uncertainty`.

    Parameters, shapes and errors: those of SegNet. In evaluation dropout is off, so that logits repeat.

    Example:
        mean, uncertain = model.uncertainty(x, samples=40, seed=0)
    """

    recipe = release("Bayesian SegNet", 4, 1e-3, 40_000, "VGG16 on ImageNet")
    name = "segnet_bayesian"

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 64, seed: int = 0):
        self.dropout = [Dropout(0.5) for _ in range(6)]
        super().__init__(num_classes, in_channels, width, seed)

    def after_encoder(self, block, x):
        return self.dropout[block - 2](x) if block >= 2 else x

    def after_decoder(self, block, x):
        return self.dropout[block + 1](x) if block >= 2 else x

    def uncertainty(self, x: Tensor, samples: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Monte-Carlo dropout: (mean of the class probabilities (N,H,W,K), their variance, mean over classes (N,H,W)).

            mean = 1/T sum_t softmax(logits_t),    uncertainty = 1/K sum_k 1/T sum_t (softmax(logits_t)_k - mean_k)^2

        Batch norm uses its inference statistics; dropout draws from `seed`. Memory does not grow with `samples`.
        Raises ValueError for samples below 1.
        """
        if samples < 1:
            raise ValueError(f"uncertainty: samples is {samples}, expected at least 1")
        training, state = self.training, self.random_state()
        self.eval()
        rng = np.random.default_rng(seed)
        for layer in self.dropout:
            layer.reset_parameters(rng)
            layer.training = True
        mean, spread = 0.0, 0.0  # Welford's: of the mean so far and of the squared deviations from it
        try:
            with no_grad():
                for t in range(1, samples + 1):
                    probabilities = ops.softmax(self(x)).numpy()
                    change = probabilities - mean
                    mean = mean + change / t
                    spread = spread + change * (probabilities - mean)
        finally:
            self.train(training)
            self.set_random_state(state)
        return mean, (spread / samples).mean(-1)


class SegNetBasic(Module):
    """SegNet-Basic: four encoders and four decoders of one 7x7 convolution each. 1,416,587 parameters for 11 classes.

    Local response normalisation of the image; encoders with batch norm and ReLU, decoders with batch norm alone, as
    released; a 1x1 convolution to the classes.

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    recipe = release("SegNet-Basic", 4, 0.1, 10_000)

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 64, seed: int = 0):
        self.config = {"name": "segnet_basic", "num_classes": num_classes, "in_channels": in_channels, "width": width}
        self.norm = LocalResponseNorm()
        self.encoder = [
            Sequential(Conv2d(c, width, 7, padding=3), BatchNorm2d(width), ReLU()) for c in [in_channels] + 3 * [width]
        ]
        self.decoder = [Sequential(Conv2d(width, width, 7, padding=3), BatchNorm2d(width)) for _ in range(4)]
        self.head = Conv2d(width, num_classes, 1)
        self.reset_parameters(seed)

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        he_init(self, rng)

    def forward(self, x: Tensor) -> Tensor:
        places = []
        x = self.norm(x)
        for encode in self.encoder:
            x = encode(x)
            size = x.shape[1:3]
            x, at = ops.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            places.append((at, size))
        for decode in reversed(self.decoder):
            x = decode(ops.max_unpool2d(x, *places.pop()))
        return self.head(x)
