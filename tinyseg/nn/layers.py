"""The layers: each is its parameters and one line of `tinyseg.ops`.

Arguments are PyTorch's; arrays are (N,H,W,C) and filters (R,S,C,K). Layers start as PyTorch's do, weights and biases
uniform in +-1/sqrt(fan_in). `seed` is an integer or a Generator to draw that from; without one every construction
draws something else. Models call `reset_parameters(seed)` once at the end, which draws all layers from one generator.
"""

import numpy as np

from .. import ops
from ..tensor import Tensor
from . import init
from .init import Seed
from .module import Buffer, Module, Parameter

Size = int | tuple[int, int]


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


class Conv2d(Module):
    """Convolution; `padding` in zeros. Shapes: (N,H,W,in_channels) -> (N,P,Q,out_channels)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        seed: Seed = None,
    ):
        _check_groups("Conv2d", in_channels, out_channels, groups)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.weight = Parameter(init.zeros((*_pair(kernel_size), in_channels // groups, out_channels)))
        self.bias = Parameter(init.zeros((out_channels,))) if bias else None
        self.reset_parameters(seed)

    def reset_parameters(self, seed: Seed = 0) -> None:
        _uniform(self.weight, self.bias, seed)

    def forward(self, x: Tensor | list[Tensor]) -> Tensor:
        """Several tensors count as one, their channels one behind the other."""
        return ops.conv2d(x, self.weight, self.bias, *self._arguments())

    def forward_relu(self, x: Tensor | list[Tensor]) -> Tensor:
        """relu(forward(x)) in one pass over memory."""
        return ops.conv2d_relu(x, self.weight, self.bias, *self._arguments())

    def forward_norm(self, x: Tensor | list[Tensor], norm: "BatchNorm2d", relu: bool = False, add=None) -> Tensor:
        """norm(forward(x)), with relu clipped at 0, in fewer passes over memory; relu(norm(forward(x)) + add)."""
        return ops.conv2d_batch_norm(x, self.weight, self.bias, *norm._arguments(), relu, *self._arguments(), add)

    def _arguments(self):
        return self.stride, self.padding, self.dilation, self.groups

    def _options(self):
        r, s, c, k = self.weight.shape
        shown = f"{c * self.groups}, {k}, kernel_size={r if r == s else (r, s)}"
        for name, plain in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)):
            if getattr(self, name) != plain:
                shown += f", {name}={getattr(self, name)}"
        return shown + (", bias=False" if self.bias is None else "")


class ConvTranspose2d(Module):
    """Adjoint of a convolution ("deconvolution", "up-convolution"): (N,P,Q,in_channels) -> (N,H,W,out_channels).

    `weight` is (R,S,out_channels/groups,in_channels): the filter of the convolution that goes the other way.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        seed: Seed = None,
    ):
        _check_groups("ConvTranspose2d", in_channels, out_channels, groups)
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.dilation, self.groups = dilation, groups
        self.weight = Parameter(init.zeros((*_pair(kernel_size), out_channels // groups, in_channels)))
        self.bias = Parameter(init.zeros((out_channels,))) if bias else None
        self.reset_parameters(seed)

    def reset_parameters(self, seed: Seed = 0) -> None:
        _uniform(self.weight, self.bias, seed)

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.dilation, self.groups
        )

    def _options(self):
        r, s, c, k = self.weight.shape
        shown = f"{k}, {c * self.groups}, kernel_size={r if r == s else (r, s)}, stride={self.stride}"
        for name, plain in (("padding", 0), ("output_padding", 0), ("dilation", 1), ("groups", 1)):
            if getattr(self, name) != plain:
                shown += f", {name}={getattr(self, name)}"
        return shown + (", bias=False" if self.bias is None else "")


class Linear(Module):
    """y = x weight + bias over the last axis: (..., in_features) -> (..., out_features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, seed: Seed = None):
        self.weight = Parameter(init.zeros((in_features, out_features)))
        self.bias = Parameter(init.zeros((out_features,))) if bias else None
        self.reset_parameters(seed)

    def reset_parameters(self, seed: Seed = 0) -> None:
        _uniform(self.weight, self.bias, seed)

    def forward(self, x: Tensor) -> Tensor:
        y = ops.matmul(x, self.weight)
        return y if self.bias is None else y + self.bias

    def _options(self):
        return "{}, {}".format(*self.weight.shape) + (", bias=False" if self.bias is None else "")


def _check_groups(layer, in_channels, out_channels, groups):
    if in_channels % groups or out_channels % groups:
        raise ValueError(f"{layer}: {in_channels} and {out_channels} channels do not divide into {groups} groups")


def _uniform(weight, bias, seed):
    """PyTorch's start: variance 1 / (3 fan_in), which is the bound 1/sqrt(fan_in), for weight and bias."""
    rng = np.random.default_rng(seed)
    weight.assign(init.kaiming_uniform(weight.shape, rng, gain=1 / 3))
    if bias is not None:
        bias.assign(init.uniform(bias.shape, max(init.fans(weight.shape)[0], 1) ** -0.5, rng))


class BatchNorm2d(Module):
    """y = (x - mean) / sqrt(var + eps) * weight + bias for each channel. Ioffe & Szegedy 2015.

    Mean and variance are the batch's in training, which also moves the running ones by `momentum` (the variance
    unbiased), and the running ones in evaluation and after `freeze()`. affine=False leaves out weight and bias.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True):
        self.eps, self.momentum, self.frozen = eps, momentum, False
        self.weight = Parameter(np.ones(channels)) if affine else None
        self.bias = Parameter(np.zeros(channels)) if affine else None
        self.running_mean = Buffer(np.zeros(channels))
        self.running_var = Buffer(np.ones(channels))

    def reset_parameters(self, seed: Seed = 0) -> None:
        channels = self.running_mean.shape
        self.running_mean.assign(np.zeros(channels))
        self.running_var.assign(np.ones(channels))
        if self.weight is not None:
            self.weight.assign(np.ones(channels))
            self.bias.assign(np.zeros(channels))

    def freeze(self, affine: bool = True) -> "BatchNorm2d":
        """Use the running statistics from now on, in training too; `affine`: weight and bias stop training as well."""
        self.frozen = True
        if affine and self.weight is not None:
            self.weight.requires_grad = self.bias.requires_grad = False
        return self

    def forward(self, x: Tensor) -> Tensor:
        return ops.batch_norm(x, *self._arguments())

    def forward_relu(self, x: Tensor) -> Tensor:
        """relu(forward(x)) in one pass over memory."""
        return ops.batch_norm_relu(x, *self._arguments())

    def _arguments(self):
        batch_statistics = self.training and not self.frozen
        return (
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            batch_statistics,
            self.momentum,
            self.eps,
        )

    def _options(self):
        return f"{self.running_mean.size}" + (", frozen" if self.frozen else "")


def freeze_batch_norm(module: Module, affine: bool = True) -> Module:
    """`freeze` every batch norm inside a module, which is returned: what weights trained elsewhere want."""
    for inner in module.modules():
        if isinstance(inner, BatchNorm2d):
            inner.freeze(affine)
    return module


class ReLU(Module):
    """max(x, 0)"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class Identity(Module):
    """x"""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Sequential(Module):
    """Layer after layer. Names are the layers' numbers: `0.weight`. Indexing, len and iteration are those of a list."""

    def __init__(self, *layers: Module):
        self.layers = list(layers)

    def members(self):
        return ((str(i), layer) for i, layer in enumerate(self.layers))

    def __getitem__(self, i):
        return self.layers[i]

    def __len__(self):
        return len(self.layers)

    def forward(self, x: Tensor | list[Tensor]) -> Tensor:
        """Run the layers in order. A convolution, the batch norm behind it and the ReLU behind that are one operation,
        and so is each pair of neighbours among them."""
        i = 0
        while i < len(self.layers):
            kinds = [type(layer) for layer in self.layers[i : i + 3]]
            layer, *following = self.layers[i : i + 3]
            if kinds == [Conv2d, BatchNorm2d, ReLU]:
                x, i = layer.forward_norm(x, following[0], relu=True), i + 3
            elif kinds[:2] == [Conv2d, BatchNorm2d]:
                x, i = layer.forward_norm(x, following[0]), i + 2
            elif kinds[:2] in ([Conv2d, ReLU], [BatchNorm2d, ReLU]):
                x, i = layer.forward_relu(x), i + 2
            else:
                x, i = layer(x), i + 1
        return x


class MaxPool2d(Module):
    """The largest value of each window. With return_indices=True also where it stood, for MaxUnpool2d."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return ops.max_pool2d(
            x,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )

    def _options(self):
        return f"{self.kernel_size}, stride={self.stride or self.kernel_size}"


class MaxUnpool2d(Module):
    """Put values back where a max-pooling found them, zeros elsewhere; `output_size` (H,W) is the pooling's input."""

    def forward(self, x: Tensor, indices: Tensor, output_size: tuple[int, int]) -> Tensor:
        return ops.max_unpool2d(x, indices, output_size)


class AvgPool2d(Module):
    """The mean of each window."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(
            x,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )

    def _options(self):
        return f"{self.kernel_size}, stride={self.stride or self.kernel_size}"


class AdaptiveAvgPool2d(Module):
    """Means over a grid of `output_size` cells that covers the image, whatever its size."""

    def __init__(self, output_size: Size):
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.output_size)

    def _options(self):
        return f"{self.output_size}"


class Upsample(Module):
    """Resize to `size` (H,W) or by `scale_factor`, "nearest" or "bilinear"."""

    def __init__(
        self,
        size: Size | None = None,
        scale_factor: float | tuple[float, float] | None = None,
        mode: str = "nearest",
        align_corners: bool = False,
    ):
        if (size is None) == (scale_factor is None):
            raise ValueError("Upsample: give size or scale_factor, one of the two")
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        return ops.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def _options(self):
        return f"{self.size or f'x{self.scale_factor}'}, {self.mode!r}"


class Dropout(Module):
    """In training, each value is 0 with probability p and x / (1-p) else. Srivastava et al. 2014.

    The generator is the layer's own; `Module.random_state` saves it, so that a resumed run draws what it would have.
    """

    def __init__(self, p: float = 0.5, seed: Seed = None):
        if not 0 <= p < 1:
            raise ValueError(f"{type(self).__name__}: p is {p}, expected a probability below 1")
        self.p = p
        self.reset_parameters(seed)

    def reset_parameters(self, seed: Seed = 0) -> None:
        # A generator of its own, whatever the layer is given: what one layer draws must not depend on its neighbours.
        self.generator = np.random.default_rng(np.random.default_rng(seed).integers(2**63))

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, self.training, seed=self.generator)

    def _options(self):
        return f"{self.p}"


class Dropout2d(Dropout):
    """Dropout of whole channels of an image. Tompson et al. 2015."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout2d(x, self.p, self.training, seed=self.generator)
