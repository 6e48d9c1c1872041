"""The end of a residual block: against its three operators one by one, and its gradient."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops import add_relu, batch_norm, batch_norm_add_relu, relu

from ..strategies import float_dtypes, normal, seeds, shapes
from .repeat import assert_bits_repeat
from .test_batch_norm import draw
from .test_batch_norm import shapes as images


def run(fn, arrays, dy, device):
    """fn's value and gradients."""
    tensors = [ts.tensor(a, device, requires_grad=True) for a in arrays]
    y = fn(*tensors)
    y.backward(dy)
    return [y.numpy(), *(t.grad.numpy() for t in tensors)]


@given(images, st.booleans(), float_dtypes, seeds)
def test_it_is_batch_norm_then_add_then_relu(device, shape, training, dtype, seed):
    x, mean, var, weight, bias = draw(shape, seed, dtype)
    z, dy = normal((2, *shape), (seed, 2), dtype)
    running = [[ts.tensor(a, device) for a in (mean, var)] for _ in "ab"]

    def fused(x, z, weight, bias):
        return batch_norm_add_relu(x, z, *running[0], weight, bias, training)

    def plain(x, z, weight, bias):
        y = batch_norm(x, *running[1], weight, bias, training) + z
        return relu(y) if np.abs(y.numpy()).min() > 1e-5 else None  # nearer to 0 a rounding decides about the sign

    arrays = x, z, weight, bias
    try:
        expected = run(plain, arrays, dy, device)
    except AttributeError:
        return
    tolerance = 1e-4 if dtype == np.float32 else 1e-9
    for got, want in zip(run(fused, arrays, dy, device), expected, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, atol=tolerance * max(1, np.abs(want).max()), rtol=0)
    for a, b in zip(*running):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("training", [True, False])
def test_gradient(device, training):
    for shape in ((2, 3, 5, 3), (1, 2, 2, 65), (7, 2)):
        x, mean, var, weight, bias = draw(shape, 0)

        def f(x, z, weight, bias):
            return batch_norm_add_relu(x, z, mean.copy(), var.copy(), weight, bias, training)  # noqa: B023

        ts.gradcheck(f, x, normal(shape, 1), weight, bias, device=device)


def test_one_tensor_on_both_ways_and_a_shortcut_alone(device):
    x, mean, var, weight, bias = draw((2, 4, 4, 6), 0)
    ts.gradcheck(lambda x: batch_norm_add_relu(x, x, mean, var, weight, bias, False), x, device=device)
    ts.gradcheck(lambda z: batch_norm_add_relu(x, z, mean, var, weight, bias, False), x, device=device)


@given(shapes(1, 4, 0), float_dtypes, seeds)
def test_add_relu(device, shape, dtype, seed):
    a, b = normal((2, *shape), seed, dtype)
    y = add_relu(ts.tensor(a, device), ts.tensor(b, device))
    np.testing.assert_array_equal(y.numpy(), np.maximum(a + b, 0))
    assert y.dtype == dtype


def test_gradient_of_add_relu(device):
    ts.gradcheck(add_relu, normal((3, 4, 5), 0), normal((3, 4, 5), 1), device=device)
    ts.gradcheck(lambda a: add_relu(a, a), normal((3, 4, 5), 0), device=device)


def test_what_broadcasts_is_done_one_by_one(device):
    x, mean, var, weight, bias = draw((2, 4, 4, 6), 0)
    z = ts.tensor(normal((6,), 1), device)
    y = batch_norm_add_relu(ts.tensor(x, device), z, mean, var, weight, bias, False)
    plain = relu(batch_norm(ts.tensor(x, device), mean, var, weight, bias, False) + z)
    np.testing.assert_array_equal(y.numpy(), plain.numpy())
    np.testing.assert_array_equal(add_relu(ts.tensor(x, device), z).numpy(), np.maximum(x + z.numpy(), 0))


def test_nan_passes(device):
    x, mean, var, weight, bias = draw((2, 4, 4, 3), 0, np.float32)
    z = np.zeros_like(x)
    x[0, 1, 2, 1] = z[1, 3, 3, 0] = np.nan
    x, z = ts.tensor(x, device), ts.tensor(z, device)
    assert np.isnan(batch_norm_add_relu(x, z, mean, var, weight, bias, False).numpy()).sum() == 2
    assert np.isnan(add_relu(x, z).numpy()).sum() == 2


def test_results_repeat(device):
    x, _, _, weight, bias = draw((2, 25, 30, 24), 0, np.float32)

    def fn(x, z, weight, bias):
        return batch_norm_add_relu(x, z, None, None, weight, bias, True)

    assert_bits_repeat(fn, x, normal(x.shape, 1, np.float32), weight, bias, device=device)


def test_errors(device):
    x, mean, var, weight, bias = draw((2, 2, 2, 6), 0)
    with pytest.raises(ValueError, match="batch_norm_add_relu: x .* has 6 channels, but got weight \\(5,\\)"):
        batch_norm_add_relu(x, x, mean, var, weight[:5], bias, False)
    with pytest.raises(ValueError, match="add: shapes .* do not broadcast"):
        batch_norm_add_relu(x, x[..., :5], mean, var, weight, bias, False)
    with pytest.raises(TypeError, match="add: inputs are float32 and float64; cure"):
        batch_norm_add_relu(x, x.astype(np.float32), mean, var, weight, bias, False)
    with pytest.raises(ValueError, match="add: shapes .* do not broadcast"):
        add_relu(x, x[:, :, :, :5])
    with pytest.raises(TypeError, match="float32 and float64"):
        add_relu(x, x.astype(np.float32))
