"""Kernels that move 16 bytes at a time do the same from any address, for any length, and write nothing beside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.cuda import emulator
from tinyseg.device import Emulated
from tinyseg.ops.activation import relu_backward_flat, relu_flat
from tinyseg.ops.arithmetic import add_flat
from tinyseg.ops.batch_norm import gradient_of_rows, scale_and_shift
from tinyseg.ops.checks import wide
from tinyseg.ops.multi_tensor import CHUNK, Tables, adam_all, sgd_all
from tinyseg.ops.residual import add_relu_flat, normalise_add_relu

from ..strategies import normal, seeds

pytestmark = pytest.mark.skipif(bool(emulator.unusable()), reason=str(emulator.unusable()))

orders = st.sampled_from(["sequential", "reversed", "random"])
dtypes = st.sampled_from([np.float16, np.float32, np.float64])
skips = st.integers(0, 3)  # elements by which an array misses an address that 16 divides


def placed(a, skip):
    """The array, `skip` elements behind an address that 16 divides and at the very end of its memory."""
    memory = np.empty(skip + a.size, a.dtype)
    assert memory.ctypes.data % 16 == 0
    memory[skip:] = a.reshape(-1)
    return memory[skip:].reshape(a.shape)


@given(orders, dtypes, st.integers(1, 70), skips, skips, seeds)
def test_flat(order, dtype, n, skip, other, seed):
    device, (a, b) = Emulated(order), normal((2, n), seed, np.float32).astype(dtype)
    a[0] = np.nan
    zero = dtype(0)
    for kernel, arrays, expected in (
        (relu_flat, (a,), np.where(a < 0, zero, a)),
        (relu_backward_flat, (a, b), np.where(b > 0, a, zero)),
        (add_flat, (a, b), a + b),
        (add_relu_flat, (a, b), np.where(a + b < 0, zero, a + b)),
    ):
        y = placed(np.zeros(n + 1, dtype), skip)  # one more, which nobody may write
        device.launch(kernel, y[:n], *(placed(x, s) for x, s in zip(arrays, (skip, other))), n)
        assert np.array_equal(y[:n], expected, equal_nan=True) and y[n] == 0


@given(orders, dtypes, st.integers(1, 5), st.sampled_from([1, 3, 4, 8, 12, 16]), skips, seeds)
def test_rows(order, dtype, M, C, skip, seed):
    device, S = Emulated(order), wide(np.dtype(dtype))
    x, z = normal((2, M, C), seed, np.float32).astype(dtype)
    mean, scale, shift, factor, slope, level = normal((6, C), (seed, 1), np.float32).astype(S)
    v, X, Z = x * scale + shift, x.astype(S), z.astype(S)
    gradient = factor * np.where(v <= 0, S.type(0), Z) + slope * (X - mean) + level
    for kernel, inputs, expected in (
        (scale_and_shift, (x, scale, shift, S.type(0)), np.maximum(v, 0)),
        (normalise_add_relu, (x, z, scale, shift), np.maximum(v + Z, 0)),
        (gradient_of_rows, (z, x, mean, scale, shift, factor, slope, level), gradient),
    ):
        y = placed(np.zeros((M, C), dtype), skip)
        device.launch(kernel, y, *(placed(a, skip) if a.ndim == 2 else a for a in inputs), M, C)
        rounding = 2e-3 if dtype == np.float16 else 1e-5
        assert np.allclose(y, expected, rtol=rounding, atol=rounding)


@given(orders, st.lists(st.sampled_from([1, 4, 7, CHUNK - 1, CHUNK + 5]), min_size=1, max_size=3), skips, seeds)
def test_updates_of_all_parameters(order, sizes, skip, seed):
    tables = Tables(Emulated(order), tuple(sizes))
    w, g, m, v = ([normal((n,), (seed, i, j), np.float32) for j, n in enumerate(sizes)] for i in range(4))
    v = [abs(a) for a in v]
    for momentum in (0.9, 0.0):
        rows = [[placed(a, skip) for a in row] for row in ((w, g, m) if momentum else (w, g))]
        rows += [[None] * len(sizes)] * (not momentum)
        tables.update(sgd_all, rows, [[1, 0.1, momentum, 0.01, 0]] * len(sizes))
        for j in range(len(sizes)):
            d = g[j] + np.float32(0.01) * w[j]
            velocity = np.float32(0.9) * m[j] + d if momentum else d
            assert np.allclose(rows[0][j], w[j] - np.float32(0.1) * velocity, atol=1e-6)
            assert not momentum or np.allclose(rows[2][j], velocity, atol=1e-6)
    rows = [[placed(a, skip) for a in row] for row in (w, g, m, v)]
    tables.update(adam_all, rows, [[1, 0.1, 0.9, 0.1, 0.99, 0.01, 1, 1e-3, 0, 1]] * len(sizes))
    for j in range(len(sizes)):
        mean, square = 0.9 * m[j] + 0.1 * g[j], 0.99 * v[j] + 0.01 * g[j] ** 2
        for got, expected in zip((rows[0][j], rows[2][j], rows[3][j]),
                                 (w[j] - 0.1 * mean / (np.sqrt(square) + 1e-3), mean, square)):  # fmt: skip
            assert np.allclose(got, expected, rtol=1e-4, atol=1e-5)
