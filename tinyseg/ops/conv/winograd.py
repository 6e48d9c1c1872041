"""Winograd convolution F(4x4, 3x3): 3x3 filters, stride 1, any dilation, with 36 products for 144.

The image is cut into tiles of 4x4 outputs. With the transforms of `transforms.py`,

    V[x, t, c] = (B^T d B)[x]     of the 6x6 inputs of tile t          U[x, c, k] = (G g G^T)[x]
    M[x, t, k] = sum_c V[x, t, c] U[x, c, k]                           36 matrix products, one a point x
    y tile t   = A^T M[:, t] A

A dilation of d splits the image into d^2 phases, each an ordinary image whose pixels lie d apart. dx is the same with
the filters turned over (and c and k exchanged); dw swaps the parts: sum over tiles, not channels,

    W[x, c, k] = sum_t V[x, t, c] D[x, t, k],    D = A dy A^T,    dw = G^T W G.

A block of tiles goes through all steps while its V and M lie in the L2 cache.
"""

import numpy as np
from numba import prange

from ...kernel import device_function, kernel
from .simd import COLUMNS, ENTRY, LANES, ROWS, address, keep, multiply_tile, transpose_block
from .transforms import (
    transform_filter,
    transform_filter_gradient,
    transform_input,
    transform_output,
    transform_output_gradient,
)

POINTS = 36  # of the 6x6 grid
SKEW = 16  # floats between the slices of two points, so that they do not fall into the same cache sets
SLAB = 8 * ROWS  # channels c whose 36 sums are kept in the cache at a time


@device_function
def _tile_origin(tile, tiles_h, tiles_w, d):
    """(image, row, column) of the first output of a tile: images, then phases, then the grid of tiles."""
    n, rest = tile // (tiles_h * tiles_w * d * d), tile % (tiles_h * tiles_w * d * d)
    phase, rest = rest // (tiles_h * tiles_w), rest % (tiles_h * tiles_w)
    return n, phase // d + rest // tiles_w * 4 * d, phase % d + rest % tiles_w * 4 * d


@device_function
def _look(table, size, base, n, h, w, d, H, W, C, outside):
    """Write the addresses of size x size pixels, d apart, from (h, w) of image n; `outside` for those not in it."""
    first, down, right = base + ((n * H + h) * W + w) * C * 4, d * W * C * 4, d * C * 4
    whole = 0 <= h and h + (size - 1) * d < H and 0 <= w and w + (size - 1) * d < W
    for i in range(size):
        for j in range(size):
            inside = whole or (0 <= h + i * d and h + i * d < H and 0 <= w + j * d and w + j * d < W)
            table[i * size + j] = first + i * down + j * right if inside else outside


@device_function
def _slices(table, base, stride):
    """Write the addresses of the POINTS slices of a buffer."""
    for x in range(POINTS):
        table[x] = base + x * stride * 4


@kernel
def turn_filters(turned, w, C, K):
    """turned[2 - r, 2 - s, k, c] = w[r, s, c, k]: dx is the convolution of dy with them. Parallel over taps and c."""
    blocks = C // LANES
    for job in prange(9 * blocks):
        tap, c = job // blocks, job % blocks * LANES
        for k in range(0, K, LANES):
            to, of = ((8 - tap) * K + k) * C + c, (tap * C + c) * K + k
            transpose_block(address(turned) + to * 4, C * 4, address(w) + of * 4, K * 4)


@device_function
def _transform_inputs(V, stride, x, zeros, first, last, origin, N, H, W, C, d, pad_h, pad_w, tiles_h, tiles_w):
    """V[x, t - origin, :] = B^T d B for tiles t from first to last; slices `stride` floats apart."""
    pixels, points = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64)
    _slices(points, V, stride)
    for t in range(first, last):
        n, h, w = _tile_origin(t, tiles_h, tiles_w, d)
        _look(pixels, 6, address(x), n, h - pad_h, w - pad_w, d, H, W, C, address(zeros))
        transform_input(address(pixels), 0, address(points), (t - origin) * C * 4, C, 0)


@device_function
def _transform_outputs(y, M, stride, bias, first, last, P, Q, K, d, tiles_h, tiles_w):
    """y tile t = A^T M A + bias for tiles t from first to last."""
    pixels, points = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64)
    nowhere = np.empty(K, np.float32)
    _slices(points, M, stride)
    for t in range(first, last):
        n, h, w = _tile_origin(t, tiles_h, tiles_w, d)
        _look(pixels, 4, address(y), n, h, w, d, P, Q, K, address(nowhere))
        transform_output(address(points), (t - first) * K * 4, address(pixels), 0, K, address(bias))


@device_function
def _tables(V, C, M, K, tiles):
    """The micro-kernel's tables for rows of V (C floats each) and of M (K floats each)."""
    groups = (tiles + ROWS - 1) // ROWS
    table, c_rows = np.zeros(groups * ENTRY, np.int64), np.empty(groups * ROWS, np.int64)
    for i in range(groups):
        for m in range(ROWS):
            table[i * ENTRY + 1 + m] = V + (i * ROWS + m) * C * 4
            c_rows[i * ROWS + m] = M + (i * ROWS + m) * K * 4
    return table, c_rows


@kernel
def winograd_filters(U, w, C, K):
    """U[x, panel, c, :] = G g G^T of the filters w (3,3,C,K); U (POINTS, C*K + SKEW). Parallel over panels and c."""
    count, chunks = K // COLUMNS, (C + 15) // 16
    for job in prange(count * chunks):
        p, first = job // chunks, job % chunks * 16
        source, target = np.empty(9, np.int64), np.empty(POINTS, np.int64)
        for tap in range(9):
            source[tap] = address(w) + (tap * C * K + p * COLUMNS) * 4
        _slices(target, address(U) + p * C * COLUMNS * 4, K * C + SKEW)
        for c in range(first, min(first + 16, C)):
            transform_filter(address(source), c * K * 4, address(target), c * COLUMNS * 4, COLUMNS, 0)


@device_function
def _forward_blocks(y, x, U, bias, zeros, V, M, first, last, N, H, W, C, P, Q, K, pad_h, pad_w, d, tiles_h, tiles_w,
                    block):  # fmt: skip
    """Blocks `first` to `last` of one thread: see `winograd_forward`."""
    v_slice, m_slice = block * C + SKEW, block * K + SKEW
    count = K // COLUMNS
    table, c_rows = _tables(address(V), C, address(M), K, block)
    for at in range(first * block, last * block, block):
        end = min(at + block, N * tiles_h * tiles_w * d * d)
        _transform_inputs(address(V), v_slice, x, zeros, at, end, at, N, H, W, C, d, pad_h, pad_w, tiles_h, tiles_w)
        for point in range(POINTS):
            for p in range(count):
                panel = address(U) + (point * (K * C + SKEW) + p * C * COLUMNS) * 4
                for i in range((end - at + ROWS - 1) // ROWS):
                    multiply_tile(address(table) + i * ENTRY * 8, 1, C, 4, point * v_slice * 4, panel,
                                  address(c_rows) + i * ROWS * 8, (point * m_slice + p * COLUMNS) * 4,
                                  address(zeros), 0)  # fmt: skip
        _transform_outputs(y, address(M), m_slice, bias, at, end, P, Q, K, d, tiles_h, tiles_w)


@kernel
def winograd_forward(y, x, U, bias, zeros, V, M, N, H, W, C, P, Q, K, pad_h, pad_w, d, block, jobs):
    """y (N,P,Q,K) = bias + the 3x3 convolution of x (N,H,W,C) with transformed filters U, dilation d.

    V (jobs, POINTS * (block * C + SKEW)) and M (jobs, POINTS * (block * K + SKEW)): work space of each thread, `block`
    tiles a time (a multiple of ROWS). zeros: at least C and COLUMNS of them. Parallel over shares of the blocks.
    """
    tiles_h, tiles_w = ((P + d - 1) // d + 3) // 4, ((Q + d - 1) // d + 3) // 4
    blocks = (N * tiles_h * tiles_w * d * d + block - 1) // block
    for job in prange(jobs):
        _forward_blocks(y, x, U, bias, zeros, V[job], M[job], blocks * job // jobs, blocks * (job + 1) // jobs, N, H, W,
                        C, P, Q, K, pad_h, pad_w, d, tiles_h, tiles_w, block)  # fmt: skip


@device_function
def _gradient_blocks(part, dy, x, zeros, V, D, first, last, panel_first, panel_last, N, H, W, C, P, Q, K, pad_h, pad_w,
                     d, tiles_h, tiles_w, block):  # fmt: skip
    """The blocks and panels of one thread: see `winograd_filter_gradient`."""
    v_slice, d_slice = block * C + SKEW, (panel_last - panel_first) * block * COLUMNS + SKEW
    for row in range(9 * C):
        for k in range(panel_first * COLUMNS, panel_last * COLUMNS):
            part[row * K + k] = 0
    pixels, points, d_points = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64), np.empty(POINTS, np.int64)
    sums = np.empty((POINTS, SLAB * COLUMNS + SKEW), np.float32)
    sum_points, taps = np.empty(POINTS, np.int64), np.empty(9, np.int64)
    _slices(points, address(V), v_slice)
    _slices(d_points, address(D), d_slice)
    _slices(sum_points, address(sums), SLAB * COLUMNS + SKEW)
    for tap in range(9):
        taps[tap] = address(part) + tap * C * K * 4
    table, c_rows = np.zeros(ENTRY, np.int64), np.empty(ROWS, np.int64)
    for m in range(ROWS):
        table[1 + m] = address(V) + m * 4
        c_rows[m] = address(sums) + m * COLUMNS * 4
    for at in range(first, last):
        tiles = min(block, N * tiles_h * tiles_w * d * d - at * block)
        for t in range(tiles):
            n, h, w = _tile_origin(at * block + t, tiles_h, tiles_w, d)
            _look(pixels, 6, address(x), n, h - pad_h, w - pad_w, d, H, W, C, address(zeros))
            transform_input(address(pixels), 0, address(points), t * C * 4, C, 0)
            _look(pixels, 4, address(dy), n, h, w, d, P, Q, K, address(zeros))
            for p in range(panel_first, panel_last):
                transform_output_gradient(address(pixels), p * COLUMNS * 4, address(d_points),
                                          ((p - panel_first) * block + t) * COLUMNS * 4, COLUMNS, 0)  # fmt: skip
        for slab in range(0, C, SLAB):
            channels = min(SLAB, C - slab)
            for p in range(panel_first, panel_last):
                for point in range(POINTS):
                    panel = address(D) + (point * d_slice + (p - panel_first) * block * COLUMNS) * 4
                    for c in range(0, channels, ROWS):
                        # rows beyond the last channel read the next tile's, and their sums are left where they are
                        multiply_tile(address(table), 1, tiles, C * 4, (point * v_slice + slab + c) * 4, panel,
                                      address(c_rows), (point * (SLAB * COLUMNS + SKEW) + c * COLUMNS) * 4,
                                      address(zeros), 0)  # fmt: skip
                for c in range(channels):
                    transform_filter_gradient(address(sum_points), c * COLUMNS * 4, address(taps),
                                              ((slab + c) * K + p * COLUMNS) * 4, COLUMNS, 0)  # fmt: skip
    keep(sums)


@kernel
def winograd_filter_gradient(parts, dy, x, zeros, V, D, N, H, W, C, P, Q, K, pad_h, pad_w, d, block, splits,
                             panel_jobs):  # fmt: skip
    """parts[i] (9*C*K,) = dw over the i-th share of the tiles of dy (N,P,Q,K) and x (N,H,W,C).

    V (jobs, POINTS * (block * C + SKEW) + ROWS) and D (jobs, POINTS * (block * K + SKEW)): work space of each of the
    splits * panel_jobs threads. Parallel over shares of the tiles and of the panels of k.
    """
    tiles_h, tiles_w = ((P + d - 1) // d + 3) // 4, ((Q + d - 1) // d + 3) // 4
    blocks = (N * tiles_h * tiles_w * d * d + block - 1) // block
    count = K // COLUMNS
    for job in prange(splits * panel_jobs):
        i, o = job // panel_jobs, job % panel_jobs
        _gradient_blocks(parts[i], dy, x, zeros, V[job], D[job], blocks * i // splits, blocks * (i + 1) // splits,
                         count * o // panel_jobs, count * (o + 1) // panel_jobs, N, H, W, C, P, Q, K, pad_h, pad_w, d,
                         tiles_h, tiles_w, block)  # fmt: skip
