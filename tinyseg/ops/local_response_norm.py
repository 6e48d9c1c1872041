"""Local response normalisation: each value divided by the energy of its neighbours among the channels.

    s[m,c] = k + (alpha / size) sum_{j in window(c)} x[m,j]^2,      y[m,c] = x[m,c] s[m,c]^-beta

over the rows m = (n,h,w) of an image; window(c) are the channels c - size//2 ... c + (size-1)//2 that exist.
Krizhevsky, Sutskever & Hinton 2012, section 3.3, as Caffe and PyTorch have it (they divide alpha by the size). Its
derivative, with r = dy x s^(-beta-1):

    dx[m,c] = dy[m,c] s[m,c]^-beta - (2 alpha beta / size) x[m,c] sum_{c in window(j)} r[m,j]

Only x is kept for it; s is computed again.
"""

from numba import prange

from ..kernel import kernel
from ..tensor import Function, Tensor
from .checks import floats


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0) -> Tensor:
    """y = x (k + alpha/size sum of x^2 over `size` neighbouring channels)^-beta. AlexNet; SegNet-Basic's input.

    Shapes: x (..., C) float -> the same.
    Raises ValueError: size below 1, no axis.

    Example:
        y = ts.ops.local_response_norm(x, 5)
    """
    return LocalResponseNorm(size, alpha, beta, k)(x)


class LocalResponseNorm(Function):
    """y = x s^-beta; dx = dy s^-beta - (2 alpha beta / size) x (sum of dy x s^(-beta-1) over the windows with x)"""

    def __init__(self, size, alpha, beta, k):
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"local_response_norm: size is {size!r}, expected an integer >= 1")
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x):
        self.x = x = floats("local_response_norm", self.device, x)
        if not x.ndim:
            raise ValueError("local_response_norm: x has no axis of channels; expected (..., C)")
        y = self.device.empty(x.shape, x.dtype)
        self.device.launch(lrn_forward, self._rows(y), self._rows(x), *self._numbers(-self.beta), *self._sizes())
        return y

    def backward(self, dy):
        dy = self.device.xp.ascontiguousarray(dy)
        x, (k, scale, power) = self.x, self._numbers(-self.beta)
        r, dx = self.device.empty(x.shape, x.dtype), self.device.empty(x.shape, x.dtype)
        self.device.launch(lrn_ratio, self._rows(r), self._rows(dy), self._rows(x), k, scale, power, *self._sizes())
        rows = [self._rows(a) for a in (dx, dy, x, r)]
        self.device.launch(lrn_backward, *rows, k, scale, power, *self._sizes())
        return dx

    def _rows(self, a):
        return a.reshape(a.size // max(a.shape[-1], 1), a.shape[-1])

    def _sizes(self):
        C = self.x.shape[-1]
        return self.x.size // max(C, 1), C, self.size

    def _numbers(self, power):
        number = self.x.dtype.type
        return number(self.k), number(self.alpha / self.size), number(power)


@kernel
def lrn_forward(y, x, k, scale, power, M, C, size):
    """y = x s^power. Parallel over rows."""
    for m in prange(M):
        for c in range(C):
            s = k
            for j in range(max(0, c - size // 2), min(C, c + (size + 1) // 2)):
                s += scale * x[m, j] * x[m, j]
            y[m, c] = x[m, c] * s**power


@kernel
def lrn_ratio(r, dy, x, k, scale, power, M, C, size):
    """r = dy x s^(power-1). Parallel over rows."""
    for m in prange(M):
        for c in range(C):
            s = k
            for j in range(max(0, c - size // 2), min(C, c + (size + 1) // 2)):
                s += scale * x[m, j] * x[m, j]
            r[m, c] = dy[m, c] * x[m, c] * s**power / s


@kernel
def lrn_backward(dx, dy, x, r, k, scale, power, M, C, size):
    """dx = dy s^power + 2 power scale x (sum of r over the windows that x is in). Parallel over rows."""
    two = k - k + 2  # in k's own precision
    for m in prange(M):
        for c in range(C):
            s, around = k, k - k
            for j in range(max(0, c - size // 2), min(C, c + (size + 1) // 2)):
                s += scale * x[m, j] * x[m, j]
            for j in range(max(0, c - (size - 1) // 2), min(C, c + size // 2 + 1)):  # the windows turned round
                around += r[m, j]
            dx[m, c] = dy[m, c] * s**power + two * power * scale * x[m, c] * around
