"""The larger, the smaller, the one or the other, and the comparisons that such choices rest on."""

import numpy as np

from ..tensor import Function, Tensor
from .elementwise import Elementwise, Operand, common_dtype, common_shape


class Maximum(Elementwise):
    """y = max(a, b); the gradient goes to the larger, half to each where they are equal"""

    def forward(self, a, b):
        self.shapes, self.a, self.b = (a.shape, b.shape), a, b
        return self.new(self.device.xp.maximum, a, b)

    def backward(self, dy):
        halves, half = (self.a > self.b, self.a >= self.b), dy.dtype.type(0.5) * dy
        return self.back(
            self.passed(half, halves[0]) + self.passed(half, halves[1]) if self.needs[0] else None,
            self.passed(half, ~halves[0]) + self.passed(half, ~halves[1]) if self.needs[1] else None,
        )


class Minimum(Maximum):
    """y = min(a, b); the gradient goes to the smaller, half to each where they are equal"""

    def forward(self, a, b):
        self.shapes, self.a, self.b = (a.shape, b.shape), b, a  # a wins where b > a
        return self.new(self.device.xp.minimum, a, b)


class Where(Elementwise):
    """y = a where the condition holds, else b; the gradient goes to the one chosen"""

    def forward(self, condition, a, b):
        if condition.dtype.kind != "b":
            raise TypeError(f"where: condition has dtype {condition.dtype}, expected bool; cure: condition != 0")
        self.shapes, self.condition = (condition.shape, a.shape, b.shape), condition
        y = self.device.empty(common_shape("where", condition, a, b), common_dtype("where", a, b))
        y[...] = self.device.xp.where(condition, a, b)
        return y

    def backward(self, dy):
        return self.back(
            None,
            self.passed(dy, self.condition) if self.needs[1] else None,
            self.passed(dy, ~self.condition) if self.needs[2] else None,
        )


class Clip(Elementwise):
    """y = min(max(x, low), high),  dx = dy where low <= x <= high, else 0"""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def forward(self, x):
        xp = self.device.xp
        y = self.device.empty(x.shape, x.dtype)
        xp.clip(x, self.low, self.high, out=y)
        self.inside = (y == x) if any(self.needs) else None
        return y

    def backward(self, dy):
        return self.passed(dy, self.inside)


class Compare(Function):
    """y = a < b and its kind, as booleans. Has no gradient."""

    def __init__(self, relation):
        self.relation = relation

    def forward(self, a, b):
        y = self.device.empty(common_shape(self.relation, a, b), np.bool)
        return getattr(self.device.xp, self.relation)(a, b, out=y)


def maximum(a: Operand, b: Operand) -> Tensor:
    """The larger of two, element by element; where they are equal each takes half of the gradient."""
    return Maximum()(a, b)


def minimum(a: Operand, b: Operand) -> Tensor:
    """The smaller of two, element by element; where they are equal each takes half of the gradient."""
    return Minimum()(a, b)


def where(condition: Operand, a: Operand, b: Operand) -> Tensor:
    """a where the condition (bool) holds, else b. Shapes broadcast. Raises TypeError if the condition is not bool.

    Example:
        y = ts.ops.where(mask != 255, loss, 0.0)
    """
    return Where()(condition, a, b)


def clip(x: Operand, min: float | None = None, max: float | None = None) -> Tensor:
    """x brought between two numbers, of which None leaves a side open; outside of them the gradient is 0.

    Raises ValueError if neither is given.
    """
    if min is None and max is None:
        raise ValueError("clip: expected min, max or both, got neither")
    return Clip(min, max)(x)


def equal(a: Operand, b: Operand) -> Tensor:
    """a == b as bool; without a gradient."""
    return Compare("equal")(a, b)


def not_equal(a: Operand, b: Operand) -> Tensor:
    """a != b as bool; without a gradient."""
    return Compare("not_equal")(a, b)


def less(a: Operand, b: Operand) -> Tensor:
    """a < b as bool; without a gradient."""
    return Compare("less")(a, b)


def less_equal(a: Operand, b: Operand) -> Tensor:
    """a <= b as bool; without a gradient."""
    return Compare("less_equal")(a, b)


def greater(a: Operand, b: Operand) -> Tensor:
    """a > b as bool; without a gradient."""
    return Compare("greater")(a, b)


def greater_equal(a: Operand, b: Operand) -> Tensor:
    """a >= b as bool; without a gradient."""
    return Compare("greater_equal")(a, b)
