"""The micro-kernels of depth-wise convolution: sums over taps for many pixels, sums over pixels for many taps."""

import numba
import numpy as np
import pytest

from tinyseg.ops.conv.channelwise import CHAIN, PIXELS, sum_products, weigh_rows
from tinyseg.ops.conv.simd import LANES, address


@numba.njit
def call_weigh_rows(out, x, w, start, chains, pixels, channels, x_step, w_step):
    size, table = x.itemsize, np.empty((len(chains), CHAIN), np.int64)
    for i in range(len(chains)):
        table[i, 0], table[i, 1] = address(x[chains[i, 0]]), address(w[chains[i, 1]])
        table[i, 2] = chains[i, 2]
    weigh_rows(x, address(out[1]) + size, 2 * out.shape[1] * size, pixels, address(table), len(chains),
               x_step * x.shape[1] * size, w_step * w.shape[1] * size, address(start), channels)  # fmt: skip


@numba.njit
def call_sum_products(sums, x, y, chains, pixels, channels, x_step, sums_step):
    size, table = x.itemsize, np.empty((len(chains), CHAIN), np.int64)
    for i in range(len(chains)):
        table[i, 0], table[i, 1] = address(x[chains[i, 0]]), address(sums[chains[i, 1]])
        table[i, 2] = chains[i, 2]
    sum_products(x, address(y[1]) + size, 2 * y.shape[1] * size, pixels, address(table), len(chains),
                 x_step * x.shape[1] * size, sums_step * sums.shape[1] * size, channels)  # fmt: skip


CHAINS = [(0, 0, 3), (20, 3, 1), (31, 6, 2)]  # the first pixel's row of x, the row of w, how many taps
GEOMETRIES = [(1, 1, 1), (PIXELS, LANES, 1), (PIXELS - 1, LANES + 3, 2), (2 * PIXELS + 3, 2 * LANES + 1, 1)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pixels, channels, x_step", GEOMETRIES)
@pytest.mark.parametrize("count", [0, 3])
def test_weigh_rows(dtype, pixels, channels, x_step, count):
    rng = np.random.default_rng(pixels)
    x, w = (rng.standard_normal((n, channels + 2)).astype(dtype) for n in (100, 9))
    start = rng.standard_normal(channels).astype(dtype)
    out = rng.standard_normal((2 * pixels + 2, channels + 3)).astype(dtype)
    expected, rows = out.copy(), out[1 : 2 * pixels : 2, 1 : channels + 1].shape
    inner = np.broadcast_to(start, rows).astype(np.float64)
    for at, beside, taps in CHAINS[:count]:
        for t in range(taps):
            seen = x[at + t * x_step + x_step * np.arange(pixels), :channels]
            inner = inner + seen * w[beside + t, :channels].astype(np.float64)
    expected[1 : 2 * pixels : 2, 1 : channels + 1] = inner
    call_weigh_rows(out, x, w, start, np.array(CHAINS)[:count], pixels, channels, x_step, 1)
    np.testing.assert_allclose(out, expected, atol=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pixels, channels, x_step", GEOMETRIES)
def test_sum_products(dtype, pixels, channels, x_step):
    rng = np.random.default_rng(pixels)
    x = rng.standard_normal((100, channels + 2)).astype(dtype)
    y = rng.standard_normal((2 * pixels + 2, channels + 3)).astype(dtype)
    sums = rng.standard_normal((9, channels + 1)).astype(dtype)
    expected = sums.astype(np.float64)
    for at, beside, taps in CHAINS:
        for t in range(taps):
            seen = x[at + t * x_step + x_step * np.arange(pixels), :channels].astype(np.float64)
            expected[beside + t, :channels] += (seen * y[1 : 2 * pixels : 2, 1 : channels + 1]).sum(0)
    call_sum_products(sums, x, y, np.array(CHAINS), pixels, channels, x_step, 1)
    np.testing.assert_allclose(sums, expected, atol=1e-5 if dtype == np.float32 else 1e-13)
