"""A device that computes nothing: arrays of shape and dtype alone, and a count of the memory they would take.

    device = DryRun()
    with nn.no_init(device):
        model = models.create("fcn8s", 21)
    loss(model(x)).backward()               # in milliseconds, with no memory
    device.peak                             # bytes that this would take on the CPU at most

The very Functions of the real devices run here, so what is allocated, when, and how long it lives is what happens on
the CPU: sizes are rounded as its pool does. A value that is asked for is 0.
"""

from types import SimpleNamespace

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from .device import Device, get_device
from .memory import Pool


class Ghost(NDArrayOperatorsMixin):
    """Shape, strides and dtype of an array, without its values.

    `form` is a NumPy array over no memory, which is sliced and reshaped (NumPy touches no value for that) but never
    read. What operations would compute is dropped; what they would return is a new Ghost.
    """

    def __init__(self, form: np.ndarray, owner=None):
        self.form, self.owner = form, owner

    @staticmethod
    def of(shape, dtype, owner=None) -> "Ghost":
        dtype, strides = np.dtype(dtype), [np.dtype(dtype).itemsize]
        for n in shape[:0:-1]:
            strides.insert(0, strides[0] * max(n, 1))
        form = np.lib.stride_tricks.as_strided(np.empty(0, dtype), shape, strides[: len(shape)])
        return Ghost(form, owner)

    shape = property(lambda self: self.form.shape)
    dtype = property(lambda self: self.form.dtype)
    ndim = property(lambda self: self.form.ndim)
    size = property(lambda self: self.form.size)
    nbytes = property(lambda self: self.form.nbytes)
    itemsize = property(lambda self: self.form.itemsize)
    T = property(lambda self: Ghost(self.form.T, self.owner))

    @property
    def flags(self):
        return SimpleNamespace(c_contiguous=self.form.flags.c_contiguous)

    def __len__(self):
        return len(self.form)

    def __array__(self, dtype=None, copy=None):
        return np.broadcast_to(np.zeros((), dtype or self.dtype), self.shape)

    def __getitem__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, np.ndarray | Ghost | list) for part in parts):
            found = np.asarray(self)[tuple(np.asarray(p) if isinstance(p, Ghost) else p for p in parts)]
            return Ghost.of(found.shape, self.dtype)
        return Ghost(self.form[index], self.owner) if self._is_view(parts) else self.dtype.type(0)

    def _is_view(self, parts):
        numbers = sum(isinstance(part, int | np.integer) for part in parts)
        return numbers < self.ndim or Ellipsis in parts

    def __setitem__(self, index, value):
        pass

    def fill(self, value):
        pass

    def reshape(self, *shape):
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape
        if self.form.flags.c_contiguous:
            return Ghost(self.form.reshape(shape), self.owner)
        return Ghost.of(np.asarray(self).reshape(shape).shape, self.dtype)  # NumPy would copy

    def transpose(self, *axes):
        return Ghost(self.form.transpose(*axes), self.owner)

    def astype(self, dtype, copy=True):
        return self if not copy and self.dtype == dtype else Ghost.of(self.shape, dtype)

    def copy(self):
        return Ghost.of(self.shape, self.dtype)

    def _reduced(self, axis=None, dtype=None, out=None, keepdims=False):
        if out is not None:
            return out
        axes = range(self.ndim) if axis is None else [a % self.ndim for a in np.atleast_1d(axis)]
        shape = tuple(1 if i in axes else n for i, n in enumerate(self.shape) if keepdims or i not in axes)
        dtype = np.dtype(dtype or self.dtype)
        return Ghost.of(shape, dtype) if shape else dtype.type(0)

    sum = max = min = mean = prod = _reduced

    def any(self, axis=None, out=None, keepdims=False):
        return self._reduced(axis, bool, out, keepdims)

    all = any

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, dtype=None, axis=0, keepdims=False, where=True):
        if method != "__call__":
            return inputs[0]._reduced(axis, dtype, out and out[0], keepdims)
        if out is not None:
            return out if len(out) > 1 else out[0]
        if ufunc is np.matmul:
            form = np.matmul(*(np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in inputs))
            return Ghost.of(form.shape, form.dtype)
        shape = np.broadcast_shapes(*(np.shape(a) for a in inputs))
        ones = (a if np.ndim(a) == 0 and not isinstance(a, Ghost) else np.ones((1,), a.dtype) for a in inputs)
        with np.errstate(all="ignore"):
            kinds = ufunc(*ones)  # for its dtype
        ghosts = tuple(Ghost.of(shape, dtype or k.dtype) for k in (kinds if isinstance(kinds, tuple) else (kinds,)))
        return ghosts if len(ghosts) > 1 else ghosts[0]

    def __array_function__(self, function, types, args, options):
        """Let NumPy do it on zeros; `sum` and its like without touching them."""
        if function in (np.sum, np.max, np.min, np.mean, np.any, np.all):
            return args[0]._reduced(*args[1:], **options)
        if function in (np.broadcast_to, np.moveaxis, np.transpose, np.squeeze, np.expand_dims):
            return Ghost(function(args[0].form, *args[1:], **options), args[0].owner)
        if function is np.shape:
            return args[0].shape
        if function is np.copyto:
            return None
        result = function(*(_zeros(a) for a in args), **{name: _zeros(a) for name, a in options.items()})
        return Ghost.of(result.shape, result.dtype) if isinstance(result, np.ndarray) else result

    def __int__(self):
        return 0

    __index__ = __int__

    def __float__(self):
        return 0.0

    def __bool__(self):
        return False


def _zeros(value):
    if isinstance(value, list | tuple):
        return type(value)(_zeros(v) for v in value)
    return np.asarray(value) if isinstance(value, Ghost) else value


class _Numpy:
    """NumPy, for code that asks its device for it."""

    ndarray = Ghost

    def __getattr__(self, name):
        return getattr(np, name)

    @staticmethod
    def ascontiguousarray(a, dtype=None):
        if not isinstance(a, Ghost):
            return np.ascontiguousarray(a, dtype)
        same = a.form.flags.c_contiguous and (dtype is None or a.dtype == dtype)
        return a if same else Ghost.of(a.shape, dtype or a.dtype)

    @staticmethod
    def asarray(a, dtype=None):
        return a.astype(dtype or a.dtype, copy=False) if isinstance(a, Ghost) else np.asarray(a, dtype)


class _Block:
    """So many bytes of a device while any array views them."""

    def __init__(self, device, size):
        self.device, self.size = device, size
        device.in_use += size
        device.peak = max(device.peak, device.in_use)

    def __del__(self):
        self.device.in_use -= self.size


class DryRun(Device):
    """See the head of this file. in_use: bytes now; peak: the most there were (`reset_peak` begins anew)."""

    name = "dry run"
    xp = _Numpy()

    def __init__(self):
        self.in_use = self.peak = 0

    @property
    def threads(self):
        return get_device("cpu").threads

    def reset_peak(self) -> None:
        self.peak = self.in_use

    def empty(self, shape, dtype=np.float32):
        shape = (int(shape),) if np.ndim(shape) == 0 else tuple(int(n) for n in shape)
        size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        small = size < Pool.SMALL  # the CPU's pool leaves those to NumPy
        return Ghost.of(shape, dtype, None if small else _Block(self, Pool._size_class(size)))

    def array(self, host, dtype=None):
        host = host if isinstance(host, Ghost) else np.asarray(host)
        return self.empty(host.shape, dtype or host.dtype)

    def numpy(self, array):
        return np.asarray(array)

    def owner(self, array):
        return id(getattr(array, "owner", None) or array)

    def has(self, kernel):
        return get_device("cpu").has(kernel)

    def check(self, found, error):
        pass

    def launch(self, kernel, *args):
        pass

    def __eq__(self, other):
        return self is other

    __hash__ = object.__hash__
