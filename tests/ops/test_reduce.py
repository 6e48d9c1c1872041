import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import tinyseg as ts
from tests.strategies import axes_of, distinct, float_dtypes, normal, seeds, shapes

# name: (operator, its oracle for the list of numbers that fall together)
REDUCTIONS = {
    "sum": (ts.ops.sum, math.fsum),
    "mean": (ts.ops.mean, lambda v: math.fsum(v) / len(v)),
    "max": (ts.ops.max, max),
    "min": (ts.ops.min, min),
    "var": (ts.ops.var, lambda v: math.fsum((a - math.fsum(v) / len(v)) ** 2 for a in v) / len(v)),
    "logsumexp": (ts.ops.logsumexp, lambda v: math.log(math.fsum(map(math.exp, v)))),
}


def reduced(oracle, x, axis, keepdims):
    """The oracle on each group of numbers that differ only in the position along the axes."""
    axes = range(x.ndim) if axis is None else [a % x.ndim for a in np.atleast_1d(axis)]
    groups = {}
    for index, value in np.ndenumerate(x):
        key = tuple(0 if i in axes else k for i, k in enumerate(index))
        groups.setdefault(key, []).append(float(value))
    y = np.empty([1 if i in axes else n for i, n in enumerate(x.shape)])
    for key, values in groups.items():
        y[key] = oracle(values)
    return y if keepdims else y.reshape([n for i, n in enumerate(x.shape) if i not in axes])


@pytest.mark.parametrize("name", REDUCTIONS)
@given(data=st.data(), shape=shapes(max_side=4), keepdims=st.booleans(), seed=seeds, dtype=float_dtypes)
def test_values_and_gradients(device, name, data, shape, keepdims, seed, dtype):
    op, oracle = REDUCTIONS[name]
    axis, x = data.draw(axes_of(len(shape))), distinct(shape, seed)
    t = ts.tensor(x.astype(dtype), device)
    y = op(t, axis, keepdims)
    assert y.dtype == dtype and y.data.flags.c_contiguous
    expected = reduced(oracle, x.astype(dtype), axis, keepdims)
    assert y.shape == expected.shape
    assert_allclose(y.numpy(), expected, *((1e-11, 1e-11) if dtype == np.float64 else (1e-4, 1e-4)))
    assert_allclose(t.numpy(), x.astype(dtype))
    ts.gradcheck(lambda x: op(x, axis, keepdims), x, device=device, directions=1)


@given(shape=shapes(min_axes=1), seed=seeds, correction=st.integers(0, 1))
def test_var_with_correction(device, shape, seed, correction):
    x = normal((2, *shape), seed)
    assert_allclose(ts.ops.var(x, 0, correction=correction).numpy(), x.var(0, ddof=correction), 1e-9, 1e-12)
    ts.gradcheck(lambda x: x.var(0, correction=correction), x, device=device)


def test_float32_sums_stay_good_over_a_million_pixels(device):
    x = (np.random.default_rng(0).random((4, 512, 512, 3)) + 1).astype(np.float32)
    t = ts.tensor(x, device)
    for axis in (None, (0, 1, 2), (1, 2), (1, 2, 3)):
        assert_allclose(t.sum(axis).numpy(), x.sum(axis, dtype=np.float64), 1e-6)


def test_ties_share_the_gradient(device):
    x = ts.tensor(np.array([[3.0, 1, 3], [2, 2, 2]]), device, requires_grad=True)
    (x.max(axis=1).sum() + 6 * x[1].min()).backward()
    assert_allclose(x.grad.numpy(), [[0.5, 0, 0.5], [1 / 3 + 2] * 3])


def test_logsumexp_of_extremes(device):
    x = np.array([[1000.0, 1000], [-np.inf, 0], [-np.inf, -np.inf], [-1000, -1000]])
    t = ts.tensor(x, device, requires_grad=True)
    with np.errstate(all="raise", under="ignore"):
        y = ts.ops.logsumexp(t, axis=1)
        y.backward(np.ones(4))
    assert_allclose(y.numpy(), [1000 + math.log(2), 0, -np.inf, -1000 + math.log(2)])
    assert_allclose(t.grad.numpy(), [[0.5, 0.5], [0, 1], [0, 0], [0.5, 0.5]])


def test_integers_and_empty_arrays():
    assert ts.ops.sum(np.array([200, 100], np.uint8)).item() == 300
    assert ts.ops.sum(np.array([True, True])).item() == 2
    assert ts.ops.sum(np.zeros((0, 3))).item() == 0
    assert ts.ops.max(np.zeros((0, 3)), axis=1).shape == (0,)
    assert ts.ops.sum(np.float32(3)).shape == ()


@pytest.mark.parametrize("name", ["mean", "max", "min", "var", "logsumexp"])
def test_nothing_to_reduce(name):
    with pytest.raises(ValueError, match=rf"{name}: there is nothing to reduce in x of shape \(0, 3\) over axis 0"):
        getattr(ts.ops, name)(np.zeros((0, 3)), axis=0)


def test_errors():
    for axis in (2, -3, (0, 0), (0, -2)):
        with pytest.raises(ValueError, match=r"sum: axis .* does not fit x of shape \(2, 3\)"):
            ts.ops.sum(np.zeros((2, 3)), axis=axis)
    with pytest.raises(ValueError, match=r"var: 1 values are too few for correction=1"):
        ts.ops.var(np.zeros((1, 3)), axis=0, correction=1)
