"""A step captured once and replayed: on a GPU one launch in place of hundreds, so that no layer waits for Python.

    predict = ts.graph(model.eval(), images)                the forward pass for images of this shape
    logits = predict(images)

    def forward_backward(images, masks):
        optimizer.zero_grad()
        with ts.autocast():
            loss = ts.ops.cross_entropy(model(images), masks)
        scaler.scale(loss).backward()
        return loss

    step = ts.graph(forward_backward, images, masks)
    for batch in loader:
        loss = step(batch.images, batch.masks)
        scaler.step(optimizer, schedule(i))

A graph (NVIDIA's word for a recorded sequence of launches) reads and writes the same memory at each replay. So inputs
are copied into the tensors that it was captured with, and results, gradients too, hold their values until the next
call; `zero_grad` stands inside, where the gradients are made anew. What operators check on the device (a class that
does not exist, say) is checked at every replay: the error comes, as always on a GPU, where next a value is read.
"""

from collections.abc import Callable

import numpy as np

from .device import Device
from .tensor import Tensor, tensor


class Graph:
    """What `graph` returns; call it on inputs of the same shapes and types."""

    def __init__(self, function: Callable, inputs: tuple[Tensor, ...]):
        self.device: Device = inputs[0].device
        self.inputs = [Tensor(self.device.copy(t.data), self.device) for t in inputs]
        self._function, self._result = function, None
        self._replay = self.device.captured(self._run)

    def _run(self):
        self._result = self._function(*self.inputs)

    def __call__(self, *inputs):
        if len(inputs) != len(self.inputs):
            raise TypeError(f"graph: got {len(inputs)} inputs, it was captured with {len(self.inputs)}")
        new = [t if isinstance(t, Tensor) else tensor(np.asarray(t), self.device) for t in inputs]
        for i, (own, t) in enumerate(zip(self.inputs, new)):
            if (own.shape, own.dtype) != (t.shape, t.dtype):
                raise ValueError(
                    f"graph: input {i} is {t.dtype} {t.shape}, it was captured with {own.dtype} {own.shape}; "
                    "cure: one graph for each shape, or ts.graph's function itself"
                )
        for own, t in zip(self.inputs, new):
            own.data[...] = t.to(self.device).data
        self._replay()
        return self._result


def graph(function: Callable, *inputs) -> Graph:
    """The function, captured on a GPU for inputs of these shapes: a call is then one launch. See this module for how.

    The function takes tensors without a gradient of their own and returns tensors. On a GPU it is run twice (running
    statistics move) and recorded once, here; what it does beside launching kernels happens then and never again: it may
    not read values, draw random numbers (dropout), or step an optimiser. On other devices a call runs the function.

    Raises RuntimeError where the function does what a replay could not, ValueError for inputs of other shapes or types.
    Example:
        step = ts.graph(forward_backward, images, masks)
    """
    if not inputs:
        raise TypeError("graph: got no inputs; expected the tensors (or arrays on the CPU) that the function takes")
    first = next((t for t in inputs if isinstance(t, Tensor)), None)
    device = first.device if first is not None else "cpu"
    return Graph(function, tuple(t if isinstance(t, Tensor) else tensor(np.asarray(t), device) for t in inputs))
