"""What a model takes before it is run: parameters, multiply-adds, peak memory of a prediction and of a training step.

A dry run: the model is built without drawing weights, and its own forward and backward pass walked with shapes alone.
Memory is that of the CPU device's pool; what kernels keep in registers and caches, Python and the images waiting in the
loader are not in it. Multiply-adds are those of convolutions and transposed convolutions by their definition (Winograd
needs fewer) and of matrix products, read off the tape of one forward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import losses, nn, optim
from .dryrun import DryRun
from .tensor import Tensor, no_grad, tensor


@dataclass(frozen=True)
class Estimate:
    """Of one model at one size and batch: numbers, and bytes."""

    parameters: int
    multiply_adds: int  # of one forward pass of the batch
    prediction: int  # peak bytes of a forward pass in evaluation, weights included
    training: int  # peak bytes of a training step: weights, gradients, optimiser and activations
    activations: int  # bytes that the forward pass leaves for the backward pass

    def __str__(self):
        return (
            f"{self.parameters:,} parameters, {self.multiply_adds / 1e9:,.1f} billion multiply-adds forward\n"
            f"peak memory: {_size(self.training)} for a training step ({_size(self.activations)} of it kept for the "
            f"gradient), {_size(self.prediction)} for a prediction"
        )


def estimate(
    build: Callable[[], nn.Module],
    size: tuple[int, int],
    batch: int = 1,
    in_channels: int = 3,
    optimizer: Callable = optim.SGD,
    recompute: bool = False,
) -> Estimate:
    """What the model that `build()` makes takes for batches of (batch, *size, in_channels).

    The optimiser is made as optimizer(parameters, lr=0.0); SGD with momentum unless another is given. Of several
    logits (auxiliary heads) the losses are added. recompute: after `nn.recompute_blocks`. Raises what the model itself
    raises for a size that it cannot take.

    Example:
        estimate(lambda: ts.models.create("fcn8s", 21), (512, 512), batch=8)
    """
    device = DryRun()
    with nn.no_init(device):
        model = build()
    images = np.broadcast_to(np.float32(0), (batch, *size, in_channels))

    model.eval()
    with no_grad():
        model(tensor(images, device))
    prediction = device.peak

    model.train()
    outputs = model(tensor(images, device))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    work, activations = sum(multiply_adds(*outputs)), 0
    del outputs
    if recompute:
        nn.recompute_blocks(model)
    if optimizer is optim.SGD:
        learner = optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    else:
        learner = optimizer(model.parameters(), lr=0.0)
    device.reset_peak()
    for _ in range(2):  # in the second step the optimiser's arrays are there
        before = device.in_use
        outputs = model(tensor(images, device))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = sum(losses.cross_entropy(y, _target(y)) for y in outputs)
        activations = device.in_use - before
        del outputs
        learner.zero_grad()
        loss.backward()
        learner.step()
    return Estimate(model.parameter_count(), work, prediction, device.peak, activations)


def _target(logits: Tensor) -> np.ndarray:
    return np.zeros(logits.shape[:3], np.int32)


def multiply_adds(*outputs: Tensor) -> list[int]:
    """Of each convolution and matrix product in the graph of these tensors."""
    found, seen, todo = [], set(), [t.function for t in outputs if t.function is not None]
    while todo:
        function = todo.pop()
        if function in seen:
            continue
        seen.add(function)
        geometry = getattr(function, "g", None)
        if hasattr(geometry, "y_shape"):
            taps = geometry.R * geometry.S * geometry.C // geometry.groups
            found.append(int(np.prod(geometry.y_shape, dtype=np.int64)) * taps)
        todo += [edge[0] for edge in function._edges if edge is not None and hasattr(edge[0], "_edges")]
    return found


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
