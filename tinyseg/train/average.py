"""A running average of the weights: one that a single batch moves little is often the better model.

    a <- d a + (1 - d) w         after each step,   d = min(decay, (1 + t) / (10 + t)) in step t = 0, 1, ...

w are the parameters and the running statistics of batch norm, which belong to them. The average looks back over about
1 / (1 - decay) steps, and at the beginning, where there are none yet, over a part of those there were: it forgets the
initial weights. Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", 1992; in this form as in
Tarvainen & Valpola, "Mean teachers are better role models", 2017.
"""

from contextlib import contextmanager

import numpy as np

from ..ops.multi_tensor import Tables, sgd_all
from ..ops.optimizer import descend


class Average:
    """The average of a model's weights. It begins with the weights as they are.

    Example:
        average = Average(model, 0.999)
        for t in range(steps):
            ...
            optimizer.step()
            average.update(t)
        with averaged(average):
            ts.save("model.npz", model)
    """

    def __init__(self, model, decay: float):
        self.decay, self.states = decay, [*model.parameters(), *model.buffers()]
        self.tables: Tables | None = None  # for devices on which one launch for all is quicker
        self.restart()

    def restart(self) -> None:
        """Begin anew with the weights as they are now."""
        self.arrays = [state.device.copy(state.data) for state in self.states]

    def update(self, step: int) -> None:
        """Follow the weights, after step number `step`, counted from 0."""
        rest, device = 1 - min(self.decay, (1 + step) / (10 + step)), self.states[0].device
        # Gradient descent with the gradient a - w is a -= lr (g + weight_decay a) with g = w and both numbers negative
        if device.has(sgd_all) and all(w.dtype == np.float32 for w in self.states):
            self.tables = self.tables or Tables(device, tuple(w.size for w in self.states))
            rows = [self.arrays, [w.data for w in self.states], [None] * len(self.states)]
            self.tables.update(sgd_all, rows, [(1, -rest, 0, -1, False)] * len(self.states))
            return
        for a, w in zip(self.arrays, self.states):
            number = w.dtype.type
            device.launch(descend, a.reshape(-1), w.data.reshape(-1), number(-rest), number(-1), w.size)

    def exchange(self) -> None:
        """Put the average where the weights are, and the weights aside; and back."""
        for i, state in enumerate(self.states):
            state.data, self.arrays[i] = self.arrays[i], state.data


@contextmanager
def averaged(average: Average | None):
    """Inside, the model has the averaged weights; without an average it stays as it is."""
    if average is None:
        yield
        return
    average.exchange()
    try:
        yield
    finally:
        average.exchange()
