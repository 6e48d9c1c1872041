"""Matrix products:  y = a b,  da = dy b^T,  db = a^T dy,  over stacks of matrices that broadcast.

NumPy's BLAS does the work. Convolutions do not come here: they have kernels of their own.
"""

import numpy as np

from ..tensor import Function, Tensor
from .elementwise import Operand, common_dtype, sum_to


class MatMul(Function):
    """y = a b,  da = dy b^T,  db = a^T dy"""

    def forward(self, a, b):
        if not (a.ndim and b.ndim):
            raise ValueError(f"matmul: expected at least one axis each, got a {a.shape} and b {b.shape}; cure: a * b")
        self.shapes, self.dtype = (a.shape, b.shape), common_dtype("matmul", a, b)
        vectors = a.ndim == 1, b.ndim == 1  # a vector is a matrix of one row (left) or one column (right)
        a = a[None, :] if vectors[0] else a
        b = b[:, None] if vectors[1] else b
        if a.shape[-1] != b.shape[-2]:
            raise ValueError(
                f"matmul: the last axis of a has {a.shape[-1]} but b expects {b.shape[-2]} "
                f"(a {self.shapes[0]}, b {self.shapes[1]}); cure: transpose one of them"
            )
        self.a, self.b = a, b
        y = self.product(a, b)
        self.y_shape = y.shape
        keep = [i for i in range(y.ndim) if i - y.ndim not in ([-2] * vectors[0] + [-1] * vectors[1])]
        return y.reshape(tuple(y.shape[i] for i in keep))

    def backward(self, dy):
        a, b, dy = self.a, self.b, dy.reshape(self.y_shape)
        da = db = None
        if self.needs[0]:
            da = sum_to(self.device, self.product(dy, b.swapaxes(-1, -2)), a.shape).reshape(self.shapes[0])
        if self.needs[1]:
            db = sum_to(self.device, self.product(a.swapaxes(-1, -2), dy), b.shape).reshape(self.shapes[1])
        return da, db

    def product(self, a, b):
        try:
            stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError:
            raise ValueError(
                f"matmul: the stacks of matrices do not broadcast (a {self.shapes[0]}, b {self.shapes[1]})"
            ) from None
        y = self.device.empty((*stack, a.shape[-2], b.shape[-1]), self.dtype)
        return self.device.xp.matmul(a, b, out=y, dtype=self.dtype)


def matmul(a: Operand, b: Operand) -> Tensor:
    """The matrix product y[..., i, j] = sum_k a[..., i, k] b[..., k, j]; leading axes broadcast. Also `a @ b`.

    Shapes: a (..., I, K) or (K,), b (..., K, J) or (K,); y (..., I, J) without the axis that a vector lacks.
    Raises ValueError where K differs, where stacks do not broadcast, and for numbers; TypeError for mixed floats.
    Example:
        logits = features @ weights     # (N,H,W,C) @ (C,K) -> (N,H,W,K)
    """
    return MatMul()(a, b)
