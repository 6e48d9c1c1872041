"""Reverse-mode differentiation, whole.

A `Tensor` is an array that may remember which `Function` made it. A `Function` is one equation: `forward` on arrays
and `backward` on arrays. The functions that made a tensor form a graph without cycles; `backward` walks it once, from
the result to the leaves, and at each function applies the chain rule

    dL/dx = (dy/dx)^T dL/dy.

What a function saved for its backward pass is freed as the walk leaves it.
"""

import threading
from contextlib import contextmanager
from importlib import import_module

import numpy as np

from .device import Device, get_device

_thread = threading.local()


def grad_enabled() -> bool:
    """Whether operations are recorded for `backward` in this thread."""
    return getattr(_thread, "grad_enabled", True)


@contextmanager
def no_grad():
    """Inside this block nothing is recorded for `backward`, and nothing is kept for it.

    Example:
        with ts.no_grad():
            logits = model(x)
    """
    with recording(False):
        yield


@contextmanager
def recording(on: bool):
    """Inside this block operations are recorded for `backward`, or not."""
    before, _thread.grad_enabled = grad_enabled(), on
    try:
        yield
    finally:
        _thread.grad_enabled = before


class Tensor:
    """An array on a device, with an optional gradient.

    `data` is the NumPy (or CuPy) array; `grad` is a Tensor after `backward`, for leaves that require it, and sums up
    over several backward passes until it is set to None. Arithmetic, indexing and the methods of the operators are
    those of NumPy and are differentiable; they are defined in `tinyseg.ops`, which is imported at their first use.
    """

    __slots__ = ("__weakref__", "data", "device", "function", "grad", "output_index", "requires_grad", "version")
    __array_ufunc__ = None  # numpy_array + tensor asks the tensor, and is one

    def __init__(self, data, device: Device, requires_grad: bool = False):
        self.data = data
        self.device = device
        self.requires_grad = requires_grad
        self.grad = None
        self.function = None  # the Function that made this tensor; None for a leaf
        self.output_index = 0  # which of its outputs this is
        self.version = 0  # of a leaf: how often its values were changed in place, as an optimiser does

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    def __len__(self):
        if not self.shape:
            raise TypeError("len() of a tensor without axes")
        return self.shape[0]

    def __bool__(self):
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype=None, copy=None):
        return self.numpy().astype(dtype or self.dtype, copy=False)

    def __getattr__(self, name):
        import_module(".ops", __package__)  # gives Tensor its methods
        return object.__getattribute__(self, name)

    def numpy(self) -> np.ndarray:
        """A copy of the values on the host."""
        return self.device.numpy(self.data)

    def item(self):
        """The value of a tensor of one element as a Python number."""
        if self.size != 1:
            raise ValueError(f"item: the tensor has {self.size} elements (shape {self.shape}), expected one")
        return self.numpy().reshape(()).item()

    def detach(self) -> "Tensor":
        """The same values, cut from the graph."""
        return Tensor(self.data, self.device)

    def to(self, device: str | Device) -> "Tensor":
        """A leaf with the same values on another device (itself if it is there already)."""
        device = get_device(device)
        if device == self.device:
            return self
        return Tensor(device.array(self.numpy()), device, self.requires_grad)

    def backward(self, grad=None) -> None:
        """Add dself/dleaf to `leaf.grad` for every leaf that requires a gradient; frees the graph on the way.

        `grad` is dL/dself: an array or Tensor of this tensor's shape; without it the tensor must hold one element,
        and 1 is taken. Raises RuntimeError if nothing here requires a gradient, if the graph was walked before, or if
        a leaf was changed in place since.
        """
        backward(self, grad)

    def __repr__(self):
        text = np.array2string(self.numpy(), precision=4, threshold=40, prefix="tensor(")
        grad = f", made by {type(self.function).__name__}" if self.function else ""
        grad = grad or (", requires_grad=True" if self.requires_grad else "")
        return f"tensor({text}, {self.dtype}, {self.device.name!r}{grad})"


def _first_use(name):
    def operator(self, *operands):
        import_module(".ops", __package__)  # puts the operators in the place of these
        return getattr(self, name)(*operands)

    return operator


for _name in (
    "add radd sub rsub mul rmul truediv rtruediv pow rpow matmul rmatmul neg abs lt le gt ge eq ne getitem"
).split():
    setattr(Tensor, f"__{_name}__", _first_use(f"__{_name}__"))


def tensor(data, device: str | Device = "cpu", requires_grad: bool = False, dtype=None) -> Tensor:
    """A leaf Tensor with a copy of `data` (array, nested list, number or Tensor).

    NumPy arrays of float32, float64, and of integers keep their dtype; Python numbers and every other float become
    float32. Raises TypeError for what cannot be an array of numbers, and for a gradient asked of integers.

    Example:
        x = ts.tensor(np.ones((1, 4, 4, 3), np.float32), requires_grad=True)
    """
    device = get_device(device)
    if isinstance(data, Tensor):
        data = data.numpy()
    array = np.asarray(data, dtype)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"tensor: expected numbers, got {type(data).__name__} with dtype {array.dtype}")
    if dtype is None and array.dtype.kind == "f":
        if not isinstance(data, np.ndarray | np.generic) or array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float32)
    if requires_grad and array.dtype.kind != "f":
        raise TypeError(f"tensor: requires_grad=True needs floats, got {array.dtype}; cure: array.astype(np.float32)")
    return Tensor(device.array(array), device, requires_grad)


class Function:
    """One differentiable equation. Subclass it, and call an instance on tensors.

        class Square(Function):
            def forward(self, x):          # arrays in, array out (or a tuple of arrays)
                self.x = x                 # what backward needs is saved as an attribute
                return x * x
            def backward(self, dy):        # dL/dy in, dL/dx out: one for each input (None where there is none)
                return 2 * self.x * dy

        y = Square()(x)

    Under autocast inputs may be float16. They are widened to float32 unless `takes_half` says that forward and backward
    take them as they are: "alone", if all floats among them are, or "mixed", beside float32. What backward returns may
    be wider than the input: it is rounded to its type.

    Options (stride, axis, ...) are arguments of the constructor. Inside, `self.device` allocates and launches, and
    `self.needs[i]` tells whether input i needs a gradient. `forward` must not change its inputs, nor `backward` dy.
    All that comes in is C-contiguous; both may return views, which are copied where they are not.
    """

    device: Device
    needs: tuple[bool, ...] = ()
    takes_half = ""  # "", "alone" or "mixed"

    def forward(self, *inputs):
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def backward(self, *gradients):
        raise NotImplementedError(f"{type(self).__name__}.backward")

    def __call__(self, *inputs):
        if "_edges" in self.__dict__:
            name = type(self).__name__
            raise RuntimeError(f"{name}: this instance is part of a graph already; cure: a new one, {name}(...)(x)")
        device = next((t.device for t in inputs if isinstance(t, Tensor)), None) or get_device("cpu")
        tensors = [self._as_tensor(t, device, inputs) for t in inputs]
        self.device = device
        self.needs = tuple(grad_enabled() and t.requires_grad for t in tensors)
        result = self.forward(*self._widened([t.data for t in tensors]))
        results = result if isinstance(result, tuple) else (result,)
        outputs = tuple(Tensor(_contiguous(device, a), device) for a in results)
        if any(self.needs):
            # An edge leads to the function that made the input, and says which output it was; or to the leaf itself,
            # and says in which version. The input's values are not kept by the graph: a function that needs them in
            # backward has saved them.
            self._edges = tuple(
                ((t.function, t.output_index, t.dtype) if t.function else (t, t.version, t.dtype)) if need else None
                for t, need in zip(tensors, self.needs)
            )
            self._outputs = len(outputs)
            for i, t in enumerate(outputs):
                if t.dtype.kind == "f":
                    t.requires_grad, t.function, t.output_index = True, self, i
        return outputs if isinstance(result, tuple) else outputs[0]

    def _widened(self, arrays):
        """The inputs with float16 as float32 where this function, or the device, does not take it."""
        half = [a.dtype == np.float16 for a in arrays]
        if not any(half):
            return arrays
        alone = all(h or a.dtype.kind != "f" for h, a in zip(half, arrays))
        if self.device.half and self.takes_half in (("mixed", "alone") if alone else ("mixed",)):
            return arrays
        return [a.astype(np.float32) if h else a for h, a in zip(half, arrays)]

    def _output_count(self) -> int:
        """How many outputs this function had; raises if `backward` has already passed here."""
        if "_outputs" not in self.__dict__:
            raise RuntimeError(
                "backward: this graph was already walked and freed by an earlier backward; "
                "cure: run the forward pass again, or add the losses and call backward once"
            )
        return self._outputs

    def _free(self) -> None:
        self.__dict__.clear()

    def _as_tensor(self, value, device, inputs) -> Tensor:
        if isinstance(value, Tensor):
            if value.device != device:
                name = type(self).__name__
                raise ValueError(f"{name}: inputs are on {device.name!r} and {value.device.name!r}; cure: x.to(...)")
            return value
        if isinstance(value, int | float | np.number) and not isinstance(value, bool):
            # a number takes the dtype of the tensor beside it
            dtypes = [t.dtype for t in inputs if isinstance(t, Tensor | np.ndarray)]
            like = next((d for d in dtypes if d.kind == "f"), None) or np.result_type(value, *dtypes)
            if like.kind == "f" and like not in dtypes:
                like = np.float32
            return tensor(np.asarray(value, like), device)
        return tensor(value, device)


def backward(root: Tensor, grad=None) -> None:
    """See `Tensor.backward`."""
    if not root.requires_grad:
        raise RuntimeError("backward: nothing in the graph of this tensor requires a gradient (requires_grad=True)")
    if grad is None:
        if root.size != 1:
            raise ValueError(f"backward: a tensor of shape {root.shape} needs grad=, an array of that shape")
        grad = np.ones(root.shape, root.dtype)
    if isinstance(grad, Tensor):
        if grad.device != root.device:
            names = f"{grad.device.name!r}, the tensor on {root.device.name!r}"
            raise ValueError(f"backward: grad is on {names}; cure: grad.to({root.device.name!r})")
        grad = _contiguous(root.device, grad.data.astype(root.dtype, copy=False))
    else:
        grad = root.device.array(grad, root.dtype)
    if grad.shape != root.shape:
        raise ValueError(f"backward: grad has shape {grad.shape}, expected {root.shape}")
    # owners of the memory that the caller has or that became the gradient of a leaf: no other leaf may share it
    given = {root.device.owner(grad)}
    if root.function is None:
        _add_to_leaf(root, grad, given)
        return
    gradients = {root.function: _at(root.output_index, root.function._output_count(), grad)}
    for function in _topological_order(root.function):
        results = function.backward(*gradients.pop(function))
        edges, device = function._edges, function.device
        function._free()
        for edge, dx in zip(edges, results if isinstance(results, tuple) else (results,), strict=True):
            if edge is None or dx is None:
                continue
            target, i, dtype = edge
            dx = _contiguous(device, dx.astype(dtype, copy=False))
            if isinstance(target, Tensor):
                _add_to_leaf(target, dx, given)
            elif target not in gradients:
                gradients[target] = _at(i, target._outputs, dx)
            else:
                slots = gradients[target]
                slots[i] = dx if slots[i] is None else _sum(device, slots[i], dx)
        del results, dx


def _at(i, count, value):
    slots = [None] * count
    slots[i] = value
    return slots


def _topological_order(last: Function) -> list[Function]:
    """Functions from the last to the first, each before all those whose results it took (depth first, no recursion)."""
    done, order, stack = set(), [], [(last, False)]
    while stack:
        function, expanded = stack.pop()
        if expanded:
            order.append(function)
        elif function not in done:
            done.add(function)
            function._output_count()
            stack.append((function, True))
            for target, number, _ in filter(None, function._edges):
                if isinstance(target, Function):
                    stack.append((target, False))
                elif target.version != number:
                    raise RuntimeError(
                        f"backward: {type(function).__name__} took a tensor of shape {target.shape} that was changed "
                        "in place since (by an optimiser's step, or new weights): what it saved no longer fits; cure: "
                        "backward before step, or run the forward pass again"
                    )
    return order[::-1]


def _contiguous(device: Device, array):
    return array if array.flags.c_contiguous else device.copy(array)


def _sum(device: Device, a, b):
    return import_module(".ops.arithmetic", __package__).sum_of(device, a, b)  # a kernel where the arrays are large


def _add_to_leaf(leaf: Tensor, grad, given: set[int]) -> None:
    device = leaf.device
    if leaf.grad is not None:
        grad = _sum(device, leaf.grad.data, grad)
    elif device.owner(grad) in given:
        grad = device.copy(grad)
    given.add(device.owner(grad))
    leaf.grad = Tensor(grad, device)
