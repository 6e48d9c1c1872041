"""The non-linearities of networks, element by element. ReLU has a kernel; the others are NumPy's work."""

from numba import prange

from ..kernel import kernel
from ..tensor import Tensor
from .arithmetic import neg
from .elementwise import Elementwise, Operand, floats


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

    takes_half = "alone"

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
