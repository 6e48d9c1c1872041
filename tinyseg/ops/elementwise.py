"""Arithmetic and the functions that act on one element at a time, with NumPy's broadcasting.

    y = f(a, b)        da = sum over the axes along which a was repeated of  df/da dy

float32 stays float32 and float64 stays float64; integers take the dtype of the floats beside them, and become float32
where the equation needs real numbers. Two different float dtypes are an error: a silent copy to float64 is a bug.
NumPy does the work, on one core; `relu` and the sum of two equal shapes, which every residual network does on its
largest arrays, have kernels that use all cores.
"""

import numpy as np
from numba import prange

from ..kernel import kernel
from ..tensor import Function, Tensor

Operand = Tensor | np.ndarray | float

LARGE = 1 << 15  # elements from which several threads are worth their start


def common_dtype(op: str, *arrays) -> np.dtype:
    """The dtype of a result: that of the floats if there are any. Raises TypeError if two kinds of floats meet."""
    floats = {a.dtype for a in arrays if a.dtype.kind == "f"}
    if len(floats) > 1:
        names = " and ".join(sorted(map(str, floats)))
        raise TypeError(f"{op}: inputs are {names}; cure: bring one to the other's dtype with x.astype(...)")
    return floats.pop() if floats else np.result_type(*(a.dtype for a in arrays))


def common_shape(op: str, *arrays) -> tuple[int, ...]:
    """The shape that arrays broadcast to. Raises ValueError with the shapes that do not fit."""
    try:
        return np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        shapes = " and ".join(str(a.shape) for a in arrays)
        raise ValueError(
            f"{op}: shapes {shapes} do not broadcast; counted from the last axis, sides must be equal or 1"
        ) from None


def floats(x):
    """x, or its float32 copy if it holds integers."""
    return x if x.dtype.kind == "f" else x.astype(np.float32)


def sum_to(device, g, shape):
    """The adjoint of broadcasting: g summed over the axes along which `shape` was repeated."""
    for _ in range(g.ndim - len(shape)):
        g = device.xp.sum(g, axis=0, out=device.empty(g.shape[1:], g.dtype))
    for axis in reversed(range(g.ndim)):  # axis by axis: many short sums round less than one long one
        if shape[axis] == 1 != g.shape[axis]:
            once = g.shape[:axis] + (1,) + g.shape[axis + 1 :]
            g = device.xp.sum(g, axis=axis, keepdims=True, out=device.empty(once, g.dtype))
    return g


class Elementwise(Function):
    """What the functions below share: results in pooled memory, gradients summed back to the shapes of the inputs."""

    @property
    def op(self) -> str:
        return type(self).__name__.lower()

    def new(self, ufunc, *arrays, real=False):
        """ufunc(*arrays) in a new array; integers become float32 if the result is real by nature."""
        dtype = common_dtype(self.op, *arrays)
        if real and dtype.kind != "f":
            dtype = np.dtype(np.float32)
        y = self.device.empty(common_shape(self.op, *arrays), dtype)
        return ufunc(*arrays, out=y, dtype=dtype)

    def back(self, *gradients):
        """Each gradient (None where none is needed) summed to the shape of its input."""
        return tuple(g if g is None else sum_to(self.device, g, s) for g, s in zip(gradients, self.shapes))


# ---- arithmetic


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


# ---- one argument


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


@kernel
def relu_flat(y, x, n):
    """y[i] = max(x[i], 0), nan stays nan. Parallel over i, in one run for each thread."""
    zero = x.dtype.type(0)
    for i in prange(n):
        y[i] = zero if x[i] < zero else x[i]


@kernel
def relu_backward_flat(dx, dy, y, n):
    """dx[i] = dy[i] where y[i] > 0, else 0. Parallel over i, in one run for each thread."""
    zero = dy.dtype.type(0)
    for i in prange(n):
        g = dy[i]  # loaded in any case: a load under a condition would not become a vector
        dx[i] = g if y[i] > zero else zero


class Relu(Elementwise):
    """y = max(x, 0),  dx = dy where y > 0, else 0. Keeps y alone, which what follows keeps anyway."""

    def forward(self, x):
        x = floats(x)
        self.y = y = self.device.empty(x.shape, x.dtype)
        self.device.launch(relu_flat, y.reshape(-1), x.reshape(-1), y.size)
        return y

    def backward(self, dy):
        dx = self.device.empty(dy.shape, dy.dtype)
        self.device.launch(relu_backward_flat, dx.reshape(-1), dy.reshape(-1), self.y.reshape(-1), dx.size)
        return dx


class LeakyRelu(Elementwise):
    """y = x where x > 0, else slope x;  dx = dy where x > 0, else slope dy"""

    def __init__(self, slope):
        self.slope = slope

    def forward(self, x):
        self.factor = self.device.xp.where(x > 0, 1, self.slope).astype(floats(x).dtype)
        return self.new(self.device.xp.multiply, self.factor, x)

    def backward(self, dy):
        return self.new(self.device.xp.multiply, self.factor, dy)


class Sigmoid(Elementwise):
    """y = 1 / (1 + e^-x),  dx = y (1 - y) dy"""

    def forward(self, x):
        self.y = self.sigmoid(floats(x))
        return self.y

    def backward(self, dy):
        return self.new(self.device.xp.multiply, self.y * (1 - self.y), dy)

    def sigmoid(self, x):
        xp = self.device.xp
        e = xp.exp(-xp.abs(x))  # in (0, 1]: never overflows
        return self.new(xp.divide, xp.where(x < 0, e, 1), 1 + e)


class Tanh(Elementwise):
    """y = tanh(x),  dx = (1 - y^2) dy"""

    def forward(self, x):
        self.y = self.new(self.device.xp.tanh, x, real=True)
        return self.y

    def backward(self, dy):
        return self.new(self.device.xp.multiply, 1 - self.y * self.y, dy)


class Softplus(Sigmoid):
    """y = log(1 + e^x) = max(x, 0) + log(1 + e^-|x|),  dx = sigmoid(x) dy"""

    def forward(self, x):
        xp, self.x = self.device.xp, floats(x)
        return self.new(xp.add, xp.maximum(self.x, 0), xp.log1p(xp.exp(-xp.abs(self.x))))

    def backward(self, dy):
        return self.new(self.device.xp.multiply, self.sigmoid(self.x), dy)


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
        return self.new(self.device.xp.multiply, self.inside, dy)


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


# ---- choices and comparisons


class Maximum(Elementwise):
    """y = max(a, b); the gradient goes to the larger, half to each where they are equal"""

    def forward(self, a, b):
        self.shapes, self.a, self.b = (a.shape, b.shape), a, b
        return self.new(self.device.xp.maximum, a, b)

    def backward(self, dy):
        half = dy.dtype.type(0.5)
        share = half * (self.a > self.b) + half * (self.a >= self.b)
        return self.back(*self.split(dy, share))

    def split(self, dy, share):
        """dy parted between a (share: 1, 1/2 or 0) and b."""
        multiply = self.device.xp.multiply
        return (
            self.new(multiply, share, dy) if self.needs[0] else None,
            self.new(multiply, 1 - share, dy) if self.needs[1] else None,
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
        multiply = self.device.xp.multiply
        return self.back(
            None,
            self.new(multiply, self.condition, dy) if self.needs[1] else None,
            self.new(multiply, ~self.condition, dy) if self.needs[2] else None,
        )


class Compare(Function):
    """y = a < b and its kind, as booleans. Has no gradient."""

    def __init__(self, relation):
        self.relation = relation

    def forward(self, a, b):
        y = self.device.empty(common_shape(self.relation, a, b), np.bool)
        return getattr(self.device.xp, self.relation)(a, b, out=y)


# ---- by name


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


def relu(x: Operand) -> Tensor:
    """max(x, 0); the gradient at 0 is 0.

    Shapes: any, float32 or float64; the result has the same.
    Example:
        y = ts.ops.relu(ts.ops.conv2d(x, w, padding=1))
    """
    return Relu()(x)


def leaky_relu(x: Operand, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope x."""
    return LeakyRelu(negative_slope)(x)


def sigmoid(x: Operand) -> Tensor:
    """1 / (1 + e^-x), without overflow for any x."""
    return Sigmoid()(x)


def tanh(x: Operand) -> Tensor:
    """The hyperbolic tangent."""
    return Tanh()(x)


def softplus(x: Operand) -> Tensor:
    """log(1 + e^x), without overflow for any x."""
    return Softplus()(x)


def log_sigmoid(x: Operand) -> Tensor:
    """log(1 / (1 + e^-x)) = -softplus(-x), exact where sigmoid itself rounds to 0 or 1."""
    return neg(softplus(neg(x)))


def clip(x: Operand, min: float | None = None, max: float | None = None) -> Tensor:
    """x brought between two numbers, of which None leaves a side open; outside of them the gradient is 0.

    Raises ValueError if neither is given.
    """
    if min is None and max is None:
        raise ValueError("clip: expected min, max or both, got neither")
    return Clip(min, max)(x)


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


def astype(x: Operand, dtype) -> Tensor:
    """x in another dtype; between floats the gradient is cast back, an integer or bool result has none."""
    return Astype(dtype)(x)


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
