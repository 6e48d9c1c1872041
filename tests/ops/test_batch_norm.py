import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops import batch_norm, batch_norm_relu

from ..strategies import float_dtypes, normal, seeds
from .repeat import assert_bits_repeat, assert_single_near_double

shapes = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3, 8, 21, 65])),
    st.tuples(st.integers(2, 9), st.sampled_from([1, 5, 64])),
).filter(lambda shape: np.prod(shape[:-1]) > 1)


def oracle(x, mean, var, weight, bias, relu, eps=1e-5):
    y = (x - mean) / np.sqrt(var + eps) * weight + bias
    return np.maximum(y, 0) if relu else y


def draw(shape, seed, dtype=np.float64):
    """x, running mean, running variance, weight, bias"""
    x, (mean, deviation, weight, bias) = normal(shape, seed, dtype), normal((4, shape[-1]), (seed, 1), dtype)
    return x, mean, deviation**2 + dtype(0.1), weight, bias


@pytest.mark.parametrize("fn, relu", [(batch_norm, False), (batch_norm_relu, True)])
@given(shapes, st.booleans(), float_dtypes, seeds)
def test_value_and_running_statistics(device, fn, relu, shape, training, dtype, seed):
    x, mean, var, weight, bias = draw(shape, seed, dtype)
    running = ts.tensor(mean, device), ts.tensor(var, device)
    y = fn(ts.tensor(x, device), *running, weight, bias, training, momentum=0.2)
    axes, exact = tuple(range(x.ndim - 1)), x.astype(np.float64)
    batch = (exact.mean(axes), exact.var(axes)) if training else (mean, var)
    tolerance = dict(rtol=1e-5, atol=2e-5) if dtype == np.float32 else dict(rtol=1e-9, atol=1e-9)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), oracle(exact, *batch, weight, bias, relu), **tolerance)
    if training:
        mean, var = 0.8 * mean + 0.2 * batch[0], 0.8 * var + 0.2 * exact.var(axes, ddof=1)
    np.testing.assert_allclose(running[0].numpy(), mean, **tolerance)
    np.testing.assert_allclose(running[1].numpy(), var, **tolerance)


@pytest.mark.parametrize("fn", [batch_norm, batch_norm_relu])
@pytest.mark.parametrize("training", [True, False])
def test_gradient(device, fn, training):
    for shape in ((2, 3, 5, 3), (3, 4, 4, 8), (1, 2, 2, 65), (7, 2)):
        x, mean, var, weight, bias = draw(shape, 0)

        def f(x, weight, bias):
            return fn(x, mean.copy(), var.copy(), weight, bias, training)  # noqa: B023

        ts.gradcheck(f, x, weight, bias, device=device)


def test_without_weight_bias_and_running_statistics(device):
    x = normal((2, 4, 4, 6), 0)
    y = batch_norm(ts.tensor(x, device), None, None, None, None, True)
    np.testing.assert_allclose(y.numpy().mean((0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.numpy().std((0, 1, 2)), 1, rtol=1e-4)
    ts.gradcheck(lambda x: batch_norm(x, None, None, None, None, True), x, device=device)


def test_frozen_passes_a_gradient_to_x_alone(device):
    x, mean, var, weight, bias = draw((2, 4, 4, 6), 0)
    x = ts.tensor(x, device, requires_grad=True)
    y = batch_norm_relu(x, mean, var, ts.tensor(weight, device), ts.tensor(bias, device), False)
    y.backward(np.ones(y.shape))
    np.testing.assert_allclose(x.grad.numpy(), (y.numpy() > 0) * weight / np.sqrt(var + 1e-5))


def test_many_pixels_and_a_large_mean(device):
    """float32 keeps five digits of the variance where the mean is a thousand deviations away."""
    x = normal((2, 50, 60, 8), 0) + 1000
    y = batch_norm(ts.tensor(x.astype(np.float32), device), None, None, None, None, True).numpy()
    exact = x.astype(np.float32).astype(np.float64)
    expected = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(y, expected, atol=2e-4)  # 1000 * scale + shift costs three of seven digits


def test_empty_batch_and_nan(device):
    empty = ts.tensor(np.zeros((0, 4, 4, 3), np.float32), device)
    assert batch_norm(empty, np.zeros(3), np.ones(3), None, None, False).shape == (0, 4, 4, 3)
    x = normal((2, 4, 4, 3), 0, np.float32)
    x[0, 1, 2, 1] = np.nan
    y = batch_norm_relu(ts.tensor(x, device), np.zeros(3), np.ones(3), None, None, False).numpy()
    assert np.isnan(y).sum() == 1 and np.isnan(y[0, 1, 2, 1])


def test_threads_and_precision(device):
    x, _, _, weight, bias = draw((2, 25, 30, 24), 0)

    def fn(x, weight, bias):
        return batch_norm_relu(x, None, None, weight, bias, True)

    assert_bits_repeat(fn, *(a.astype(np.float32) for a in (x, weight, bias)), device=device)
    # without the ReLU: near 0 a rounding decides about its sign
    assert_single_near_double(lambda *a: batch_norm(a[0], None, None, *a[1:], True), x, weight, bias, device=device)


def test_errors(device):
    x, mean, var, weight, bias = draw((1, 1, 1, 6), 0)
    with pytest.raises(ValueError, match="at least 2 values for each channel.*larger batch"):
        batch_norm(x, mean, var, weight, bias, True)
    with pytest.raises(ValueError, match="at least 2 values"):
        batch_norm_relu(np.zeros((0, 4, 4, 6)), mean, var, weight, bias, True)
    with pytest.raises(ValueError, match="needs running_mean and running_var"):
        batch_norm(x, None, None, weight, bias, False)
    with pytest.raises(ValueError, match="batch_norm_relu: x .* has 6 channels, but got weight \\(5,\\)"):
        batch_norm_relu(x, mean, var, weight[:5], bias, False)
    with pytest.raises(TypeError, match="float32 or float64"):
        batch_norm(np.zeros((2, 2, 2, 6), np.int32), mean, var, weight, bias, False)


def test_parameters_that_do_not_fit_are_refused():
    x, four = ts.tensor(np.ones((2, 3, 3, 4), np.float32)), np.ones(4, np.float32)
    number = ts.tensor(np.float32(1), requires_grad=True)
    with pytest.raises(ValueError, match=r"weight is one number that requires a gradient; expected shape \(4,\)"):
        ts.ops.batch_norm(x, None, None, number, None, training=True)
    with pytest.raises(TypeError, match="bias has dtype float64, x float32"):
        ts.ops.batch_norm(x, None, None, four, four.astype(np.float64), training=True)
    for mean, var in ((four, None), (None, four)):
        with pytest.raises(ValueError, match="one is None; expected both or neither"):
            ts.ops.batch_norm(x, mean, var, four, four, training=True)
