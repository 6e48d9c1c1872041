"""python -m tinyseg.ahead: compile the kernels of a training step that it comes to last.

The first step of a new installation compiles its kernels one by one, as it comes to them. Whoever makes an optimiser
is going to train, so by then (`Cpu.prepare`) this runs in a process of its own: what the step comes to in the second
half of its way is in the cache already. The kernels that take longest come first, as long as the step is not there
before them. A file in the cache folder tells that all is done.
"""

import numpy as np

from . import jit, nn, ops, optim
from .device import get_device
from .ops.conv.conv2d import backward_w, backward_x, channel_sum, forward
from .ops.conv.geometry import Options
from .tensor import tensor


def main() -> None:
    cpu = get_device("cpu")
    cpu.prepared = True  # this is the helper
    for task in (filter_gradients, many_filters, direct_gradients, normalisation, pooling, loss, optimizers, rest):
        task(cpu)
    jit.ahead_mark().touch()


def convolution(cpu, taps: int, c: int, k: int, side: int, stride: int = 1):
    """x, w, y and the geometry of a small convolution."""
    g = Options.of("ahead", stride, taps // 2, 1, 1).geometry((1, side, side, c), (taps, taps, c, k))
    return g, *(cpu.zeros(shape) for shape in (g.x_shape, g.w_shape, g.y_shape))


def optimizers(cpu):
    parameter = nn.Parameter(np.zeros(4))
    for optimizer in (optim.SGD([parameter], lr=0.1, momentum=0.9), optim.AdamW([parameter], lr=0.1)):
        parameter.grad = tensor(np.zeros(4, np.float32))
        optimizer.step()


def pooling(cpu):
    x = tensor(np.zeros((1, 8, 8, 32), np.float32), requires_grad=True)
    ops.max_pool2d(x, 2).backward(np.zeros((1, 4, 4, 32)))
    large = cpu.zeros((1 << 16,))
    ops.add(large, large)  # what two branches give to one tensor


def filter_gradients(cpu):
    g, x, _, y = convolution(cpu, 3, 32, 32, 8)
    backward_w(cpu, g, y, x)


def normalisation(cpu):
    x = tensor(np.zeros((1, 8, 8, 32), np.float32), requires_grad=True)
    ops.batch_norm_relu(x, None, None, None, None, True).backward(np.zeros(x.shape))


def direct_gradients(cpu):
    g, x, _, y = convolution(cpu, 1, 32, 8, 8)
    backward_w(cpu, g, y, x)
    channel_sum(cpu, y)


def loss(cpu):
    x = tensor(np.zeros((1, 8, 8, 5), np.float32), requires_grad=True)
    ops.cross_entropy(x, np.zeros((1, 8, 8), np.int32)).backward()


def many_filters(cpu):
    g, x, w, _ = convolution(cpu, 3, 256, 256, 4)
    forward(cpu, g, x, w)


def rest(cpu):
    for shape in ((3, 32, 32, 8), (3, 3, 32, 8), (2, 32, 32, 8, 2)):
        g, x, w, y = convolution(cpu, *shape)
        forward(cpu, g, x, w)
        backward_x(cpu, g, y, w)


if __name__ == "__main__":
    main()
