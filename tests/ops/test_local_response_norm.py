"""Local response normalisation against its equation, its gradient, its errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyseg as ts
from tests.strategies import float_dtypes, normal, seeds, shapes


def oracle(x, size, alpha, beta, k):
    y, C = np.empty_like(x), x.shape[-1]
    for c in range(C):
        window = x[..., max(0, c - size // 2) : c + (size - 1) // 2 + 1]
        y[..., c] = x[..., c] * (k + alpha / size * (window**2).sum(-1)) ** -beta
    return y


options = st.tuples(st.integers(1, 7), st.floats(0.1, 5), st.sampled_from([0.5, 0.75, 2.0]), st.floats(0.5, 2))


@given(shape=shapes(1, 4, 1, 6), how=options, dtype=float_dtypes, seed=seeds)
@settings(max_examples=15)
def test_value(device, shape, how, dtype, seed):
    x = normal(shape, seed, dtype)
    y = ts.ops.local_response_norm(ts.tensor(x, device), *how)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), oracle(x, *how), rtol=1e-5 if dtype == np.float32 else 1e-12)


@given(shape=shapes(1, 3, 1, 6), how=options, seed=seeds)
@settings(max_examples=15)
def test_gradient(device, shape, how, seed):
    ts.gradcheck(lambda x: ts.ops.local_response_norm(x, *how), normal(shape, seed), device=device)


def test_what_cannot_be(device):
    with pytest.raises(ValueError, match="local_response_norm: size is 0"):
        ts.ops.local_response_norm(ts.tensor(np.ones(3, np.float32), device), 0)
    with pytest.raises(ValueError, match="no axis of channels"):
        ts.ops.local_response_norm(ts.tensor(np.float32(1), device), 3)
    with pytest.raises((TypeError, ValueError), match="local_response_norm"):
        ts.ops.local_response_norm(ts.tensor(np.ones(3, np.int32), device), 3)
