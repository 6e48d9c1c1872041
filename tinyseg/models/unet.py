"""U-Net: contract, expand, and hand the details across. Ronneberger, Fischer & Brox, MICCAI 2015 (arXiv 1505.04597).

      x  ->  [ 64 ] ----------------------------- skip ----------------------------> [ 64 ] -> 1x1 -> logits
              pool v                                                                  ^ up
             [ 128 ] ---------------------------- skip ---------------------------> [ 128 ]
                pool v                                                              ^ up
                [ 256 ] ------------------------- skip -----------------------> [ 256 ]
                   pool v                                                       ^ up
                   [ 512 ] ---------------------- skip -------------------> [ 512 ]
                      pool v                                                ^ up
                      [ 1024 ] ---------------------------------------------

Each box is two 3x3 convolutions; `pool` is 2x2 max-pooling; `up` a 2x2 transposed convolution of stride 2 that halves
the channels. On the way up each box takes the skip and what came from below, one behind the other in the channels.
"""

import numpy as np

from .. import ops
from ..nn import BatchNorm2d, Conv2d, ConvTranspose2d, Dropout, Module, ReLU, Sequential, init
from ..tensor import Tensor
from .recipe import Recipe

MILESIAL = Recipe(
    paper="U-Net: Ronneberger, Fischer & Brox, MICCAI 2015 (arXiv 1505.04597), as milesial/Pytorch-UNet trains it",
    batch=1,
    lr=1e-5,
    steps=5 * 4580,
    optimizer="adam",
    weight_decay=1e-8,
    decay_all=True,
    loss="cross_entropy+dice",
    notes=("there RMSprop with momentum 0.999 and a rate that halves on a plateau, 5 epochs of Carvana; here Adam",),
)
PAPER = Recipe(
    paper="U-Net: Ronneberger, Fischer & Brox, MICCAI 2015 (arXiv 1505.04597)",
    batch=1,
    lr=1e-4,
    steps=30_000,
    momentum=0.99,
    crop=(572, 572),
    augment=("flip", "rotate", "elastic", "color"),
    class_weights="median",
    notes=(
        "border weights: w0 = 10, sigma = 5 pixels (--border-weights)",
        "the paper names neither learning rate, decay nor steps: those are ours",
    ),
)


class UNet(Module):
    """U-Net as it is used today: padded convolutions, batch norm, any image size.

    Each box is (3x3 convolution without bias, batch norm, ReLU) twice. The image is padded inside with zeros, below
    and to the right, to a multiple of 2^depth, and the logits are cropped back: zeros are what the convolutions see
    beyond the border anyway, at every image size, where a reflection would need a large enough image.
    31,037,698 parameters for 3 channels and 2 classes, as milesial/Pytorch-UNet.

    Shapes: (N,H,W,in_channels) float -> logits (N,H,W,num_classes).

    Example:
        model = ts.models.UNet(num_classes=11, width=32)
    """

    recipe = MILESIAL

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 64, depth: int = 4, seed: int = 0):
        self.config = {
            "name": "unet",
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "depth": depth,
        }
        widths = [width << level for level in range(depth + 1)]
        self.down = [double_conv(a, b) for a, b in zip([in_channels, *widths], widths)]
        self.up = [ConvTranspose2d(2 * a, a, 2, stride=2) for a in widths[:-1]]
        self.merge = [double_conv(2 * a, a) for a in widths[:-1]]
        self.head = Conv2d(width, num_classes, 1)
        self.reset_parameters(seed)

    def forward(self, x: Tensor) -> Tensor:
        _, h, w, _ = x.shape
        x = pad_to_multiple(x, 1 << len(self.up))
        skips = []
        for contract in self.down[:-1]:
            x = contract(x)
            skips.append(x)
            x = ops.max_pool2d(x, 2)
        x = self.down[-1](x)
        for up, merge in zip(self.up[::-1], self.merge[::-1]):
            x = up(x)  # on a line of its own: what it was made of is free before merge runs
            x = merge([skips.pop(), x])
        return ops.crop(self.head(x), 0, 0, h, w)


def double_conv(in_channels: int, out_channels: int) -> Sequential:
    return Sequential(
        Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        BatchNorm2d(out_channels),
        ReLU(),
        Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        BatchNorm2d(out_channels),
        ReLU(),
    )


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    below, right = -x.shape[1] % multiple, -x.shape[2] % multiple
    return ops.pad(x, ((0, 0), (0, below), (0, right), (0, 0))) if below or right else x


class UNetPaper(Module):
    """U-Net to the letter of the paper: valid convolutions, cropped skips, no batch norm; 572x572 -> 388x388.

    The logits are those of the image without a margin of 92 pixels on each side: mirror the image by 92 first, or
    take the loss on `target[:, 92:-92, 92:-92]`. Dropout (0.5) at the end of the contracting path: behind its last two
    boxes. Weights start from N(0, 2/N), N the values that one neuron takes, biases at 0.
    31,030,658 parameters for 1 channel and 2 classes.

    Shapes: (N,H,W,in_channels) float, H and W of the form 16m + 12, at least 188 -> logits (N,H-184,W-184,num_classes).
    Raises ValueError for other sizes (a max-pooling would drop a row), naming the nearest that are valid.
    """

    margin = 92
    recipe = PAPER

    def __init__(self, num_classes: int, in_channels: int = 3, width: int = 64, seed: int = 0):
        self.config = {"name": "unet_paper", "num_classes": num_classes, "in_channels": in_channels, "width": width}
        widths = [width << level for level in range(5)]
        self.down = [valid_double_conv(a, b) for a, b in zip([in_channels, *widths], widths)]
        self.dropout = [Dropout(0.5), Dropout(0.5)]
        self.up = [ConvTranspose2d(2 * a, a, 2, stride=2) for a in widths[:-1]]
        self.merge = [valid_double_conv(2 * a, a) for a in widths[:-1]]
        self.head = Conv2d(width, num_classes, 1)
        self.reset_parameters(seed)

    def valid_size(self, n: int) -> int:
        """The smallest valid height or width of at least n pixels, for callers that mirror the border."""
        return valid_size(n)

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        rng = np.random.default_rng(seed)
        super().reset_parameters(rng)
        for module in self.modules():
            if isinstance(module, Conv2d | ConvTranspose2d):
                # A pixel of an up-convolution lies under one tap only, and takes one value from each channel.
                r, s, c, k = module.weight.shape
                taken = r * s * c if isinstance(module, Conv2d) else k
                module.weight.assign(init.normal(module.weight.shape, (2 / taken) ** 0.5, rng))
                module.bias.assign(init.zeros(module.bias.shape))

    def forward(self, x: Tensor) -> Tensor:
        check_size(*x.shape[1:3])
        skips = []
        for level, contract in enumerate(self.down[:-1]):
            x = contract(x)
            if level == 3:
                x = self.dropout[0](x)
            skips.append(x)
            x = ops.max_pool2d(x, 2)
        x = self.dropout[1](self.down[-1](x))
        for up, merge in zip(self.up[::-1], self.merge[::-1]):
            x = up(x)
            x = merge(ops.concat([ops.center_crop(skips.pop(), x.shape[1:3]), x], axis=3))
        return self.head(x)


def valid_double_conv(in_channels: int, out_channels: int) -> Sequential:
    return Sequential(Conv2d(in_channels, out_channels, 3), ReLU(), Conv2d(out_channels, out_channels, 3), ReLU())


def valid_size(n: int) -> int:
    """The smallest side of at least n pixels at which no max-pooling drops a row."""
    return max(188, -(-(n - 12) // 16) * 16 + 12)


def check_size(*sizes: int) -> None:
    if all(n >= 188 and n % 16 == 12 for n in sizes):
        return
    valid = [sorted({max(188, (n - 12) // 16 * 16 + 12), valid_size(n)}) for n in sizes]
    choices = " and ".join(f"{side} {' or '.join(map(str, v))}" for side, v in zip(("height", "width"), valid))
    raise ValueError(
        f"unet_paper: the image is {'x'.join(map(str, sizes))}, expected sides of 16m + 12, at least 188; "
        f"cure: crop or mirror-pad to {choices}, or take model 'unet', which takes any size"
    )
