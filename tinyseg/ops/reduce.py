"""Sums and their kin over any axes:  y = f(x[i] for i along the axes),  dx = df/dx dy, dy repeated along the axes.

`axis` is None (all), a number or several; `keepdims` leaves each as an axis of length 1, as NumPy does. Sums run axis
by axis where NumPy would add one term at a time, so that float32 stays good over millions of pixels.
"""

import math

import numpy as np

from ..tensor import Function, Tensor
from .elementwise import Operand, floats

Axis = int | tuple[int, ...] | None


class Reduction(Function):
    """What the functions below share: the axes, and the two shapes that the result has, with and without them."""

    def __init__(self, axis, keepdims):
        self.axis, self.keepdims = axis, keepdims

    @property
    def op(self) -> str:
        return type(self).__name__.lower()

    def begin(self, x, empty=False):
        """Find the axes, `kept` (the result's shape with the axes as 1), `shape` (what the user asked for), `count`."""
        ndim, axis = x.ndim, self.axis
        asked = range(ndim) if axis is None else (axis,) if isinstance(axis, int | np.integer) else axis
        self.axes = tuple(sorted({a % ndim for a in asked if -ndim <= a < ndim}))
        if len(self.axes) != len(asked):
            raise ValueError(f"{self.op}: axis {axis} does not fit x of shape {x.shape}; expected distinct axes of x")
        self.whole = x.shape
        self.kept = tuple(1 if i in self.axes else n for i, n in enumerate(x.shape))
        self.shape = self.kept if self.keepdims else tuple(n for i, n in enumerate(x.shape) if i not in self.axes)
        self.count = math.prod(x.shape[a] for a in self.axes)
        if self.count == 0 and not empty:
            raise ValueError(f"{self.op}: there is nothing to reduce in x of shape {x.shape} over axis {axis}")

    def total(self, x):
        """The sum over the axes, of shape `kept`. Axes at the end lie together in memory and are summed as one."""
        end = x.ndim
        while end - 1 in self.axes:
            end -= 1
        axes = [a for a in self.axes if a < end] + [end] * (end < x.ndim)
        x = x.reshape(*x.shape[:end], math.prod(x.shape[end:])) if end < x.ndim else x
        dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.int64)
        for a in reversed(axes):
            y = self.device.empty((*x.shape[:a], 1, *x.shape[a + 1 :]), dtype)
            x = self.device.xp.sum(x, axis=a, keepdims=True, dtype=dtype, out=y)
        return x.reshape(self.kept)

    def spread(self, dy):
        """dy repeated along the axes that were reduced: the adjoint of `total`."""
        return self.device.xp.broadcast_to(dy.reshape(self.kept), self.whole)

    def product(self, a, b):
        """a b in a new array of x's shape, b of shape `kept`."""
        return self.device.xp.multiply(a, b, out=self.device.empty(self.whole, b.dtype))


class Sum(Reduction):
    """y = sum x[i],  dx[i] = dy"""

    def forward(self, x):
        self.begin(x, empty=True)
        return self.total(x).reshape(self.shape)

    def backward(self, dy):
        return self.spread(dy)


class Mean(Reduction):
    """y = sum x[i] / n,  dx[i] = dy / n"""

    def forward(self, x):
        self.begin(x)
        return (self.total(floats(x)) / self.count).reshape(self.shape)

    def backward(self, dy):
        return self.spread(dy / self.count)


class Var(Reduction):
    """y = sum (x[i] - m)^2 / (n - correction) with the mean m,  dx[i] = 2 (x[i] - m) dy / (n - correction)"""

    def __init__(self, axis, keepdims, correction):
        super().__init__(axis, keepdims)
        self.correction = correction

    def forward(self, x):
        self.begin(x)
        self.n = self.count - self.correction
        if self.n <= 0:
            raise ValueError(f"var: {self.count} values are too few for correction={self.correction}")
        x = floats(x)
        self.centred = x - self.total(x) / self.count
        return (self.total(self.centred * self.centred) / self.n).reshape(self.shape)

    def backward(self, dy):
        return self.product(self.centred, dy.reshape(self.kept) * (2 / self.n))


class Max(Reduction):
    """y = max x[i],  dx[i] = dy where x[i] = y, in equal shares if several are"""

    def forward(self, x):
        self.begin(x)
        self.x, self.y = x, self.device.empty(self.kept, x.dtype)
        getattr(self.device.xp, self.op)(x, axis=self.axes, keepdims=True, out=self.y)
        return self.y.reshape(self.shape)

    def backward(self, dy):
        hit = self.x == self.y
        share = dy.reshape(self.kept) / hit.sum(axis=self.axes, keepdims=True, dtype=dy.dtype)
        return self.product(hit, share)


class Min(Max):
    """y = min x[i],  dx[i] = dy where x[i] = y, in equal shares if several are"""


class LogSumExp(Reduction):
    """y = log sum e^x[i] = m + log sum e^(x[i] - m) with the maximum m,  dx[i] = e^(x[i] - y) dy"""

    def forward(self, x):
        self.begin(x)
        xp, self.x = self.device.xp, floats(x)
        m = self.finite(self.x.max(axis=self.axes, keepdims=True))
        with np.errstate(divide="ignore"):  # log 0 = -inf, when all of x is -inf
            self.y = m + xp.log(self.total(xp.exp(self.x - m)))
        return self.y.reshape(self.shape)

    def backward(self, dy):
        p = self.device.xp.exp(self.x - self.finite(self.y))
        return self.product(p, dy.reshape(self.kept))

    def finite(self, y):
        return self.device.xp.where(self.device.xp.isinf(y), 0, y)


def sum(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over one axis, several or all (None).

    Shapes: x any; without `keepdims` the axes are gone, with it they have length 1. Integers add up in int64.
    Raises ValueError for an axis that x lacks or that is named twice.
    Example:
        per_channel = ts.ops.sum(x, axis=(0, 1, 2))     # (N,H,W,C) -> (C,)
    """
    return Sum(axis, keepdims)(x)


def mean(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over one axis, several or all (None); of integers in float32. Raises ValueError if there is no value."""
    return Mean(axis, keepdims)(x)


def var(x: Operand, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Tensor:
    """The variance over axes: sum (x - mean)^2 / (n - correction); correction=1 makes it unbiased.

    Raises ValueError if n <= correction, or if there is no value.
    """
    return Var(axis, keepdims, correction)(x)


def max(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest value over axes; equal ones share the gradient. Raises ValueError if there is no value."""
    return Max(axis, keepdims)(x)


def min(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest value over axes; equal ones share the gradient. Raises ValueError if there is no value."""
    return Min(axis, keepdims)(x)


def logsumexp(x: Operand, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log sum e^x over axes, without overflow; -inf where all of x is. Raises ValueError if there is no value."""
    return LogSumExp(axis, keepdims)(x)
