"""Mixed precision: what beside `autocast` it takes to train in float16.

float16 has 5 bits of exponent: gradients below 6e-8 vanish, and above 65504 they overflow. So the loss is multiplied by
a large number before backward, which multiplies all gradients by it, and they are divided by it where the optimiser, in
float32, reads them. The number is the largest that does not overflow: it doubles after many good steps, and is halved
when nan or inf is found in a gradient; that step is skipped. Micikevicius et al., "Mixed precision training", 2018.

    scaler = ts.amp.LossScaler()
    for batch in loader:
        with ts.autocast():
            loss = ...
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if not scaler.step(optimizer, schedule(i), max_norm=1.0):
            print(scaler.message)
"""

import math

from .precision import autocast
from .tensor import Tensor, tensor

__all__ = ["LossScaler", "autocast"]


class LossScaler:
    """The loss's scale: doubled after `patience` good steps in a row, halved at an overflow, from 2^-14 to 2^24."""

    def __init__(self, scale: float = 2.0**16, patience: int = 2000):
        if not (scale > 0 and math.isfinite(scale)) or patience < 1:
            raise ValueError(f"LossScaler: got scale {scale} and patience {patience}, expected numbers above 0")
        self.value, self.patience = float(scale), patience
        self.good_steps = 0  # since the scale last changed
        self.skipped_in_a_row = 0
        self.message = ""  # what the last skipped step says
        self._tensor: Tensor | None = None  # the scale where the loss is: a captured step reads it there

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to call backward on."""
        if self._tensor is None or self._tensor.device != loss.device or self._tensor.dtype != loss.dtype:
            self._tensor = tensor(loss.dtype.type(self.value), loss.device)
        return loss * self._tensor

    def step(self, optimizer, factor: float = 1.0, max_norm: float = 0.0) -> bool:
        """optimizer.step(factor) on the gradients without their scale, clipped to `max_norm` (0: not clipped).

        Where a gradient holds nan or inf nothing is updated, the scale is halved, `message` says so, and the result is
        False. The device is waited for once.
        """
        norm = optimizer.grad_norm() / self.value
        if not math.isfinite(norm):
            self.overflow("a gradient")
            return False
        clip = max_norm / norm if 0 < max_norm < norm else 1.0
        optimizer.step(factor, clip / self.value)
        self.skipped_in_a_row = 0
        self.good_steps += 1
        if self.good_steps >= self.patience:
            self._change(min(2 * self.value, 2.0**24))
        return True

    def overflow(self, what: str = "the loss") -> None:
        """Take note of a step that is skipped since `what` holds nan or inf."""
        self._change(max(self.value / 2, 2.0**-14))
        self.skipped_in_a_row += 1
        self.message = f"{what} is nan or inf in float16: the step is skipped, the loss's scale is now {self.value:g}"

    def _change(self, value: float) -> None:
        self.value, self.good_steps = value, 0
        if self._tensor is not None:
            self._tensor.data.fill(value)

    def state_dict(self) -> dict[str, float]:
        """All that a later run needs to go on."""
        names = "value", "good_steps", "skipped_in_a_row"
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a `state_dict`."""
        self._change(float(state["value"]))
        self.good_steps, self.skipped_in_a_row = int(state["good_steps"]), int(state["skipped_in_a_row"])
