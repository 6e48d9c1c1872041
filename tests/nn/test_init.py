"""Initial values: their spread, their determinism, and the two filters that mean something."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import seeds
from tinyseg import nn
from tinyseg.nn import init

FILTER = (3, 3, 40, 60)
SPREADS = {
    "kaiming_normal": (lambda s: init.kaiming_normal(FILTER, s), 2 / 360),
    "kaiming_normal fan_out": (lambda s: init.kaiming_normal(FILTER, s, mode="fan_out"), 2 / 540),
    "kaiming_uniform": (lambda s: init.kaiming_uniform(FILTER, s), 2 / 360),
    "kaiming_uniform 1/3": (lambda s: init.kaiming_uniform(FILTER, s, gain=1 / 3), 1 / 1080),
    "xavier_uniform": (lambda s: init.xavier_uniform(FILTER, s), 2 / 900),
    "xavier_normal": (lambda s: init.xavier_normal((200, 100), s), 2 / 300),
    "normal": (lambda s: init.normal(FILTER, 0.01, s), 1e-4),
    "truncated_normal": (lambda s: init.truncated_normal(FILTER, 0.01, s), 1e-4 * 0.7737),
}


@pytest.mark.parametrize("name", SPREADS)
def test_spread_and_determinism(name):
    make, variance = SPREADS[name]
    values = make(3)
    assert values.dtype == np.float32
    assert values.var() == pytest.approx(variance, rel=0.05) and abs(values.mean()) < 0.05 * variance**0.5
    assert np.array_equal(values, make(3)) and not np.array_equal(values, make(4))
    rng = np.random.default_rng(3)
    assert np.array_equal(values, make(rng)) and not np.array_equal(values, make(rng))


def test_bounds():
    assert np.abs(init.truncated_normal((100, 100), 0.5)).max() <= 1
    assert np.abs(init.kaiming_uniform((50, 400), gain=1 / 3)).max() <= 50**-0.5


def test_bilinear_kernel_of_fcn():
    w = init.bilinear((4, 4, 2, 2))
    tap = np.outer([0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(w[:, :, 0, 0], tap)
    np.testing.assert_allclose(w[:, :, 1, 1], tap)
    assert not w[:, :, 0, 1].any() and not w[:, :, 1, 0].any()
    np.testing.assert_allclose(init.bilinear((3, 3, 1, 2))[:, :, 0, 1], np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]))
    with pytest.raises(ValueError, match="neither"):
        init.bilinear((4, 4, 2, 3))


@given(seeds, st.integers(1, 4))
def test_bilinear_columns_of_a_stride_sum_to_one(seed, stride):
    """Each output pixel of the transposed convolution with k = 2s is a weighted mean of its neighbours."""
    tap = init.bilinear((4 * stride, 4 * stride, 1, 1))[:, :, 0, 0]  # stride 2s
    np.testing.assert_allclose(tap.reshape(2, 2 * stride, 2, 2 * stride).sum((0, 2)), 1, rtol=1e-6)


def test_identity_over_groups_keeps_the_sum_of_each_share():
    wide, narrow = init.identity((3, 3, 2, 6), 2), init.identity((1, 1, 6, 2), 2)
    x = np.array([5.0, 7.0])
    assert np.allclose(x @ wide[1, 1], [5 / 3] * 3 + [7 / 3] * 3) and np.allclose(x @ wide[1, 1] @ narrow[0, 0], x)
    assert not wide[0].any() and np.array_equal(init.identity((3, 3, 4, 4), 4), init.identity((3, 3, 4, 4)))
    noisy = init.identity((3, 3, 2, 60), 2, 0.01, seed=1)
    assert np.array_equal(noisy[1, 1][:, :30][0], np.full(30, np.float32(1 / 30)))
    assert noisy[0].std() == pytest.approx(0.01, rel=0.1)


def test_identity_and_errors():
    w = init.identity((3, 5, 4, 4))
    assert np.array_equal(w[1, 2], np.eye(4)) and w.sum() == 4
    with pytest.raises(ValueError, match="no middle"):
        init.identity((2, 3, 4, 4))
    with pytest.raises(ValueError, match="expected a filter"):
        init.fans((3, 3, 3))
    with pytest.raises(ValueError, match="mode is 'fan'"):
        init.kaiming_normal(FILTER, mode="fan")
    assert not init.zeros((2, 2)).any()


def test_without_init_nothing_is_drawn_and_nothing_taken():
    with nn.no_init():
        layer = nn.Conv2d(2, 3, 3)
        assert not init.normal((4, 4), 1.0).any() and not init.identity((3, 3, 2, 2)).any()
        assert init.uniform((1 << 20, 1 << 20), 1.0).strides == (0, 0)  # a terabyte that takes no memory
        assert not init.bilinear((4, 4, 2, 2)).any() and not init.truncated_normal((3,), 1.0).any()
        before = layer.weight.numpy()
        layer.weight.assign(np.full(layer.weight.shape, 5.0))
        np.testing.assert_array_equal(layer.weight.numpy(), before)
        with pytest.raises(ValueError, match="assign: got shape"):
            layer.bias.assign(np.zeros(4))
    assert layer.weight.shape == (3, 3, 2, 3) and layer.parameter_count() == 57
    layer.weight.assign(np.full(layer.weight.shape, 5.0))
    assert (layer.weight.numpy() == 5).all()
    with pytest.raises(RuntimeError, match="out of the block"), nn.no_init():
        raise RuntimeError("out of the block")
    assert nn.Conv2d(2, 3, 3).weight.numpy().any()
