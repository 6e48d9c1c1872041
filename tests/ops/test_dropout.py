import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops import dropout, dropout2d

from ..strategies import float_dtypes, normal, seeds, shapes
from .repeat import assert_bits_repeat


@given(shapes(0, 4, 0, 6), st.sampled_from([0.0, 0.1, 0.5, 1.0]), float_dtypes, seeds)
def test_values_are_kept_whole_or_dropped(device, shape, p, dtype, seed):
    x = normal(shape, seed, dtype)
    y = dropout(ts.tensor(x, device), p, seed=seed)
    assert y.shape == shape and y.dtype == dtype
    y, scaled = y.numpy(), x / dtype(1 - p) if p < 1 else np.zeros(shape)
    assert np.all((y == 0) | np.isclose(y, scaled, rtol=1e-6))
    assert p > 0 or np.array_equal(y, x)


def test_share_and_independence(device):
    keep = dropout(ts.tensor(np.ones((4, 64, 64, 32), np.float32), device), 0.3, seed=1).numpy() > 0
    assert abs(keep.mean() - 0.7) < 3e-3
    for axis in range(4):
        others = tuple(a for a in range(4) if a != axis)
        assert np.abs(keep.mean(others) - 0.7).max() < 0.05
        a, b = np.take(keep, range(keep.shape[axis] - 1), axis), np.take(keep, range(1, keep.shape[axis]), axis)
        assert abs((a & b).mean() - 0.49) < 5e-3  # neighbours know nothing of each other
    other = dropout(ts.tensor(np.ones(keep.shape, np.float32), device), 0.3, seed=2).numpy() > 0
    assert abs((keep & other).mean() - 0.49) < 5e-3


def test_whole_channels(device):
    y = dropout2d(ts.tensor(np.ones((50, 4, 6, 40), np.float32), device), 0.25, seed=1).numpy()
    assert np.all(y == y[:, :1, :1])
    assert abs((y[:, 0, 0] > 0).mean() - 0.75) < 0.03
    assert not np.array_equal(y[0], y[1])


@pytest.mark.parametrize("fn", [dropout, dropout2d])
def test_gradient_is_the_same_mask(device, fn):
    ts.adjoint_check(lambda x: fn(x, 0.4, seed=3), normal((3, 4, 5, 6), 0), device=device)


def test_the_generator_alone_decides(device):
    x = ts.tensor(np.ones((2, 8, 8, 40), np.float32), device)
    rng = np.random.default_rng(5)
    dropout(x, seed=rng)
    state = rng.bit_generator.state
    y, z = dropout(x, seed=rng).numpy(), dropout(x, seed=rng).numpy()
    assert not np.array_equal(y, z)
    resumed = np.random.default_rng()
    resumed.bit_generator.state = state
    np.testing.assert_array_equal(dropout(x, seed=resumed).numpy(), y)
    assert_bits_repeat(lambda x: dropout(x, seed=3), x.numpy(), device=device)


def test_outside_training(device):
    x = ts.tensor(np.ones((2, 8), np.float32), device)
    assert dropout(x, 0.5, training=False) is x


def test_errors(device):
    x = ts.tensor(np.ones((2, 8), np.float32), device)
    with pytest.raises(ValueError, match="p is 1.5"):
        dropout(x, 1.5, seed=0)
    with pytest.raises(TypeError, match="seed is NoneType.*default_rng"):
        dropout(x, 0.5)
    with pytest.raises(ValueError, match="dropout2d: x has shape"):
        dropout2d(x, 0.5, seed=0)


def test_an_array_becomes_a_tensor_in_evaluation_too():
    y = ts.ops.dropout(np.ones((2, 3), np.float32), training=False)
    assert isinstance(y, ts.Tensor) and (y.numpy() == 1).all()
