import numpy as np
import pytest
from hypothesis import given

import tinyseg as ts
from tinyseg.ops import max_pool2d, max_unpool2d

from ..strategies import distinct, float_dtypes, normal, pool_geometries, seeds
from .repeat import assert_bits_repeat, assert_single_near_double

TWO_BY_TWO = normal((2, 6, 8, 19), 0)


def oracle(x, y_shape, kernel_size, stride, padding, dilation=(1, 1), **_):
    """The maximum and its flat position, window by window, in reading order."""
    N, H, W, C = x.shape
    y, at = np.empty(y_shape), np.empty(y_shape, np.int64)
    for n, p, q, c in np.ndindex(y_shape):
        taps = [
            (p * stride[0] + r * dilation[0] - padding[0], q * stride[1] + s * dilation[1] - padding[1])
            for r in range(kernel_size[0])
            for s in range(kernel_size[1])
        ]
        inside = [(h, w) for h, w in taps if 0 <= h < H and 0 <= w < W]
        values = [x[n, h, w, c] for h, w in inside]
        best = next((i for i, v in enumerate(values) if np.isnan(v)), int(np.argmax(values)))
        y[n, p, q, c], at[n, p, q, c] = values[best], inside[best][0] * W + inside[best][1]
    return y, at


def unpool_oracle(x, at, H, W):
    N, P, Q, C = x.shape
    y = np.zeros((N, H * W, C))
    for n, p, q, c in np.ndindex(x.shape):
        y[n, at[n, p, q, c], c] = x[n, p, q, c]
    return y.reshape(N, H, W, C)


@given(pool_geometries(), float_dtypes, seeds)
def test_value_and_positions(device, g, dtype, seed):
    x = distinct(g.x_shape, seed, dtype)
    y, at = max_pool2d(ts.tensor(x, device), return_indices=True, **g.options)
    expected, where = oracle(x, y.shape, **g.options)
    assert y.dtype == dtype and at.dtype == np.int32
    np.testing.assert_array_equal(y.numpy(), expected)
    np.testing.assert_array_equal(at.numpy(), where)
    np.testing.assert_array_equal(max_pool2d(ts.tensor(x, device), **g.options).numpy(), expected)


@pytest.mark.parametrize("dilation, stride", [((2, 3), (1, 2)), ((3, 1), (2, 2)), ((1, 4), (3, 1))])
def test_dilation(device, dilation, stride):
    x = distinct((2, 9, 10, 3), 1)
    options = dict(kernel_size=(3, 2), stride=stride, padding=(1, 1), dilation=dilation)
    y = max_pool2d(ts.tensor(x, device), **options)
    np.testing.assert_array_equal(y.numpy(), oracle(x, y.shape, **options)[0])
    ts.gradcheck(lambda x: max_pool2d(x, **options), x, device=device)


@given(pool_geometries(max_side=6), seeds)
def test_gradient(device, g, seed):
    if g.n:
        ts.gradcheck(lambda x: max_pool2d(x, **g.options), distinct(g.x_shape, seed), device=device)


def test_two_by_two_agrees_with_the_general_kernel(device):
    """A row more than the windows need sends the pool to the general kernel."""
    longer = np.concatenate([TWO_BY_TWO, TWO_BY_TWO[:, :1]], axis=1)
    fast, general = (ts.tensor(x, device, requires_grad=True) for x in (TWO_BY_TWO, longer))
    y, z = max_pool2d(fast, 2, return_indices=True), max_pool2d(general, 2, return_indices=True)
    dy = normal(y[0].shape, 1)
    y[0].backward(dy), z[0].backward(dy)
    np.testing.assert_array_equal(y[0].numpy(), z[0].numpy())
    np.testing.assert_array_equal(y[1].numpy(), z[1].numpy())
    np.testing.assert_array_equal(fast.grad.numpy(), general.grad.numpy()[:, :6])


@pytest.mark.parametrize("size, window", [(4, 2), (5, 3)])
def test_ties_nan_and_infinity(device, size, window):
    flat = ts.tensor(np.zeros((1, size, size, 9)), device, requires_grad=True)
    y, at = max_pool2d(flat, window, 2, return_indices=True)
    y.backward(np.ones(y.shape))
    assert at.numpy()[0, 0, 0, 0] == 0 and flat.grad.numpy()[0, 0, 0, 0] == 1  # the first in reading order
    assert flat.grad.numpy().sum() == y.size
    x = np.zeros((1, size, size, 9), np.float32)
    x[0, 1, 0, 4] = np.nan
    y = max_pool2d(ts.tensor(x, device), window, 2).numpy()
    assert np.isnan(y[0, 0, 0, 4]) and np.isnan(y).sum() == 1
    y, at = max_pool2d(ts.tensor(np.full_like(x, -np.inf), device), window, 2, return_indices=True)
    assert np.isneginf(y.numpy()).all() and at.numpy()[0, 0, 0, 0] == 0


def test_window_of_more_taps_than_a_byte_counts(device):
    x = distinct((1, 20, 20, 2), 3)
    y, at = max_pool2d(ts.tensor(x, device), 18, 1, return_indices=True)
    expected, where = oracle(x, y.shape, (18, 18), (1, 1), (0, 0))
    np.testing.assert_array_equal(y.numpy(), expected)
    np.testing.assert_array_equal(at.numpy(), where)


def test_threads_and_precision(device):
    for x in (TWO_BY_TWO, normal((2, 7, 9, 19), 0)):
        assert_bits_repeat(lambda x: max_pool2d(x, 2), x.astype(np.float32), device=device)
        assert_single_near_double(lambda x: max_pool2d(x, 2), x, device=device)
    assert_bits_repeat(lambda x: max_pool2d(x, 3, 2, 1), TWO_BY_TWO.astype(np.float32), device=device)


@given(pool_geometries(max_side=7), seeds)
def test_unpool(device, g, seed):
    x = distinct(g.x_shape, seed)
    y, at = max_pool2d(ts.tensor(x, device), return_indices=True, **g.options)
    z = max_unpool2d(y, at, (g.h, g.w))
    np.testing.assert_array_equal(z.numpy(), unpool_oracle(y.numpy(), at.numpy(), g.h, g.w))


def test_unpool_of_tiles_is_linear(device):
    _, at = max_pool2d(ts.tensor(distinct((2, 7, 8, 20), 0), device), 2, return_indices=True)
    x = normal(at.shape, 1)
    ts.adjoint_check(lambda x: max_unpool2d(x, at.numpy(), (7, 8)), x, device=device)
    assert max_unpool2d(ts.tensor(x, device), at).shape == (2, 6, 8, 20)  # the smallest size without output_size
    assert_bits_repeat(lambda x: max_unpool2d(x, at, (7, 8)), x.astype(np.float32), device=device)


def test_unpool_keeps_the_last_of_equal_positions(device):
    x = ts.tensor(np.arange(4.0).reshape(1, 2, 2, 1), device, requires_grad=True)
    y = max_unpool2d(x, np.full((1, 2, 2, 1), 5), (3, 3))
    assert y.numpy()[0, 1, 2, 0] == 3 and y.numpy().sum() == 3
    y.backward(np.ones(y.shape))
    np.testing.assert_array_equal(x.grad.numpy(), 1)


def test_errors(device):
    x = ts.tensor(np.zeros((1, 4, 4, 2), np.float32), device)
    for arguments, message in [
        ((x, 5), "spans 5 pixels but the padded image has only 4"),
        ((x, 2, 2, 2), "more than half"),
        ((x, 0), "kernel_size is 0"),
        ((x, 2, 0), "stride is 0"),
        ((x, (2, 2, 2)), "kernel_size"),
        ((x[0], 2), "expected \\(N,H,W,C\\)"),
        ((x[:, :1, :1], 2, 1, 1, 2), "from the padding"),
    ]:
        with pytest.raises(ValueError, match=message):
            max_pool2d(*arguments)
    with pytest.raises(TypeError, match="float32 or float64"):
        max_pool2d(ts.tensor(np.zeros((1, 4, 4, 2), np.int32), device), 2)
    y, at = max_pool2d(x, 2, return_indices=True)
    with pytest.raises(ValueError, match="positions reach from 0 to 10"):
        max_unpool2d(y, at, (2, 2))
    with pytest.raises(ValueError, match="integers of x's shape"):
        max_unpool2d(y, at.numpy()[:, :1], (4, 4))
    with pytest.raises(ValueError, match="integers of x's shape"):
        max_unpool2d(y, y, (4, 4))
