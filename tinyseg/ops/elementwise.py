"""What acts on one element at a time, with NumPy's broadcasting: the part that all such functions share.

    y = f(a, b)        da = sum over the axes along which a was repeated of  df/da dy

float32 stays float32 and float64 stays float64; integers take the dtype of the floats beside them, and become float32
where the equation needs real numbers. Two different float dtypes are an error: a silent copy to float64 is a bug.
The functions are in arithmetic.py, activation.py and choice.py.
"""

import numpy as np

from ..tensor import Function, Tensor

Operand = Tensor | np.ndarray | float


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

    def passed(self, dy, where):
        """dy where it is passed on, else 0. A product of the two would be nan where dy is not finite."""
        dx = self.device.zeros(dy.shape, dy.dtype)
        self.device.xp.copyto(dx, dy, where=where)
        return dx
