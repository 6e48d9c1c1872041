import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tinyseg as ts
from tests.strategies import broadcastable, distinct, distinct_arrays, float_dtypes, normal, seeds

positive = lambda x: np.abs(x) + 0.5  # noqa: E731

# name: (operator, its oracle for one number, the domain)
ONE = {
    "neg": (ts.ops.neg, lambda x: -x, None),
    "abs": (ts.ops.abs, math.fabs, None),
    "exp": (ts.ops.exp, math.exp, None),
    "log": (ts.ops.log, math.log, positive),
    "sqrt": (ts.ops.sqrt, math.sqrt, positive),
    "relu": (ts.ops.relu, lambda x: x if x > 0 else 0.0, None),
    "leaky_relu": (lambda x: ts.ops.leaky_relu(x, 0.1), lambda x: x if x > 0 else 0.1 * x, None),
    "sigmoid": (ts.ops.sigmoid, lambda x: 1 / (1 + math.exp(-x)), None),
    "tanh": (ts.ops.tanh, math.tanh, None),
    "softplus": (ts.ops.softplus, lambda x: math.log(1 + math.exp(x)), None),
    "log_sigmoid": (ts.ops.log_sigmoid, lambda x: math.log(1 / (1 + math.exp(-x))), None),
    "clip": (lambda x: ts.ops.clip(x, -0.3, 0.41), lambda x: min(max(x, -0.3), 0.41), None),
    "clip below": (lambda x: ts.ops.clip(x, min=0.02), lambda x: max(x, 0.02), None),
    "square": (lambda x: x**2, lambda x: x * x, None),
    "cube": (lambda x: x**3, lambda x: x * x * x, None),
    "reciprocal": (lambda x: x**-1, lambda x: 1 / x, positive),
    "power 0": (lambda x: x**0, lambda x: 1.0, None),
    "power 1.5": (lambda x: x**1.5, lambda x: x * math.sqrt(x), positive),
    "2 - x": (lambda x: 2 - x, lambda x: 2 - x, None),
    "3 / x": (lambda x: 3 / x, lambda x: 3 / x, positive),
    "2 ** x": (lambda x: 2**x, lambda x: 2**x, None),
}
TWO = {
    "add": (ts.ops.add, lambda a, b: a + b, None),
    "sub": (ts.ops.sub, lambda a, b: a - b, None),
    "mul": (ts.ops.mul, lambda a, b: a * b, None),
    "div": (ts.ops.div, lambda a, b: a / b, positive),
    "pow": (ts.ops.pow, lambda a, b: a**b, positive),
    "maximum": (ts.ops.maximum, max, None),
    "minimum": (ts.ops.minimum, min, None),
}


@pytest.mark.parametrize("name", ONE)
@given(x=distinct_arrays(), dtype=float_dtypes)
def test_one_argument(device, name, x, dtype):
    op, oracle, domain = ONE[name]
    x = x / 3 if domain is None else domain(x)
    before = x.astype(dtype)
    t = ts.tensor(before, device, requires_grad=True)
    y = op(t)
    assert y.dtype == dtype and y.shape == x.shape and y.data.flags.c_contiguous
    expected = np.vectorize(oracle, otypes=[float])(before)
    assert_allclose(y.numpy(), expected, 1e-12 if dtype == np.float64 else 3e-6, 1e-7)
    y.backward(np.ones(y.shape))
    assert t.grad.dtype == dtype
    assert_array_equal(t.numpy(), before)
    ts.gradcheck(op, x, device=device)


@pytest.mark.parametrize("name", TWO)
@given(shapes=broadcastable(2), seed=seeds, dtype=float_dtypes)
def test_two_arguments(device, name, shapes, seed, dtype):
    op, oracle, domain = TWO[name]
    values = distinct((sum(math.prod(s) for s in shapes),), seed)  # no ties between a and b either
    a, b = (part.reshape(s) for part, s in zip(np.split(values, [math.prod(shapes[0])]), shapes))
    if domain:
        a, b = domain(a), domain(b)
    y = op(ts.tensor(a.astype(dtype), device), ts.tensor(b.astype(dtype), device))
    assert y.dtype == dtype and y.data.flags.c_contiguous
    expected = np.vectorize(oracle, otypes=[float])(a.astype(dtype).astype(float), b.astype(dtype).astype(float))
    assert_allclose(y.numpy(), expected, 1e-12 if dtype == np.float64 else 1e-5, 1e-6)
    ts.gradcheck(op, a, b, device=device, directions=1)


@given(shapes=broadcastable(3), seed=seeds)
def test_where(device, shapes, seed):
    condition, a, b = normal(shapes[0], seed) > 0, normal(shapes[1], seed + 1), normal(shapes[2], seed + 2)
    assert_array_equal(ts.ops.where(condition, a, b).numpy(), np.where(condition, a, b))
    ts.gradcheck(ts.ops.where, condition, a, b, device=device)


def test_what_is_not_chosen_has_no_gradient_even_where_dy_is_infinite():
    for choose in (
        lambda x: ts.ops.where(np.array([True, False]), x, 3.0), lambda x: ts.ops.clip(x, -9.0, 3.0),
        lambda x: ts.ops.minimum(x, 3.0), lambda x: ts.ops.minimum(3.0, x),
    ):  # fmt: skip
        x = ts.tensor(np.array([1.0, 5.0]), requires_grad=True)
        choose(x).backward(np.array([2.0, np.inf]))
        assert x.grad.numpy().tolist() == [2, 0]


def test_where_takes_numbers_and_never_multiplies_the_value_not_chosen():
    x = ts.tensor(np.array([1.0, 0.0], np.float32), requires_grad=True)
    y = ts.ops.where(x > 0, x, -1)
    assert y.dtype == np.float32 and y.numpy().tolist() == [1, -1]
    assert ts.ops.where(np.array([True]), np.array([1.0]), np.array([np.nan])).item() == 1


@pytest.mark.parametrize("name", ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"])
@given(shapes=broadcastable(2), seed=seeds)
def test_comparisons(device, name, shapes, seed):
    a, b = (np.round(normal(s, seed + i)) for i, s in enumerate(shapes))
    ta, tb = ts.tensor(a, device, requires_grad=True), ts.tensor(b, device)
    expected = getattr(np, name)(a, b)
    python = {"less": operator.lt, "less_equal": operator.le, "greater": operator.gt, "greater_equal": operator.ge}
    python |= {"equal": operator.eq, "not_equal": operator.ne}
    for y in (getattr(ts.ops, name)(ta, tb), python[name](ta, tb), python[name](a, tb)):
        assert y.dtype == bool and not y.requires_grad
        assert_array_equal(y.numpy(), expected)


@pytest.mark.parametrize("size", [1, 1000, (1 << 15) + 3, 100_003])
def test_kernels_equal_numpy_at_every_size(device, size, dtype=np.float32):
    a, b = normal(size, 1, dtype), normal(size, 2, dtype)
    ta, tb = ts.tensor(a, device, requires_grad=True), ts.tensor(b, device, requires_grad=True)
    assert_array_equal((ta + tb).numpy(), a + b)
    y = ts.ops.relu(ta)
    assert_array_equal(y.numpy(), np.maximum(a, 0))
    y.backward(b)
    assert_array_equal(ta.grad.numpy(), np.where(a > 0, b, 0))


def test_relu_at_zero_and_nan(device):
    x = ts.tensor(np.array([0.0, -0.0, np.nan, np.inf, -np.inf], np.float32), device, requires_grad=True)
    y = ts.ops.relu(x)
    assert_array_equal(y.numpy(), np.array([0, 0, np.nan, np.inf, 0]))
    y.backward(np.ones(5))
    assert_array_equal(x.grad.numpy(), [0, 0, 0, 1, 0])


@given(scale=st.sampled_from([1.0, 30.0, 1000.0]), dtype=float_dtypes)
def test_sigmoid_and_softplus_never_overflow(device, scale, dtype):
    x = ts.tensor(np.array([-3, -1, 1, 3], dtype) * dtype(scale), device)
    with np.errstate(all="raise", under="ignore"):
        s, p, l = ts.ops.sigmoid(x).numpy(), ts.ops.softplus(x).numpy(), ts.ops.log_sigmoid(x).numpy()
    exact = x.numpy().astype(np.float64)
    with np.errstate(under="ignore"):
        assert_allclose(s, np.exp(-np.logaddexp(0, -exact)), 1e-5, 1e-37)
        assert_allclose(p, np.logaddexp(0, exact), 1e-5, 1e-37)
        assert_allclose(l, -np.logaddexp(0, -exact), 1e-5, 1e-37)


def test_equal_values_share_the_gradient(device):
    a, b = (ts.tensor(np.ones(2), device, requires_grad=True) for _ in "ab")
    (2 * ts.ops.maximum(a, b) + 4 * ts.ops.minimum(a, b)).sum().backward()
    assert a.grad.numpy().tolist() == b.grad.numpy().tolist() == [3, 3]


def test_power_of_zero_has_finite_gradients():
    x, e = ts.tensor(np.zeros(1), requires_grad=True), ts.tensor(np.full(1, 2.0), requires_grad=True)
    (x**e + x**2 + x**0 + x**1).sum().backward()
    assert x.grad.item() == 1 and e.grad.item() == 0


def test_dtypes():
    whole, half = ts.tensor(np.array([1, 2], np.int32)), ts.tensor(np.array([0.5, 0.5], np.float32))
    assert (whole + half).dtype == np.float32 == (half * whole).dtype == (whole / whole).dtype
    assert (whole + ts.tensor(np.ones(2))).dtype == np.float64
    assert (whole + 1).dtype == np.int32 and (whole * 0.5).dtype == np.float32 and (whole**2).dtype == np.int32
    assert (half + 1).dtype == np.float32 == (np.float64(2) * half).dtype == (half + np.float64(2)).dtype
    assert (half * True).dtype == np.float32 == (half * np.bool(True)).dtype
    assert (whole == 1).numpy().tolist() == [True, False]
    for op in (ts.ops.exp, ts.ops.sqrt, ts.ops.sigmoid, ts.ops.relu, ts.ops.mean, lambda x: x**-1, lambda x: x**0.5):
        assert op(whole).dtype == np.float32


def test_astype_casts_the_gradient_back():
    x = ts.tensor(np.array([1.5, 2.5], np.float32), requires_grad=True)
    (x.astype(np.float64) * np.array([3.0, 4.0])).sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.numpy().tolist() == [3, 4]
    assert x.astype(np.int64).numpy().tolist() == [1, 2] and not x.astype(np.int64).requires_grad
    ts.gradcheck(lambda x: x.astype(np.float64), normal((2, 3), 0))


def test_errors_name_operator_and_cure():
    a, b = ts.tensor(np.ones((2, 3), np.float32)), ts.tensor(np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"mul: inputs are float32 and float64; cure: .*astype"):
        a * b
    with pytest.raises(TypeError, match=r"where: inputs are float32 and float64"):
        ts.ops.where(a > 0, a, b)
    with pytest.raises(TypeError, match=r"where: condition has dtype float32, expected bool; cure: condition != 0"):
        ts.ops.where(a, a, a)
    with pytest.raises(ValueError, match=r"add: shapes \(2, 3\) and \(4,\) do not broadcast"):
        a + np.ones(4, np.float32)
    with pytest.raises(ValueError, match=r"less: shapes \(2, 3\) and \(4,\) do not broadcast"):
        ts.ops.less(a, np.ones(4, np.float32))
    with pytest.raises(ValueError, match=r"clip: expected min, max or both"):
        ts.ops.clip(a)
    with pytest.raises(TypeError, match=r"expected numbers, got str"):
        a + "one"
