"""Winograd convolution F(4x4, 3x3): 3x3 filters, stride 1, any dilation, with 36 products for 144.

The image is cut into tiles of 4x4 outputs. With the transforms of `transforms.py`,

    V[x, t, c] = (B^T d B)[x]     of the 6x6 inputs of tile t          U[x, c, k] = (G g G^T)[x]
    M[x, t, k] = sum_c V[x, t, c] U[x, c, k]                           36 matrix products, one a point x
    y tile t   = A^T M[:, t] A

A dilation of d splits the image into d^2 phases, each an ordinary image whose pixels lie d apart. dx is the same with
the filters turned over (and c and k exchanged); `winograd_gradient.py` has dw.

There are two orders of work. Where the transformed filters fit the caches, a block of tiles goes through all steps
while its V and M lie in the near cache. Where filters are many and tiles few, each thread takes its share of the output
channels instead, and transforms the filters a slab at a time, so that the whole of U never exists.

Every map exists for F(2x2, 3x3) too, tiles of 2x2 outputs and 16 products for 36: less is saved, and nothing is lost
in rounding. `side` is 4 or 2. The image, or its gradient, may come in two parts whose channels lie one behind the
other, each part an array of its own: so a concatenation need never be made.
"""

import numpy as np
from numba import prange

from ...kernel import device_function, kernel
from ..prefetch import prefetch, prefetch_to_write
from ..statistics import room_for_runs
from .epilogue import run_statistics_of
from .simd import COLUMNS, ENTRY, LANES, ROWS, address, keep, multiply_tile, transpose_block
from .transforms import transform_filter, transform_input, transform_output

POINTS = 36  # of the largest grid, that of side 4
SKEW = 16  # floats between the slices of two points, so that they do not fall into the same cache sets
SLAB = 8 * ROWS  # channels c whose transformed filters, or whose sums, are kept in the cache at a time


@device_function
def tile_origin(tile, tiles_h, tiles_w, side, d):
    """(image, row, column) of the first output of a tile: images, then phases, then the grid of tiles."""
    n, rest = tile // (tiles_h * tiles_w * d * d), tile % (tiles_h * tiles_w * d * d)
    phase, rest = rest // (tiles_h * tiles_w), rest % (tiles_h * tiles_w)
    return n, phase // d + rest // tiles_w * side * d, phase % d + rest % tiles_w * side * d


@device_function
def next_tile(n, h, w, tiles_h, tiles_w, side, d):
    """The origin of the tile behind the one of this origin: `tile_origin` without its divisions."""
    down, right = tiles_h * side * d, tiles_w * side * d
    w += side * d
    if w >= right:
        h, w = h + side * d, w - right
        if h >= down:  # the next phase
            h, w = h - down, w + 1
            if w == d:
                h, w = h + 1, 0
                if h == d:
                    n, h = n + 1, 0
    return n, h, w


@device_function
def inner(table, size, base, d, W, C):
    """Write the addresses of size x size pixels, d apart, as a tile sees them that lies at the image's first pixel."""
    for i in range(size):
        for j in range(size):
            table[i * size + j] = base + (i * W + j) * d * C * 4


@device_function
def look(inside, border, size, base, n, h, w, d, H, W, C, outside):
    """(table, shift) of size x size pixels, d apart, from (h, w) of image n: addresses, and what to add to each.

    A tile that lies in the image whole takes those of `inside`, made by `inner`. Another writes its own to `border`,
    with `outside` for the pixels that are not in the image.
    """
    first = ((n * H + h) * W + w) * C * 4
    if 0 <= h and h + (size - 1) * d < H and 0 <= w and w + (size - 1) * d < W:
        return address(inside), first
    for i in range(size):
        for j in range(size):
            seen = 0 <= h + i * d and h + i * d < H and 0 <= w + j * d and w + j * d < W
            border[i * size + j] = base + first + (i * W + j) * d * C * 4 if seen else outside
    return address(border), 0


@device_function
def bring_near(x, n, h, w, size, d, N, H, W, C, written):
    """Prefetch size x size pixels, d apart, from (h, w) of image n, to be read or written.

    While a block is multiplied the memory has nothing to do: it can fetch what the transforms around will ask for.
    """
    for i in range(size):
        if n < N and 0 <= h + i * d and h + i * d < H:
            for j in range(size):
                first = ((n * H + h + i * d) * W + w + j * d) * C
                if written:
                    prefetch_to_write(x, first, C)
                else:
                    prefetch(x, first, C)


@device_function
def slices(table, side, base, stride):
    """Write the addresses of the slices of a buffer, one a point."""
    for x in range((side + 2) * (side + 2)):
        table[x] = base + x * stride * 4


@device_function
def transform_inputs(V, stride, x, x2, zeros, first, last, origin, N, H, W, C1, C, d, pad_h, pad_w, side, tiles_h,
                     tiles_w):  # fmt: skip
    """V[x, t - origin, :] = B^T d B for tiles t from first to last; slices `stride` floats apart."""
    points, border = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64)
    inside, inside2 = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64)
    slices(points, side, V, stride)
    inner(inside, side + 2, address(x), d, W, C1)
    inner(inside2, side + 2, address(x2), d, W, C - C1)
    n, h, w = tile_origin(first, tiles_h, tiles_w, side, d)
    for t in range(first, last):
        to, top, left = (t - origin) * C * 4, h - pad_h, w - pad_w
        pixels, shift = look(inside, border, side + 2, address(x), n, top, left, d, H, W, C1, address(zeros))
        transform_input(side, pixels, shift, address(points), to, C1, 0, 0)
        if C1 < C:
            pixels, shift = look(inside2, border, side + 2, address(x2), n, top, left, d, H, W, C - C1, address(zeros))
            transform_input(side, pixels, shift, address(points), to + C1 * 4, C - C1, 0, 0)
        n, h, w = next_tile(n, h, w, tiles_h, tiles_w, side, d)
    keep(points, border, inside, inside2)


@device_function
def _transform_outputs(y, y_first, y_channels, M, m_first, m_channels, stride, channels, epilogue, K, first, last, P, Q,
                       side, d, tiles_h, tiles_w):  # fmt: skip
    """y tile t = max(scale * A^T M A + bias, floor) for tiles t from first to last: `channels` of the y_channels of y,
    from channel y_first on; in M they begin at m_first of m_channels; `epilogue`: the address of scale (K,), bias (K,)
    and floor (K,) at the first of them."""
    points, border = np.empty(POINTS, np.int64), np.empty(POINTS, np.int64)
    inside, nowhere = np.empty(POINTS, np.int64), np.empty(y_channels, np.float32)
    slices(points, side, M + m_first * 4, stride)
    inner(inside, side, address(y), d, Q, y_channels)
    n, h, w = tile_origin(first, tiles_h, tiles_w, side, d)
    for t in range(first, last):
        pixels, shift = look(inside, border, side, address(y), n, h, w, d, P, Q, y_channels, address(nowhere))
        transform_output(side, address(points), (t - first) * m_channels * 4, pixels, y_first * 4 + shift, channels,
                         epilogue, K * 4)  # fmt: skip
        n, h, w = next_tile(n, h, w, tiles_h, tiles_w, side, d)
    keep(points, border, inside, nowhere)


@device_function
def _tiles_statistics(means, deviations, counts, y, y_first, channels, first, last, P, Q, K, side, d, tiles_h,
                      tiles_w):  # fmt: skip
    """Statistics of `channels` channels of y, from y_first on, over tiles, ROWS of them a run."""
    pixels = np.empty(ROWS * side * side, np.int64)
    for begin in range(first, last, ROWS):
        run, count = begin // ROWS, 0
        for t in range(begin, min(begin + ROWS, last)):
            n, h, w = tile_origin(t, tiles_h, tiles_w, side, d)
            for i in range(h, min(h + side * d, P), d):
                for j in range(w, min(w + side * d, Q), d):
                    pixels[count] = address(y) + ((n * P + i) * Q + j) * K * 4
                    count += 1
        run_statistics_of(means, deviations, run, y_first, channels, address(pixels), count)
        counts[run] = count
    keep(pixels)


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


@device_function
def _transform_filters(U, stride, w, first, last, panel, C, K, turned, side):
    """U[x, c, :] = G g G^T for channels c from first to last and the COLUMNS outputs of a panel.

    The filters are w (3,3,C,K); or, turned, w (3,3,K,C) with the taps in reverse and the roles of its channels
    exchanged.
    """
    source, target = np.empty(9, np.int64), np.empty(POINTS, np.int64)
    slices(target, side, U, stride)
    if turned:
        block = np.empty(9 * LANES * COLUMNS, np.float32)
        for tap in range(9):
            source[tap] = address(block) + tap * LANES * COLUMNS * 4
        for c in range(first, last, LANES):
            for tap in range(9):
                for j in range(0, COLUMNS, LANES):
                    of = address(w) + (((8 - tap) * K + panel * COLUMNS + j) * C + c) * 4
                    transpose_block(source[tap] + j * 4, COLUMNS * 4, of, C * 4)
            for i in range(LANES):
                to = (c + i - first) * COLUMNS * 4
                transform_filter(side, address(source), i * COLUMNS * 4, address(target), to, COLUMNS, 0, 0)
        keep(block)
    else:
        for tap in range(9):
            source[tap] = address(w) + (tap * C * K + panel * COLUMNS) * 4
        for c in range(first, last):
            to = (c - first) * COLUMNS * 4
            transform_filter(side, address(source), c * K * 4, address(target), to, COLUMNS, 0, 0)
    keep(source, target)


# ------------------------------------------------------------------------------------ a block of tiles at a time


@kernel
def winograd_filters(U, w, C, K, turned, side):
    """U[x, panel, c, :] = G g G^T of the filters; U (points, C*K + SKEW). Parallel over panels and c."""
    count, chunks = K // COLUMNS, (C + LANES - 1) // LANES
    for job in prange(count * chunks):
        p, first = job // chunks, job % chunks * LANES
        _transform_filters(address(U) + (p * C + first) * COLUMNS * 4, K * C + SKEW, w, first, min(first + LANES, C), p,
                           C, K, turned, side)  # fmt: skip


@device_function
def _forward_blocks(y, y2, means, deviations, counts, x, x2, U, epilogue, zeros, V, M, first, last, N, H, W, C1, C,
                    P, Q, K1, K, pad_h, pad_w, d, side, tiles_h, tiles_w, block):  # fmt: skip
    """Blocks `first` to `last` of one thread: see `winograd_forward`."""
    v_slice, m_slice = block * C + SKEW, block * K + SKEW
    count, points = K // COLUMNS, (side + 2) * (side + 2)
    table, c_rows = _tables(address(V), C, address(M), K, block)
    for at in range(first * block, last * block, block):
        end = min(at + block, N * tiles_h * tiles_w * d * d)
        transform_inputs(address(V), v_slice, x, x2, zeros, at, end, at, N, H, W, C1, C, d, pad_h, pad_w, side, tiles_h,
                         tiles_w)  # fmt: skip
        n, h, w = tile_origin(at, tiles_h, tiles_w, side, d)  # of a tile of y to fetch
        n2, h2, w2 = tile_origin(end, tiles_h, tiles_w, side, d)  # of one of x, for the next block
        for point in range(points):
            for _ in range(point * block // points, (point + 1) * block // points):
                bring_near(y, n, h, w, side, d, N, P, Q, K1, True)
                if K1 < K:
                    bring_near(y2, n, h, w, side, d, N, P, Q, K - K1, True)
                n, h, w = next_tile(n, h, w, tiles_h, tiles_w, side, d)
                # without the rows and columns shared with the tiles before
                top, left = h2 - pad_h + 2 * d, w2 - pad_w + 2 * d
                bring_near(x, n2, top, left, side, d, N, H, W, C1, False)
                if C1 < C:
                    bring_near(x2, n2, top, left, side, d, N, H, W, C - C1, False)
                n2, h2, w2 = next_tile(n2, h2, w2, tiles_h, tiles_w, side, d)
            for p in range(count):
                panel = address(U) + (point * (K * C + SKEW) + p * C * COLUMNS) * 4
                for i in range((end - at + ROWS - 1) // ROWS):
                    multiply_tile(address(table) + i * ENTRY * 8, 1, C, 4, point * v_slice * 4, panel,
                                  COLUMNS * 4, address(c_rows) + i * ROWS * 8, (point * m_slice + p * COLUMNS) * 4,
                                  COLUMNS, 0, 0)  # fmt: skip
        for part in range(1 if K1 == K else 2):
            begin, channels = (0, K1) if part == 0 else (K1, K - K1)
            _transform_outputs(y if part == 0 else y2, 0, channels, address(M), begin, K, m_slice, channels,
                               address(epilogue) + begin * 4, K, at, end, P, Q, side, d, tiles_h,
                               tiles_w)  # fmt: skip
        if len(counts):
            _tiles_statistics(means, deviations, counts, y, 0, K, at, end, P, Q, K, side, d, tiles_h,
                              tiles_w)  # fmt: skip
    keep(table, c_rows)


@kernel
def winograd_forward(y, y2, means, deviations, counts, x, x2, U, epilogue, zeros, V, M, N, H, W, C1, C, P, Q, K1, K,
                     pad_h, pad_w, d, side, block, jobs):  # fmt: skip
    """y (N*P*Q*K,) = max(scale * the 3x3 convolution of x (N,H,W,C) with transformed filters U + bias, floor).

    epilogue (3, K) holds scale, bias and floor. x has the first C1 channels and x2 the others; y the first K1, y2 the
    others. Where `counts` has room, also the
    statistics of y over runs of tiles. V (jobs, points * (block * C + SKEW)) and M (jobs, points * (block * K + SKEW)):
    work space of each thread, `block` tiles a time (a multiple of ROWS). zeros: at least C of them.
    Parallel over shares of the blocks.
    """
    tiles_h, tiles_w = ((P + d - 1) // d + side - 1) // side, ((Q + d - 1) // d + side - 1) // side
    blocks = (N * tiles_h * tiles_w * d * d + block - 1) // block
    for job in prange(jobs):
        _forward_blocks(y, y2, means, deviations, counts, x, x2, U, epilogue, zeros, V[job], M[job],
                        blocks * job // jobs, blocks * (job + 1) // jobs, N, H, W, C1, C, P, Q, K1, K, pad_h, pad_w, d,
                        side, tiles_h, tiles_w, block)  # fmt: skip


# ---------------------------------------------------------------------------------- a share of the channels a thread


@kernel
def winograd_inputs(V, x, x2, zeros, first, last, N, H, W, C1, C, P, Q, pad_h, pad_w, d, side):
    """V[x, t, :] = B^T d B for tiles t from first to last; V (points, (last - first) * C + SKEW) flat. Parallel over
    tiles."""
    tiles_h, tiles_w = ((P + d - 1) // d + side - 1) // side, ((Q + d - 1) // d + side - 1) // side
    for t in prange(last - first):
        transform_inputs(address(V), (last - first) * C + SKEW, x, x2, zeros, first + t, first + t + 1, first, N, H, W,
                         C1, C, d, pad_h, pad_w, side, tiles_h, tiles_w)  # fmt: skip


@device_function
def _panels(y, y2, means, deviations, counts, V, w, epilogue, U, M, panel_first, panel_last, first, last, C,
            P, Q, K1, K, d, side, tiles_h, tiles_w, turned):  # fmt: skip
    """Panels `panel_first` to `panel_last` of one thread: see `winograd_panels`."""
    tiles, points = last - first, (side + 2) * (side + 2)
    v_slice, m_slice, u_slice = tiles * C + SKEW, (tiles + ROWS) * COLUMNS + SKEW, SLAB * COLUMNS + SKEW
    table, c_rows = _tables(address(V), C, address(M), COLUMNS, tiles)
    for p in range(panel_first, panel_last):
        for slab in range(0, C, SLAB):
            channels = min(SLAB, C - slab)
            _transform_filters(address(U), u_slice, w, slab, slab + channels, p, C, K, turned, side)
            for point in range(points):
                for i in range((tiles + ROWS - 1) // ROWS):
                    multiply_tile(address(table) + i * ENTRY * 8, 1, channels, 4, (point * v_slice + slab) * 4,
                                  address(U) + point * u_slice * 4, COLUMNS * 4, address(c_rows) + i * ROWS * 8,
                                  point * m_slice * 4, COLUMNS, min(slab, 1), 0)  # fmt: skip
        k = p * COLUMNS
        own = y if k < K1 else y2
        own_first, own_channels = (k, K1) if k < K1 else (k - K1, K - K1)
        _transform_outputs(own, own_first, own_channels, address(M), 0, COLUMNS, m_slice, COLUMNS,
                           address(epilogue) + k * 4, K, first, last, P, Q, side, d, tiles_h, tiles_w)  # fmt: skip
        if len(counts):
            _tiles_statistics(means, deviations, counts, y, k, COLUMNS, first, last, P, Q, K, side, d, tiles_h,
                              tiles_w)  # fmt: skip
    keep(table, c_rows)


@kernel
def winograd_panels(y, y2, means, deviations, counts, V, w, epilogue, U, M, first, last, C, P, Q, K1, K, d,
                    side, turned, jobs):  # fmt: skip
    """As `winograd_forward`, for tiles from first to last and their V from `winograd_inputs`, filters untransformed.

    U (jobs, points * (SLAB * COLUMNS + SKEW)) and M (jobs, points * ((last - first + ROWS) * COLUMNS + SKEW)): work
    space. Parallel over shares of the panels of k.
    """
    tiles_h, tiles_w = ((P + d - 1) // d + side - 1) // side, ((Q + d - 1) // d + side - 1) // side
    count = K // COLUMNS
    for job in prange(jobs):
        _panels(y, y2, means, deviations, counts, V, w, epilogue, U[job], M[job], count * job // jobs,
                count * (job + 1) // jobs, first, last, C, P, Q, K1, K, d, side, tiles_h, tiles_w, turned)  # fmt: skip


# --------------------------------------------------------------------------------------------------- both orders

MANY_FILTERS = 1 << 16  # C * K from which the transformed filters (36 * 4 bytes each) are better never stored
FEW_TILES = 128


def winograd_convolution(device, ys, xs, w, padding, dilation, side, turned=False, scale=None, b=None, relu=False,
                         statistics=False):  # fmt: skip
    """ys = b + scale * the convolution of xs (one or two parts) with filters w (3,3,C,K), or w (3,3,K,C) if turned.

    Returns the statistics of the result where they are wanted.
    """
    x, x2, y, y2 = xs[0], xs[-1], ys[0], ys[-1]
    N, H, W, C1 = x.shape
    _, P, Q, K1 = y.shape
    C, K = sum(a.shape[3] for a in xs), sum(a.shape[3] for a in ys)
    points, d, jobs = (side + 2) ** 2, dilation, device.threads
    zeros = device.zeros((C,), x.dtype)
    epilogue = device.empty((3, K), x.dtype)
    epilogue[0] = 1 if scale is None else scale
    epilogue[1] = 0 if b is None else b
    epilogue[2] = 0 if relu else -np.inf
    tiles = count_tiles(N, P, Q, d, side)
    runs = room_for_runs(device, -(-tiles // ROWS) if statistics else 0, K, x.dtype)
    outputs, sizes = (y.reshape(-1), y2.reshape(-1), *runs), (C, P, Q, K1, K)
    if C * K >= MANY_FILTERS and tiles <= FEW_TILES:
        share = share_of_tiles(tiles, 1)
        V = device.empty((points * (share * C + SKEW) + ROWS * C,), x.dtype)
        jobs = min(jobs, K // COLUMNS)
        U = device.empty((jobs, points * (SLAB * COLUMNS + SKEW)), x.dtype)
        M = device.empty((jobs, points * ((share + ROWS) * COLUMNS + SKEW)), x.dtype)
        for first in range(0, tiles, share):
            last = min(first + share, tiles)
            device.launch(winograd_inputs, V, x, x2, zeros, first, last, N, H, W, C1, C, P, Q, *padding, d, side)
            device.launch(winograd_panels, *outputs, V, w, epilogue, U, M, first, last, *sizes, d, side,
                          int(turned), jobs)  # fmt: skip
    else:
        # more tiles share a pass over filters that outgrow the L2 cache; fewer leave it room for others
        block = share_of_tiles(tiles, jobs, 2 * ROWS if C * K <= MANY_FILTERS else 8 * ROWS)
        U = device.empty((points, C * K + SKEW), x.dtype)
        device.launch(winograd_filters, U, w, C, K, int(turned), side)
        V = device.empty((jobs, points * (block * C + SKEW)), x.dtype)
        M = device.empty((jobs, points * (block * K + SKEW)), x.dtype)
        device.launch(winograd_forward, *outputs, x, x2, U, epilogue, zeros, V, M, N, H, W, C1, *sizes, *padding, d,
                      side, block, jobs)  # fmt: skip
    return runs if statistics else None


def count_tiles(N: int, P: int, Q: int, d: int, side: int) -> int:
    return N * d**2 * -(-P // (side * d)) * -(-Q // (side * d))


def share_of_tiles(tiles: int, shares: int, most: int = 8 * ROWS) -> int:
    """How many tiles go through Winograd's steps at a time: about `most`, so that `shares` threads get as many."""
    rounds = max(1, -(-tiles // (shares * most)))
    return max(1, -(-tiles // (shares * rounds * ROWS))) * ROWS
