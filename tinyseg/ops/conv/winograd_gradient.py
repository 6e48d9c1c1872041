"""The gradient of 3x3 filters by Winograd: the transforms of `winograd.py`, summed over tiles instead of channels.

    V[x, t, c] = (B^T d B)[x]  of the inputs of tile t        D[x, t, k] = (A dy A^T)[x]  of the gradient of its outputs
    W[x, c, k] = sum_t V[x, t, c] D[x, t, k]                  dw[:, :, c, k] = G^T W[:, c, k] G
"""

import numpy as np
from numba import prange

from ...kernel import device_function, kernel
from .simd import COLUMNS, ENTRY, ROWS, address, copy_floats, keep, multiply_tile
from .transforms import transform_filter_gradient, transform_output_gradient
from .winograd import (
    POINTS,
    SKEW,
    SLAB,
    bring_near,
    count_tiles,
    inner,
    look,
    next_tile,
    share_of_tiles,
    slices,
    tile_origin,
    transform_inputs,
)

FEW_FILTERS = 1 << 13  # C * K up to which threads share out the tiles first, beyond it the panels


@device_function
def _gradient_blocks(part, dy, x, x2, zeros, V, D, first, last, panel_first, panel_last, N, H, W, C1, C, P, Q, K, pad_h,
                     pad_w, d, side, tiles_h, tiles_w, block):  # fmt: skip
    """The blocks and panels of one thread: see `winograd_filter_gradient`."""
    v_slice, d_slice = block * C + SKEW, (panel_last - panel_first) * block * COLUMNS + SKEW
    points = (side + 2) * (side + 2)
    for row in range(9 * C):
        copy_floats(address(part) + (row * K + panel_first * COLUMNS) * 4, 0, 0, (panel_last - panel_first) * COLUMNS)
    inside, border = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64)
    d_points = np.empty(POINTS, np.int64)
    sums = np.empty((POINTS, SLAB * COLUMNS + SKEW), np.float32)
    sum_points, taps = np.empty(POINTS, np.int64), np.empty(9, np.int64)
    inner(inside, side, address(dy), d, Q, K)
    slices(d_points, side, address(D), d_slice)
    slices(sum_points, side, address(sums), SLAB * COLUMNS + SKEW)
    for tap in range(9):
        taps[tap] = address(part) + tap * C * K * 4
    table, c_rows = np.zeros(ENTRY, np.int64), np.empty(ROWS, np.int64)
    for m in range(ROWS):
        table[1 + m] = address(V) + m * 4
        c_rows[m] = address(sums) + m * COLUMNS * 4
    for at in range(first * block, last * block, block):
        end = min(at + block, N * tiles_h * tiles_w * d * d)
        transform_inputs(address(V), v_slice, x, x2, zeros, at, end, at, N, H, W, C1, C, d, pad_h, pad_w, side, tiles_h,
                         tiles_w)  # fmt: skip
        n, h, w = tile_origin(at, tiles_h, tiles_w, side, d)
        for t in range(at, end):
            pixels, shift = look(inside, border, side, address(dy), n, h, w, d, P, Q, K, address(zeros))
            for p in range(panel_first, panel_last):
                to = ((p - panel_first) * block + t - at) * COLUMNS * 4
                transform_output_gradient(side, pixels, p * COLUMNS * 4 + shift, address(d_points), to, COLUMNS, 0, 0)
            n, h, w = next_tile(n, h, w, tiles_h, tiles_w, side, d)
        for slab in range(0, C, SLAB):
            channels = min(SLAB, C - slab)
            for p in range(panel_first, panel_last):
                for point in range(points):
                    # during the first of the sums, where they are few: what the next block sees and this one did not
                    ahead = block if C * K <= FEW_FILTERS and slab == 0 and p == panel_first else 0
                    for _ in range(point * ahead // points, (point + 1) * ahead // points):
                        top, left = h - pad_h + 2 * d, w - pad_w + 2 * d
                        bring_near(x, n, top, left, side, d, N, H, W, C1, False)
                        if C1 < C:
                            bring_near(x2, n, top, left, side, d, N, H, W, C - C1, False)
                        bring_near(dy, n, h, w, side, d, N, P, Q, K, False)
                        n, h, w = next_tile(n, h, w, tiles_h, tiles_w, side, d)
                    panel = address(D) + (point * d_slice + (p - panel_first) * block * COLUMNS) * 4
                    for c in range(0, channels, ROWS):
                        # rows beyond the last channel read the next tile's, and their sums are left where they are
                        multiply_tile(address(table), 1, end - at, C * 4, (point * v_slice + slab + c) * 4, panel,
                                      COLUMNS * 4, address(c_rows), (point * (SLAB * COLUMNS + SKEW) + c * COLUMNS) * 4,
                                      COLUMNS, 0, 0)  # fmt: skip
                for c in range(channels):
                    transform_filter_gradient(side, address(sum_points), c * COLUMNS * 4, address(taps),
                                              ((slab + c) * K + p * COLUMNS) * 4, COLUMNS, 0, 0)  # fmt: skip
    keep(inside, border, d_points, sums, sum_points, taps, table, c_rows)


@kernel
def winograd_filter_gradient(parts, dy, x, x2, zeros, V, D, N, H, W, C1, C, P, Q, K, pad_h, pad_w, d, side, block,
                             splits, panel_jobs):  # fmt: skip
    """parts[i] (9*C*K,) = dw over the i-th share of the tiles of dy (N,P,Q,K) and x (N,H,W,C).

    x has the first C1 channels, x2 the others. V (jobs, points * (block * C + SKEW) + ROWS) and D (jobs, points *
    (block * K + SKEW)): work space of each of the splits * panel_jobs threads. Parallel over shares of the tiles and of
    the panels of k.
    """
    tiles_h, tiles_w = ((P + d - 1) // d + side - 1) // side, ((Q + d - 1) // d + side - 1) // side
    blocks = (N * tiles_h * tiles_w * d * d + block - 1) // block
    count = K // COLUMNS
    for job in prange(splits * panel_jobs):
        i, o = job // panel_jobs, job % panel_jobs
        _gradient_blocks(parts[i], dy, x, x2, zeros, V[job], D[job], blocks * i // splits, blocks * (i + 1) // splits,
                         count * o // panel_jobs, count * (o + 1) // panel_jobs, N, H, W, C1, C, P, Q, K, pad_h, pad_w,
                         d, side, tiles_h, tiles_w, block)  # fmt: skip


def winograd_gradient_parts(device, dy, xs, padding, dilation: int, side: int):
    """Parts (shares, 9*C*K) of dw, which is their sum, of dy (N,P,Q,K) and xs (one or two parts)."""
    x, x2 = xs[0], xs[-1]
    (N, H, W, C1), (_, P, Q, K) = x.shape, dy.shape
    C, points = sum(a.shape[3] for a in xs), (side + 2) ** 2
    # threads that share out the panels all transform x, those that share out the tiles all keep sums for every filter
    panel_jobs = 1 if C * K <= FEW_FILTERS else min(K // COLUMNS, device.threads)
    tiles = count_tiles(N, P, Q, dilation, side)
    splits = max(1, min(device.threads // panel_jobs, -(-tiles // ROWS)))
    block = share_of_tiles(tiles, splits, 4 * ROWS if C * K <= FEW_FILTERS else 16 * ROWS)
    V = device.empty((splits * panel_jobs, points * (block * C + SKEW) + ROWS), x.dtype)
    D = device.empty((splits * panel_jobs, points * (block * K + SKEW)), x.dtype)
    zeros = device.zeros((max(C, K),), x.dtype)
    parts = device.empty((splits, 9 * C * K), x.dtype)
    device.launch(winograd_filter_gradient, parts, dy, x, x2, zeros, V, D, N, H, W, C1, C, P, Q, K, *padding, dilation,
                  side, block, splits, panel_jobs)  # fmt: skip
    return parts
