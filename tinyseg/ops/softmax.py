"""Softmax and its logarithm over one axis.

    softmax:      y_k = exp(x_k - max x) / sum_j exp(x_j - max x)          dx = y (dy - sum_k dy_k y_k)
    log_softmax:  y_k = x_k - max x - log sum_j exp(x_j - max x)           dx = dy - exp(y) sum_k dy_k

Along the last axis, where the classes of logits (N,H,W,K) lie, one kernel does a row in one visit; other axes go
through a transposed copy. Letters: m row, k class.
"""

import math

from numba import prange

from ..kernel import kernel
from ..tensor import Function, Tensor
from .checks import floats
from .exponential import exp, exponentials, row_sum


def softmax(x, axis: int = -1) -> Tensor:
    """Probabilities: y_k = exp(x_k) / sum_j exp(x_j) along `axis`. A row of NaN, or of -inf alone, gives NaN.

    Shapes: x float of any shape with at least one axis -> the same. float32 to about 1e-7.
    Raises ValueError: an axis that x does not have, or that is empty.

    Example:
        p = ts.ops.softmax(logits)
    """
    return Softmax("softmax", axis)(x)


def log_softmax(x, axis: int = -1) -> Tensor:
    """y_k = x_k - log sum_j exp(x_j) along `axis`, without overflow. Shapes and errors: see `softmax`."""
    return Softmax("log_softmax", axis)(x)


class Softmax(Function):
    """y_k = exp(x_k - max x) / sum_j exp(x_j - max x), or the logarithm of it"""

    def __init__(self, op, axis):
        self.op, self.axis, self.log = op, axis, op == "log_softmax"

    def forward(self, x):
        if not -x.ndim <= self.axis < x.ndim or not x.shape[self.axis]:
            raise ValueError(f"{self.op}: axis {self.axis} of x {x.shape} does not exist or is empty")
        rows = self._to_rows(floats(self.op, self.device, x))
        y = self.device.empty(rows.shape, rows.dtype)
        M, K = rows.shape
        highest = self.device.empty(M, rows.dtype)
        self.device.launch(softmax_forward, y, highest, rows, self.log, M, K, max(2048 // K, 1))
        if any(self.needs):
            self.y = y
        return self._from_rows(y, x.shape)

    def backward(self, dy):
        rows = self._to_rows(dy)
        dx = self.device.empty(rows.shape, rows.dtype)
        self.device.launch(softmax_backward, dx, rows, self.y, self.log, *rows.shape)
        return self._from_rows(dx, dy.shape)

    def _to_rows(self, x):
        xp = self.device.xp
        return xp.ascontiguousarray(xp.moveaxis(x, self.axis, -1)).reshape(-1, x.shape[self.axis])

    def _from_rows(self, rows, shape):
        xp, axis = self.device.xp, self.axis % len(shape)
        moved = shape[:axis] + shape[axis + 1 :] + shape[axis : axis + 1]
        return xp.ascontiguousarray(xp.moveaxis(rows.reshape(moved), -1, axis))


@kernel
def softmax_forward(y, highest, x, log, M, K, run):
    """y: softmax of each row of x, or its logarithm. Parallel over runs of rows that stay in the near cache."""
    for i in prange((M + run - 1) // run):
        begin, end = i * run, min(i * run + run, M)
        exponentials(y, highest, x, begin, end, K)
        for m in range(begin, end):
            total = row_sum(y, m, K)
            if log:
                offset = highest[m] + y.dtype.type(math.log(total))
                for k in range(K):
                    y[m, k] = x[m, k] - offset
            else:
                share = y.dtype.type(1) / total
                for k in range(K):
                    y[m, k] *= share


@kernel
def softmax_backward(dx, dy, y, log, M, K):
    """dx = y (dy - sum dy y), or for the logarithm dy - exp(y) sum dy. Parallel over rows."""
    for m in prange(M):
        if log:
            total = row_sum(dy, m, K)
            for k in range(K):
                dx[m, k] = dy[m, k] - exp(y[m, k]) * total
        else:
            total = dx.dtype.type(0)
            for k in range(K):
                total += dy[m, k] * y[m, k]
            for k in range(K):
                dx[m, k] = y[m, k] * (dy[m, k] - total)
