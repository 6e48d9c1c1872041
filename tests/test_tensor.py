import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import tinyseg as ts
from tinyseg.tensor import Function, Tensor, grad_enabled


class Square(Function):
    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, dy):
        return 2 * self.x * dy


def leaf(values, dtype=np.float64):
    return ts.tensor(np.array(values, dtype), requires_grad=True)


# ---- making tensors


@pytest.mark.parametrize(
    "data, dtype",
    [
        (1, np.int64),
        (1.5, np.float32),
        ([1.5, 2], np.float32),
        (np.float64(1), np.float64),
        (np.ones(2), np.float64),
        (np.ones(2, np.float32), np.float32),
        (np.ones(2, np.float16), np.float32),
        (np.ones(2, np.longdouble), np.float32),
        (np.ones(2, np.uint8), np.uint8),
        (np.ones(2, bool), bool),
    ],
)
def test_dtype_of_a_new_tensor(device, data, dtype):
    x = ts.tensor(data, device)
    assert x.dtype == dtype and isinstance(x, ts.Tensor) and not x.requires_grad
    assert_array_equal(x.numpy(), np.asarray(data))


def test_a_tensor_is_a_contiguous_copy(device):
    a = np.arange(6.0).reshape(2, 3)
    x, y = ts.tensor(a, device), ts.tensor(a.T, device)
    a[0, 0] = 9
    assert x.numpy()[0, 0] == y.numpy()[0, 0] == 0
    assert y.data.flags.c_contiguous
    x.numpy()[0, 0] = 7
    assert x.numpy()[0, 0] == 0
    assert ts.tensor(x, device, dtype=np.float32).dtype == np.float32


def test_what_is_no_tensor():
    for bad in ("text", None, [None], {"a": 1}, np.array([1j])):
        with pytest.raises(TypeError, match="tensor: expected numbers, got"):
            ts.tensor(bad)
    with pytest.raises(TypeError, match="requires_grad=True needs floats, got int64; cure"):
        ts.tensor(np.ones(2, np.int64), requires_grad=True)


def test_python_protocols():
    x = leaf([[1, 2], [3, 4]])
    assert len(x) == 2 and [row.numpy().tolist() for row in x] == [[1, 2], [3, 4]]
    assert x.shape == (2, 2) and x.ndim == 2 and x.size == 4
    assert x[0, 1].item() == 2.0 == float(x[0, 1]) and bool(x[0, 0] > 0)
    assert_array_equal(np.asarray(x), x.numpy())
    assert np.asarray(x, np.float32).dtype == np.float32
    assert "requires_grad=True" in repr(x) and "made by Mul" in repr(2 * x) and "float64, 'cpu'" in repr(x.detach())
    assert hash(x) == hash(x) and x in {x}
    with pytest.raises(ValueError, match=r"item: the tensor has 4 elements \(shape \(2, 2\)\), expected one"):
        x.item()
    with pytest.raises(TypeError, match="without axes"):
        len(x[0, 0])
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = x.nonsense


def test_arrays_on_the_left_give_tensors():
    x = leaf([1, 2])
    for y in (np.ones(2) + x, np.ones(2) - x, np.ones(2) / x, np.ones((1, 2)) @ x, np.float64(2) * x, np.ones(2) < x):
        assert isinstance(y, Tensor)


def test_detach_and_to():
    x = leaf([1, 2])
    y = (2 * x).detach()
    assert not y.requires_grad and y.function is None and y.numpy().tolist() == [2, 4]
    assert x.to("cpu") is x


def test_every_operator_and_method_is_bound():
    import tinyseg.ops as ops

    for name, bound in vars(Tensor).items():
        assert getattr(bound, "__name__", "") != "operator", f"{name} still waits for its first use"
    for name in ops.__all__:
        assert callable(getattr(ops, name)) and getattr(ops, name).__doc__


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_is_light_and_the_first_operator_loads_the_rest():
    code = """
import sys, tinyseg as ts
x = ts.tensor([1.0, -2.0])
assert not {"numba", "cupy", "tinyseg.ops"} & set(sys.modules)
print((%s).numpy().tolist())
assert "tinyseg.ops" in sys.modules
"""
    for expression, expected in [("1 - x", "[0.0, 3.0]"), ("x.abs()[1:]", "[2.0]")]:
        assert run(code % expression) == expected


# ---- reverse mode


def test_gradients_add_up_over_paths_and_over_passes():
    x = leaf([1, 2, 3])
    (x * x + 3 * x).sum().backward()
    assert x.grad.numpy().tolist() == [5, 7, 9] and isinstance(x.grad, Tensor)
    (2 * x).sum().backward()
    assert x.grad.numpy().tolist() == [7, 9, 11]
    x.grad = None
    x.sum().backward()
    assert x.grad.numpy().tolist() == [1, 1, 1]


def test_backward_with_a_given_gradient():
    x = leaf([1, 2])
    given = np.array([10.0, 100.0])
    (x * x).backward(given)
    assert x.grad.numpy().tolist() == [20, 400] and given.tolist() == [10, 100]
    x.grad = None
    (x * x).backward(ts.tensor(given))
    assert x.grad.numpy().tolist() == [20, 400]
    x.grad = None
    x.backward(given)  # of the leaf itself
    x.backward(given)
    assert x.grad.numpy().tolist() == [20, 200]


def test_leaves_never_share_the_memory_of_their_gradients():
    x, y, z = leaf([1, 2]), leaf([3, 4]), leaf([5, 6])
    given = ts.tensor(np.array([1.0, 1.0]))
    ((x + y) + z).backward(given)
    for t in (x, y, z):
        t.grad.data *= 3
    assert [t.grad.numpy().tolist() for t in (x, y, z)] == [[3, 3]] * 3 and given.numpy().tolist() == [1, 1]
    w = leaf([1, 2])
    w.backward(given)
    w.grad.data *= 5
    assert given.numpy().tolist() == [1, 1]


def test_a_second_backward_is_an_error():
    x = leaf([1, 2])
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="already walked and freed by an earlier backward; cure"):
        y.backward()
    shared = x * x
    a, b = shared.sum(), (2 * shared).sum()
    a.backward()
    with pytest.raises(RuntimeError, match="already walked"):
        b.backward()


@pytest.mark.parametrize("change", ["step", "assign"])
def test_a_leaf_that_was_changed_since_is_an_error(change):
    w = ts.nn.Parameter(np.ones((2, 2)))
    first, second = (w * w).sum(), (w * w).sum()
    first.backward()
    before = w.grad.numpy()
    if change == "step":
        ts.optim.SGD([w], lr=0.1).step()
    else:
        w.assign(np.zeros((2, 2)))
    with pytest.raises(RuntimeError, match=r"Mul took a tensor of shape \(2, 2\) that was changed in place.*cure"):
        second.backward()
    assert np.array_equal(w.grad.numpy(), before)  # nothing was added
    (w * w).sum().backward()


def test_backward_errors():
    x = leaf([1, 2])
    with pytest.raises(ValueError, match=r"backward: a tensor of shape \(2,\) needs grad="):
        (x * x).backward()
    with pytest.raises(ValueError, match=r"backward: grad has shape \(3,\), expected \(2,\)"):
        (x * x).backward(np.ones(3))
    with pytest.raises(RuntimeError, match="nothing in the graph of this tensor requires a gradient"):
        (x.detach() * 2).sum().backward()


def test_an_instance_serves_one_graph():
    square, x = Square(), leaf([1, 2])
    y = square(x)
    with pytest.raises(RuntimeError, match=r"Square: this instance is part of a graph already; cure: a new one"):
        square(x)
    y.backward(np.ones(2))
    assert x.grad.numpy().tolist() == [2, 4]


def test_no_grad_records_nothing_and_is_per_thread():
    x = leaf([1, 2])
    with ts.no_grad():
        assert not (x * x).requires_grad
        seen = []
        thread = threading.Thread(target=lambda: seen.append((x * x).requires_grad))
        thread.start()
        thread.join()
        assert seen == [True]
        with ts.no_grad():
            pass
        assert not grad_enabled()
    assert (x * x).requires_grad
    with pytest.raises(KeyError), ts.no_grad():
        raise KeyError
    assert grad_enabled()


def test_a_graph_of_any_depth():
    x = y = leaf([1.0])
    for _ in range(5_000):
        y = y + 0.0
    y.backward()
    assert x.grad.item() == 1


def test_saved_values_are_freed_as_the_walk_leaves_them():
    alive = []

    class Keeps(Function):
        def forward(self, x):
            self.saved = np.zeros(3)
            alive.append(weakref.ref(self.saved))
            return x + 0

        def backward(self, dy):
            seen.append(sum(r() is not None for r in alive))
            return dy

    seen, x = [], leaf([1.0])
    y = Keeps()(Keeps()(Keeps()(x)))
    y.backward()
    assert seen == [3, 2, 1]
    gc.disable()
    try:
        y = Keeps()(Keeps()(x))
        del y  # no cycles: reference counts are enough
        assert not any(r() is not None for r in alive)
    finally:
        gc.enable()


def test_values_that_backward_does_not_need_are_not_kept():
    x = leaf(np.zeros(10))
    y = x + 1
    values = weakref.ref(y.data)
    z = y + 1
    del y
    gc.collect()
    assert values() is None and z.requires_grad


def test_many_outputs_and_inputs_without_gradient():
    class Split(Function):
        def forward(self, x, scale):
            self.scale = scale
            return x[:2] * scale, x[2:] * scale, np.array([1, 2])

        def backward(self, da, db, dc):
            assert dc is None and self.needs == (True, False)
            da, db = (np.zeros(2) if d is None else d * self.scale for d in (da, db))
            return np.concatenate([da, db]), None

    x = leaf([1, 2, 3, 4])
    a, b, c = Split()(x, 3.0)
    assert not c.requires_grad and c.dtype == np.int64
    (2 * a).sum().backward()
    assert x.grad.numpy().tolist() == [6, 6, 0, 0]
    x.grad = None
    a, b, _ = Split()(x, 3.0)
    (a + 10 * b + b).sum().backward()
    assert x.grad.numpy().tolist() == [3, 3, 33, 33]


def test_views_come_out_contiguous():
    class Turn(Function):
        def forward(self, x):
            return x.T

        def backward(self, dy):
            assert dy.flags.c_contiguous
            return dy.T

    x = leaf(np.arange(6.0).reshape(2, 3))
    y = Turn()(Turn()(Turn()(x)))
    assert y.data.flags.c_contiguous
    y.backward(np.arange(6.0).reshape(3, 2))
    assert x.grad.data.flags.c_contiguous
    assert_array_equal(x.grad.numpy(), np.arange(6.0).reshape(3, 2).T)


def test_a_function_without_its_equations_says_so():
    with pytest.raises(NotImplementedError, match="Function.forward"):
        Function()(leaf([1.0]))


def test_threads_can_build_and_walk_graphs_side_by_side():
    results = {}

    def work(k):
        x = leaf(np.full(40_000, float(k)))
        (x + x).relu().sum().backward()
        results[k] = x.grad.numpy()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(-2, 3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k, grad in results.items():
        assert (grad == (2 if k > 0 else 0)).all()
    assert len(results) == 5


def test_no_two_leaves_share_the_memory_of_their_gradients(device):
    a, b, c = (ts.tensor(np.ones((n, 3)), device, requires_grad=True) for n in (4, 2, 2))
    (a + ts.ops.concat([b, c], axis=0)).backward(np.ones((4, 3)))
    c.grad.data *= 5
    b.grad.data *= 3
    assert (a.grad.numpy() == 1).all() and (b.grad.numpy() == 3).all() and (c.grad.numpy() == 5).all()


def test_a_gradient_given_as_a_tensor_is_cast_and_must_be_on_the_same_device():
    class Elsewhere(type(ts.device.get_device("cpu"))):
        name = "elsewhere"

    x = ts.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    (x * 2).backward(ts.tensor(np.full((2, 3), 3, np.float64)))
    assert x.grad.dtype == np.float32 and (x.grad.numpy() == 6).all()
    with pytest.raises(ValueError, match=r"backward: grad is on 'elsewhere', the tensor on 'cpu'; cure: grad.to"):
        (x * 2).backward(ts.tensor(np.ones((2, 3)), Elsewhere()))


def test_the_gradient_given_stays_the_callers(device):
    """The leaf's gradient is not the array that was passed in, which the caller may change afterwards."""
    x = ts.tensor(np.zeros((40, 50)), device, requires_grad=True)
    dy = ts.tensor(np.ones((40, 50)), device)
    (x + 0.0).backward(dy)
    y = ts.tensor(np.zeros((40, 50)), device, requires_grad=True)
    y.backward(dy)
    dy.data[...] = 7
    assert (x.grad.numpy() == 1).all() and (y.grad.numpy() == 1).all()
