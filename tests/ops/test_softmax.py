import math

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops import log_softmax, softmax
from tinyseg.ops.exponential import exp

from ..strategies import float_dtypes, normal, seeds, shapes
from .repeat import assert_bits_repeat, assert_single_near_double


def oracle(x, axis):
    e = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@given(shapes(1, 4, 1, 12), st.integers(-1, 0), st.floats(0.1, 30), float_dtypes, seeds)
def test_value(device, shape, axis, spread, dtype, seed):
    x = normal(shape, seed, dtype) * dtype(spread)
    p, logp = softmax(ts.tensor(x, device), axis), log_softmax(ts.tensor(x, device), axis)
    tolerance = 1e-6 if dtype == np.float32 else 1e-13
    assert p.dtype == logp.dtype == dtype
    np.testing.assert_allclose(p.numpy(), oracle(x, axis), rtol=20 * tolerance, atol=tolerance)
    expected = x - np.log(np.exp(x - x.max(axis, keepdims=True)).sum(axis, keepdims=True)) - x.max(axis, keepdims=True)
    np.testing.assert_allclose(logp.numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("fn", [softmax, log_softmax])
@pytest.mark.parametrize("axis", [-1, 1])
def test_gradient(device, fn, axis):
    ts.gradcheck(lambda x: fn(x, axis), normal((2, 3, 4, 21), 0), device=device)


@pytest.mark.parametrize("fn", [softmax, log_softmax])
def test_threads_and_precision(device, fn):
    x = normal((3, 40, 21), 0)
    assert_bits_repeat(fn, x.astype(np.float32), device=device)
    assert_single_near_double(fn, x, device=device)


def test_extremes(device):
    x = np.array([[1e30, 0, -1e30], [-np.inf, 0, 0], [np.nan, 1, 2], [-np.inf, -np.inf, -np.inf]], np.float32)
    p = softmax(ts.tensor(x, device)).numpy()
    np.testing.assert_array_equal(p[:2], [[1, 0, 0], [0, 0.5, 0.5]])
    assert np.isnan(p[2:]).all()
    assert softmax(ts.tensor(np.zeros((0, 3), np.float32), device)).shape == (0, 3)


def test_exp_in_float32():
    """Within 1.5 units in the last place wherever the result has full precision."""

    @numba.njit
    def each(y, x):
        for i in range(len(x)):
            y[i] = exp(x[i])

    x = np.concatenate([np.linspace(-87, 88, 200_001), np.linspace(-1, 1, 100_001)]).astype(np.float32)
    y = np.empty_like(x)
    each(y, x)
    exact = np.exp(x.astype(np.float64))
    assert np.max(np.abs(y - exact) / np.spacing(exact.astype(np.float32))) < 1.5
    x = np.array([0, -100, -np.inf, 100, np.inf, np.nan], np.float32)
    y = np.empty_like(x)
    each(y, x)
    np.testing.assert_array_equal(y, [1, 0, 0, np.inf, np.inf, np.nan])
    y = np.empty(1)
    each(y, np.array([0.3]))
    assert y[0] == math.exp(0.3)


def test_errors(device):
    x = ts.tensor(np.zeros((2, 3), np.float32), device)
    with pytest.raises(ValueError, match="softmax: axis 2 of x"):
        softmax(x, 2)
    with pytest.raises(ValueError, match="log_softmax: axis -1 .* empty"):
        log_softmax(np.zeros((2, 0), np.float32))
