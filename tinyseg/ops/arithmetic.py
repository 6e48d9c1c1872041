"""Arithmetic, powers, exponentials and logarithms, element by element.

NumPy does the work, on one core; the sum of two equal shapes, which every residual network does on its largest arrays,
has a kernel that uses all cores.
"""

import numpy as np
from numba import prange

from ..kernel import kernel
from ..tensor import Tensor
from .elementwise import Elementwise, Operand, floats

LARGE = 1 << 15  # elements from which several threads are worth their start


@kernel
def add_flat(y, a, b, n):
    """y[i] = a[i] + b[i]. Parallel over i, in one run for each thread."""
    for i in prange(n):
        y[i] = a[i] + b[i]


def sum_of(device, a, b):
    """a + b of one shape and dtype, on all cores where that is worth their start."""
    y = device.empty(a.shape, a.dtype)
    if a.size >= LARGE and a.dtype.kind == "f":
        device.launch(add_flat, y.reshape(-1), a.reshape(-1), b.reshape(-1), y.size)
        return y
    return device.xp.add(a, b, out=y)


class Add(Elementwise):
    """y = a + b,  da = dy,  db = dy"""

    takes_half = "alone"

    def forward(self, a, b):
        self.shapes = a.shape, b.shape
        if a.shape == b.shape and a.dtype == b.dtype:
            return sum_of(self.device, a, b)
        return self.new(self.device.xp.add, a, b)

    def backward(self, dy):
        return self.back(*(dy if need else None for need in self.needs))


class Sub(Elementwise):
    """y = a - b,  da = dy,  db = -dy"""

    def forward(self, a, b):
        self.shapes = a.shape, b.shape
        return self.new(self.device.xp.subtract, a, b)

    def backward(self, dy):
        da, db = self.back(*(dy if need else None for need in self.needs))
        return da, None if db is None else self.new(self.device.xp.negative, db)


class Mul(Elementwise):
    """y = a b,  da = b dy,  db = a dy"""

    def forward(self, a, b):
        self.shapes = a.shape, b.shape
        self.a, self.b = a if self.needs[1] else None, b if self.needs[0] else None
        return self.new(self.device.xp.multiply, a, b)

    def backward(self, dy):
        multiply = self.device.xp.multiply
        return self.back(
            self.new(multiply, self.b, dy) if self.needs[0] else None,
            self.new(multiply, self.a, dy) if self.needs[1] else None,
        )


class Div(Elementwise):
    """y = a / b,  da = dy / b,  db = -y dy / b"""

    def forward(self, a, b):
        self.shapes, self.b = (a.shape, b.shape), b
        y = self.new(self.device.xp.divide, a, b, real=True)
        self.y = y if self.needs[1] else None
        return y

    def backward(self, dy):
        da = self.new(self.device.xp.divide, dy, self.b)
        return self.back(da, self.new(self.device.xp.multiply, -self.y, da) if self.needs[1] else None)


class Neg(Elementwise):
    """y = -x,  dx = -dy"""

    def forward(self, x):
        return self.new(self.device.xp.negative, x)

    def backward(self, dy):
        return self.new(self.device.xp.negative, dy)


class Power(Elementwise):
    """y = x^e for one number e,  dx = e x^(e-1) dy"""

    def __init__(self, exponent):
        self.exponent = exponent

    def forward(self, x):
        self.x = x
        return self.power(x, self.exponent)

    def backward(self, dy):
        if self.exponent == 0:
            return self.new(self.device.xp.multiply, dy, dy.dtype.type(0))
        slope = self.power(self.x, self.exponent - 1)
        slope *= self.exponent
        slope *= dy
        return slope

    def power(self, x, e):
        if e == 2:  # many times faster than the general power
            return self.new(self.device.xp.multiply, x, x)
        if not isinstance(e, int) or e < 0:
            x = floats(x)
        return self.new(self.device.xp.power, x, self.device.xp.asarray(e, x.dtype))


class Pow(Elementwise):
    """y = a^b,  da = b a^(b-1) dy,  db = y log(a) dy, and 0 where a = 0"""

    def forward(self, a, b):
        self.shapes, self.a, self.b = (a.shape, b.shape), a, b
        self.y = self.new(self.device.xp.power, a, b)
        return self.y

    def backward(self, dy):
        xp, a, b = self.device.xp, self.a, self.b
        da = db = None
        if self.needs[0]:
            da = self.new(xp.multiply, b * xp.power(a, b - 1), dy)
        if self.needs[1]:
            db = self.new(xp.multiply, self.y * xp.log(xp.where(a == 0, 1, a)), dy)
        return self.back(da, db)


class Abs(Elementwise):
    """y = |x|,  dx = sign(x) dy"""

    def forward(self, x):
        self.x = x
        return self.new(self.device.xp.absolute, x)

    def backward(self, dy):
        return self.new(self.device.xp.multiply, self.device.xp.sign(self.x), dy)


class Exp(Elementwise):
    """y = e^x,  dx = y dy"""

    def forward(self, x):
        self.y = self.new(self.device.xp.exp, x, real=True)
        return self.y

    def backward(self, dy):
        return self.new(self.device.xp.multiply, self.y, dy)


class Log(Elementwise):
    """y = log(x),  dx = dy / x"""

    def forward(self, x):
        self.x = x
        return self.new(self.device.xp.log, x, real=True)

    def backward(self, dy):
        return self.new(self.device.xp.divide, dy, self.x)


class Sqrt(Elementwise):
    """y = sqrt(x),  dx = dy / (2 y)"""

    def forward(self, x):
        self.y = self.new(self.device.xp.sqrt, x, real=True)
        return self.y

    def backward(self, dy):
        return self.new(self.device.xp.divide, dy, 2 * self.y)


class Astype(Elementwise):
    """y = x in another dtype,  dx = dy in the dtype of x"""

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)

    def forward(self, x):
        self.before = x.dtype
        return self.cast(x, self.dtype)

    def backward(self, dy):
        return self.cast(dy, self.before)

    def cast(self, x, dtype):
        if x.dtype == dtype:
            return x
        y = self.device.empty(x.shape, dtype)
        y[...] = x
        return y


def add(a: Operand, b: Operand) -> Tensor:
    """a + b. Shapes broadcast; raises ValueError where they do not, TypeError for float32 beside float64."""
    return Add()(a, b)


def sub(a: Operand, b: Operand) -> Tensor:
    """a - b. Shapes broadcast; raises as `add` does."""
    return Sub()(a, b)


def mul(a: Operand, b: Operand) -> Tensor:
    """a b, element by element. Shapes broadcast; raises as `add` does."""
    return Mul()(a, b)


def div(a: Operand, b: Operand) -> Tensor:
    """a / b, in float32 if both are integers. Shapes broadcast; raises as `add` does."""
    return Div()(a, b)


def neg(x: Operand) -> Tensor:
    """-x."""
    return Neg()(x)


def pow(x: Operand, exponent: Operand) -> Tensor:
    """x^exponent. Shapes broadcast; a number as exponent needs no logarithm, and any x.

    The gradient with respect to a tensor exponent, x^e log(x), asks for x >= 0 (it is 0 at x = 0).
    """
    return Power(exponent)(x) if isinstance(exponent, int | float) else Pow()(x, exponent)


def abs(x: Operand) -> Tensor:
    """|x|; the gradient at 0 is 0."""
    return Abs()(x)


def exp(x: Operand) -> Tensor:
    """e^x."""
    return Exp()(x)


def log(x: Operand) -> Tensor:
    """The natural logarithm."""
    return Log()(x)


def sqrt(x: Operand) -> Tensor:
    """The square root."""
    return Sqrt()(x)


def astype(x: Operand, dtype) -> Tensor:
    """x in another dtype; between floats the gradient is cast back, an integer or bool result has none."""
    return Astype(dtype)(x)
