"""Moving values about without changing them: each of these is linear, and its gradient moves the values back.

Results are C-contiguous, so that a kernel never meets a stride: `transpose` copies, and so does a slice unless it is
one run of memory, as x[2:5] is; that one and `reshape` are views.
"""

import math
import operator
from collections.abc import Sequence

import numpy as np

from ..tensor import Function, Tensor
from .elementwise import Operand, common_dtype, sum_to

SEQUENCES = list | tuple | range | np.ndarray  # what names several elements of an axis


class Reshape(Function):
    """y = x with the same values in the same order in another shape"""

    takes_half = "alone"

    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        self.before = x.shape
        try:
            return x.reshape(self.shape)
        except ValueError:
            raise ValueError(f"reshape: {x.size} values of shape {x.shape} do not fill shape {self.shape}") from None

    def backward(self, dy):
        return dy.reshape(self.before)


class Transpose(Function):
    """y[i_axes[0], i_axes[1], ...] = x[i_0, i_1, ...]"""

    takes_half = "alone"

    def __init__(self, axes):
        self.axes = axes

    def forward(self, x):
        axes = range(x.ndim)[::-1] if self.axes is None else self.axes
        self.order = [a % x.ndim for a in axes if -x.ndim <= a < x.ndim]
        if sorted(self.order) != list(range(x.ndim)) or len(axes) != x.ndim:
            raise ValueError(f"transpose: axes {self.axes} are no order of the {x.ndim} axes of x (shape {x.shape})")
        return x.transpose(self.order)

    def backward(self, dy):
        return dy.transpose(np.argsort(self.order).tolist())


class BroadcastTo(Function):
    """y[i, j] = x[j],  dx[j] = sum_i dy[i, j]"""

    def __init__(self, shape):
        self.shape = shape

    def forward(self, x):
        self.before = x.shape
        try:
            return self.device.xp.broadcast_to(x, self.shape)
        except ValueError:
            raise ValueError(f"broadcast_to: shape {x.shape} does not broadcast to {self.shape}") from None

    def backward(self, dy):
        return sum_to(self.device, dy, self.before)


class GetItem(Function):
    """y = x[index],  dx[index] += dy on zeros

    An index of slices and numbers, or one of booleans, names no element twice: the gradient is assigned. Arrays of
    integers may repeat: the gradient is added up (np.add.at, one by one in the order of the index).
    """

    takes_half = "alone"

    def __init__(self, index):
        self.index = index

    def forward(self, x):
        self.before = x.shape
        try:
            return self.device.xp.asarray(x[self.index])
        except IndexError as error:
            raise IndexError(f"x[...]: {error} (x has shape {x.shape})") from None

    def backward(self, dy):
        dx = self.device.zeros(self.before, dy.dtype)
        parts = self.index if isinstance(self.index, tuple) else (self.index,)
        if any(getattr(part, "ndim", 0) and part.dtype.kind != "b" for part in parts):
            self.device.xp.add.at(dx, self.index, dy)
        else:
            dx[self.index] = dy
        return dx


class Concat(Function):
    """y = x_0, x_1, ... one behind the other along an axis;  dx_i = the part of dy where x_i lies"""

    takes_half = "alone"

    def __init__(self, axis):
        self.axis = axis

    def forward(self, *arrays):
        first, shapes = arrays[0], ", ".join(str(a.shape) for a in arrays)
        if not -first.ndim <= self.axis < first.ndim:
            raise ValueError(f"concat: axis {self.axis} does not fit shapes {shapes}")
        axis = self.axis % first.ndim
        others = [a.shape[:axis] + (-1,) + a.shape[axis + 1 :] if a.ndim == first.ndim else None for a in arrays]
        if others.count(others[0]) != len(others):
            raise ValueError(
                f"concat: shapes {shapes} differ beside axis {self.axis}; cure: crop, pad or interpolate to one size"
            )
        ends = np.cumsum([0] + [a.shape[axis] for a in arrays]).tolist()
        self.parts = [(slice(None),) * axis + (slice(i, j),) for i, j in zip(ends, ends[1:])]
        shape = first.shape[:axis] + (ends[-1],) + first.shape[axis + 1 :]
        y = self.device.empty(shape, common_dtype("concat", *arrays))
        for part, a in zip(self.parts, arrays):
            y[part] = a
        return y

    def backward(self, dy):
        return tuple(dy[part] if need else None for part, need in zip(self.parts, self.needs))


class Pad(Function):
    """y = x with a border of one value,  dx = dy without the border"""

    takes_half = "alone"

    def __init__(self, widths, value):
        self.widths, self.value = widths, value

    def forward(self, x):
        shape = tuple(before + n + after for n, (before, after) in zip(x.shape, self.widths))
        self.inside = tuple(slice(before, before + n) for n, (before, _) in zip(x.shape, self.widths))
        if shape == x.shape:
            return x
        y = self.device.empty(shape, x.dtype)
        y.fill(self.value)
        y[self.inside] = x
        return y

    def backward(self, dy):
        return dy[self.inside]


class PadReflect(Function):
    """y[i] = x[|i - before|] and alike at the far end, the edge itself not repeated;  dx = dy + its borders folded back

    Axis by axis: the borders of a later axis reflect those of an earlier one.
    """

    def __init__(self, widths):
        self.widths = widths

    def forward(self, x):
        for axis, (before, after) in enumerate(self.widths):
            n = x.shape[axis]
            if max(before, after) >= max(n, 1):
                raise ValueError(
                    f"pad: reflect needs borders below the side, got {before} and {after} on axis {axis} of {x.shape}"
                )
        for axis, (before, after) in self.borders():
            n = x.shape[axis]
            y = self.device.empty(x.shape[:axis] + (before + n + after,) + x.shape[axis + 1 :], x.dtype)
            at = self.along(axis)
            y[at(before, before + n)] = x
            y[at(0, before)] = x[at(1, before + 1)][at(None, None, -1)]
            y[at(before + n, None)] = x[at(n - 1 - after, n - 1)][at(None, None, -1)]
            x = y
        return x

    def backward(self, dy):
        for axis, (before, after) in reversed(list(self.borders())):
            n = dy.shape[axis] - before - after
            at = self.along(axis)
            dx = self.device.copy(dy[at(before, before + n)])
            dx[at(1, before + 1)] += dy[at(0, before)][at(None, None, -1)]
            dx[at(n - 1 - after, n - 1)] += dy[at(before + n, None)][at(None, None, -1)]
            dy = dx
        return dy

    def borders(self):
        """(axis, widths) for each axis that has a border."""
        return ((axis, pair) for axis, pair in enumerate(self.widths) if pair != (0, 0))

    def along(self, axis):
        """at(i, j) is the index of the elements i to j of one axis."""
        return lambda i, j, step=None: (slice(None),) * axis + (slice(i, j, step),)


def _integers(name: str, values) -> tuple[int, ...]:
    """One integer or several as a tuple."""
    try:
        return (operator.index(values),) if np.ndim(values) == 0 else tuple(operator.index(v) for v in values)
    except TypeError:
        raise TypeError(f"{name}: expected integers, got {values!r}") from None


def reshape(x: Operand, shape: int | Sequence[int]) -> Tensor:
    """The same values in another shape, in which one side may be -1. Also `x.reshape(2, -1)`.

    Raises ValueError if the values do not fill the shape.
    """
    return Reshape(_integers("reshape", shape))(x)


def flatten(x: Operand, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """x with the axes from `start_axis` to `end_axis`, both included, made one. Raises ValueError if x lacks them.

    Example:
        ts.ops.flatten(x, 1)     # (N,H,W,C) -> (N, H*W*C)
    """
    shape, ndim = np.shape(x), np.ndim(x)
    i, j = start_axis % max(ndim, 1), end_axis % max(ndim, 1)
    if not (-ndim <= start_axis < ndim and -ndim <= end_axis < ndim and i <= j):
        raise ValueError(f"flatten: axes {start_axis} to {end_axis} do not fit x of shape {shape}")
    return reshape(x, shape[:i] + (math.prod(shape[i : j + 1]),) + shape[j + 1 :])


def squeeze(x: Operand, axis: int | Sequence[int] | None = None) -> Tensor:
    """x without axes of length 1 (None: all of them). Raises ValueError if an axis named is longer or not there."""
    shape, ndim = np.shape(x), np.ndim(x)
    axes = [i for i, n in enumerate(shape) if n == 1] if axis is None else _integers("squeeze", axis)
    if any(not -ndim <= a < ndim or shape[a] != 1 for a in axes):
        raise ValueError(f"squeeze: axis {axis} of x (shape {shape}) is not there or not of length 1")
    gone = {a % ndim for a in axes}
    return reshape(x, tuple(n for i, n in enumerate(shape) if i not in gone))


def unsqueeze(x: Operand, axis: int) -> Tensor:
    """x with a new axis of length 1 that becomes `axis` of the result. Raises ValueError if that is out of range."""
    shape, ndim = np.shape(x), np.ndim(x)
    if not -ndim - 1 <= axis <= ndim:
        raise ValueError(f"unsqueeze: axis {axis} is out of range for x of shape {shape}: -{ndim + 1} to {ndim}")
    axis %= ndim + 1
    return reshape(x, shape[:axis] + (1,) + shape[axis:])


def transpose(x: Operand, axes: Sequence[int] | None = None) -> Tensor:
    """x with its axes in another order (None: reversed), copied. Raises ValueError if `axes` is no order of them."""
    return Transpose(None if axes is None else _integers("transpose", axes))(x)


def broadcast_to(x: Operand, shape: Sequence[int]) -> Tensor:
    """x repeated along new axes and axes of length 1 to fill `shape`. Raises ValueError if it does not broadcast."""
    return BroadcastTo(_integers("broadcast_to", shape))(x)


def getitem(x: Operand, index) -> Tensor:
    """x[index], copied: numbers, slices, ..., None, and arrays, lists or Tensors of integers or booleans.

    The gradient adds up where an index array names an element several times. Raises IndexError beyond the end of x.
    """
    parts = tuple(_plain(part) for part in index) if isinstance(index, tuple) else _plain(index)
    return GetItem(parts)(x)


def _plain(part):
    """A part of an index as `GetItem` keeps it: sequences as arrays, and arrays copied, as backward looks again."""
    return part.data if isinstance(part, Tensor) else np.array(part) if isinstance(part, SEQUENCES) else part


def concat(tensors: Sequence[Operand], axis: int = -1) -> Tensor:
    """Tensors one behind the other along an axis, the channels unless told otherwise.

    Raises ValueError if they differ in another axis, if `axis` is out of range or if there are none;
    TypeError for float32 beside float64.
    Example:
        y = ts.ops.concat([skip, up])     # (N,H,W,C) and (N,H,W,D) -> (N,H,W,C+D)
    """
    if not len(tensors):
        raise ValueError("concat: expected at least one tensor, got none")
    return Concat(axis)(*tensors)


def stack(tensors: Sequence[Operand], axis: int = 0) -> Tensor:
    """Tensors of one shape along a new axis. Raises ValueError if shapes differ or if there are none."""
    shapes = {np.shape(t) for t in tensors}
    if len(shapes) != 1:
        raise ValueError(f"stack: expected tensors of one shape, got {sorted(shapes) or 'none'}")
    axis = axis if axis >= 0 else axis + len(shapes.pop()) + 1
    return concat([unsqueeze(t, axis) for t in tensors], axis)


def pad(x: Operand, widths, mode: str = "constant", value: float = 0) -> Tensor:
    """x with a border: of `value`, or of x mirrored at its edge (mode="reflect", the edge itself not repeated).

    `widths` as np.pad: a number for all sides, (before, after) for all axes, or one such pair for each axis.
    Raises ValueError for another mode, for widths that fit no axis or are negative, and for a reflection wider than x.
    Example:
        ts.ops.pad(x, ((0, 0), (1, 2), (3, 4), (0, 0)))     # (N,H,W,C) -> (N, H+3, W+7, C)
    """
    if mode not in ("constant", "reflect"):
        raise ValueError(f"pad: mode {mode!r} is unknown, expected 'constant' or 'reflect'")
    shape = np.shape(x)
    try:
        pairs = [_integers("pad", pair) for pair in np.broadcast_to(widths, (len(shape), 2))]
    except ValueError:
        raise ValueError(
            f"pad: widths {widths} do not fit x of shape {shape}; expected a pair (before, after) for each axis"
        ) from None
    if any(n < 0 for pair in pairs for n in pair):
        raise ValueError(f"pad: widths {widths} must not be negative; cure: crop")
    return Pad(pairs, value)(x) if mode == "constant" else PadReflect(pairs)(x)


def crop(x: Operand, top: int, left: int, height: int, width: int) -> Tensor:
    """The window of `height` x `width` pixels whose first is (top, left). Raises ValueError if it leaves the image.

    Shapes: x (N,H,W,C) or (H,W,C), y the same with (height, width) for (H,W).
    """
    shape = np.shape(x)
    if len(shape) < 3:
        raise ValueError(f"crop: expected x (N,H,W,C) or (H,W,C), got shape {shape}")
    h, w = shape[-3:-1]
    if not (0 <= top <= top + height <= h and 0 <= left <= left + width <= w):
        raise ValueError(f"crop: {height}x{width} pixels from ({top}, {left}) leave the image of {h}x{w} pixels")
    if (height, width) == (h, w):
        return reshape(x, shape)
    return getitem(x, (..., slice(top, top + height), slice(left, left + width), slice(None)))


def center_crop(x: Operand, size: int | tuple[int, int]) -> Tensor:
    """The middle `size` = (height, width) pixels; of an odd remainder the smaller half is cut at the top and left.

    Shapes: x (N,H,W,C) or (H,W,C), y the same with (height, width) for (H,W). Raises ValueError if x is smaller.
    Example:
        skip = ts.ops.center_crop(skip, up.shape[1:3])     # U-Net's crop before the concat
    """
    height, width = (size, size) if np.ndim(size) == 0 else size
    shape = np.shape(x)
    if len(shape) < 3 or height > shape[-3] or width > shape[-2]:
        raise ValueError(f"center_crop: {height}x{width} pixels do not fit x of shape {shape}")
    return crop(x, (shape[-3] - height) // 2, (shape[-2] - width) // 2, height, width)
