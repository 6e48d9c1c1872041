import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops import adaptive_avg_pool2d, avg_pool2d

from ..strategies import float_dtypes, normal, pool_geometries, seeds
from .repeat import assert_bits_repeat, assert_single_near_double


def oracle(x, y_shape, kernel_size, stride, padding, count_include_pad, **_):
    _, H, W, _ = x.shape
    y = np.empty(y_shape)
    for n, p, q, c in np.ndindex(y_shape):
        h0, w0 = p * stride[0] - padding[0], q * stride[1] - padding[1]
        padded = [
            (h, w)
            for h in range(h0, min(h0 + kernel_size[0], H + padding[0]))
            for w in range(w0, min(w0 + kernel_size[1], W + padding[1]))
        ]
        inside = [(h, w) for h, w in padded if 0 <= h < H and 0 <= w < W]
        y[n, p, q, c] = sum(x[n, h, w, c] for h, w in inside) / len(padded if count_include_pad else inside)
    return y


def adaptive_oracle(x, P, Q):
    N, H, W, C = x.shape
    y = np.empty((N, P, Q, C))
    for p, q in np.ndindex(P, Q):
        rows = slice(int(np.floor(p * H / P)), int(np.ceil((p + 1) * H / P)))
        columns = slice(int(np.floor(q * W / Q)), int(np.ceil((q + 1) * W / Q)))
        y[:, p, q] = x[:, rows, columns].mean((1, 2))
    return y


@given(pool_geometries(), st.booleans(), float_dtypes, seeds)
def test_value(device, g, count_include_pad, dtype, seed):
    x = normal(g.x_shape, seed, dtype)
    y = avg_pool2d(ts.tensor(x, device), count_include_pad=count_include_pad, **g.options)
    expected = oracle(x, y.shape, count_include_pad=count_include_pad, **g.options)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-6 if dtype == np.float32 else 1e-14)


@given(pool_geometries(), st.booleans(), seeds)
def test_adjoint(device, g, count_include_pad, seed):
    if g.n:
        x = normal(g.x_shape, seed)
        ts.adjoint_check(lambda x: avg_pool2d(x, count_include_pad=count_include_pad, **g.options), x, device=device)


sides = st.integers(1, 9)


@given(st.tuples(st.integers(0, 2), sides, sides, st.integers(1, 5)), sides, sides, seeds)
def test_adaptive(device, shape, P, Q, seed):
    x = normal(shape, seed)
    y = adaptive_avg_pool2d(ts.tensor(x, device), (P, Q))
    np.testing.assert_allclose(y.numpy(), adaptive_oracle(x, P, Q), atol=1e-14)
    if shape[0]:
        ts.adjoint_check(lambda x: adaptive_avg_pool2d(x, (P, Q)), x, device=device)


def test_mean_over_the_image(device):
    x = normal((2, 5, 7, 300), 0)
    y = adaptive_avg_pool2d(ts.tensor(x, device), 1)
    np.testing.assert_allclose(y.numpy(), x.mean((1, 2), keepdims=True), atol=1e-14)


def test_threads_and_precision(device):
    x = normal((2, 9, 11, 70), 0)
    for fn in (lambda x: avg_pool2d(x, 3, 2, 1), lambda x: adaptive_avg_pool2d(x, 4)):
        assert_bits_repeat(fn, x.astype(np.float32), device=device)
        assert_single_near_double(fn, x, device=device)


def test_errors(device):
    x = ts.tensor(np.zeros((1, 4, 4, 2), np.float32), device)
    for fn, arguments, message in [
        (avg_pool2d, (x, 5), "spans 5 pixels"),
        (avg_pool2d, (x, 2, 1, 2), "more than half"),
        (avg_pool2d, (x, -1), "kernel_size is -1"),
        (avg_pool2d, (x[0], 2), "expected \\(N,H,W,C\\)"),
        (adaptive_avg_pool2d, (x, 0), "output_size is 0"),
        (adaptive_avg_pool2d, (x[:, :0], 1), "no pixels"),
    ]:
        with pytest.raises(ValueError, match=message):
            fn(*arguments)
