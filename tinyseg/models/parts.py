"""What several papers share: convolution with batch norm, FCN head, pooled context, auxiliary head, resizing."""

from .. import ops
from ..nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, Module, ReLU, Sequential
from ..tensor import Tensor


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1) -> Sequential:
    """A convolution that keeps the size, without bias, batch norm, ReLU."""
    padding = dilation * (kernel_size // 2)
    conv = Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False)
    return Sequential(conv, BatchNorm2d(out_channels), ReLU())


def fcn_head(in_channels: int, channels: int, num_classes: int, dropout: type[Dropout] = Dropout) -> Sequential:
    """3x3 convolution to `channels`, batch norm, ReLU, dropout of 0.1, 1x1 convolution to the classes."""
    return Sequential(*conv_bn_relu(in_channels, channels, 3).layers, dropout(0.1), Conv2d(channels, num_classes, 1))


class PooledContext(Sequential):
    """The mean of each of bins x bins parts of the map: pooled, 1x1 convolution, batch norm, ReLU, enlarged.

    Where a channel has one value in the whole batch (one bin, one image) it has no statistics: the batch norm then
    uses the running ones, in training too, and leaves them as they are.

    Shapes: (N,H,W,in_channels) -> (N,H,W,out_channels)
    """

    def __init__(self, in_channels: int, out_channels: int, bins: int = 1, align_corners: bool = False):
        super().__init__(AdaptiveAvgPool2d(bins), *conv_bn_relu(in_channels, out_channels).layers)
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        pool, conv, bn, _ = self.layers
        y = pool(x)
        if y.size > y.shape[3]:
            y = conv.forward_norm(y, bn, relu=True)
        else:
            state = bn.running_mean, bn.running_var, bn.weight, bn.bias
            y = ops.batch_norm_relu(conv(y), *state, training=False, eps=bn.eps)
        return ops.interpolate(y, x.shape[1:3], mode="bilinear", align_corners=self.align_corners)


class Auxiliary(Module):
    """Base of models that also classify an inner map in training, which helps the gradient to reach the front.

    In training such a model returns (logits, auxiliary logits), both of the image's size; the loss is
    L(logits) + weight * L(auxiliary logits), the weight its recipe's `aux_weights`. In evaluation, and without `aux`,
    it returns the logits alone.
    """

    align_corners = False

    def outputs(self, x: Tensor, y: Tensor | list[Tensor], inner: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """What forward returns: `y` classified and enlarged to the image x; in training `inner` beside it."""
        logits = resize(self.classifier(y), x, self.align_corners)
        if self.aux_classifier is None or not self.training:
            return logits
        return logits, resize(self.aux_classifier(inner), x, self.align_corners)


def resize(y: Tensor, x: Tensor, align_corners: bool) -> Tensor:
    """y enlarged to the height and width of x."""
    return ops.interpolate(y, x.shape[1:3], mode="bilinear", align_corners=align_corners)
