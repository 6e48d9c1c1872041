"""Implicit GEMM: convolution in both directions as one gather, and the gradient of the filters, on `multiply_tile`.

Forward, and backward to x, are the same sum with other numbers. For an output pixel o and a filter tap r, the input
pixel is  (o * num + off + r * inc) / den,  where it is whole and inside the image:

    y[p]  = sum_r w[r]   x [p * stride - padding + r * dilation]           num = stride, den = 1
    dx[h] = sum_r w[r]^T dy[(h + padding - r * dilation) / stride]         num = 1, den = stride

Outputs with the same remainder modulo den see the same taps; they form a *phase*, inside which the input pixel moves
by a whole step. So a transposed convolution is den^2 small convolutions with no wasted multiplication.

The work is cut into blocks of output pixels. A block first writes its table of addresses. Then it takes so many input
channels at a time that what it sees of them stays in the L2 cache, and goes through the filters panel by panel (a
panel: COLUMNS output channels), each copied together once and read by all tiles of the block.
"""

import numpy as np
from numba import prange

from ...kernel import device_function, kernel
from ..prefetch import prefetch, prefetch_to_write
from .simd import COLUMNS, ENTRY, FINISH, LANES, ROWS, address, copy_floats, keep, multiply_tile, transpose_block

PACK_AHEAD = 16  # how many rows of filters before they are packed the memory is asked for them
NEAR = 64  # channels of a pixel that are asked for while the table of addresses is written
SELDOM = 12  # times that a panel of dy is read: up to here it is read where it lies


@device_function
def pack_panel(packed, to, w, tap, C, K, first, width, k0, begin, end, transposed):
    """Numbers of one tap of the filters w (R,S,C,K), flat, as rows of COLUMNS floats from packed[to] on.

    Columns are `width` output channels from `first` on, and zeros behind them, rows the input channels from `begin` to
    before `end`: k and c, or transposed c and k; k0 is where the group's k begin.
    """
    of = tap * C * K + k0
    if not transposed:
        for i in range(begin, end):
            prefetch(w, of + (i + PACK_AHEAD) * K + first, COLUMNS)
            row = address(packed) + (to + (i - begin) * COLUMNS) * 4
            copy_floats(row, address(w) + (of + i * K + first) * 4, width, COLUMNS)
        return
    blocks = (end - begin) // LANES * LANES if width == COLUMNS else 0
    for i in range(begin, begin + blocks, LANES):
        for j in range(0, COLUMNS, LANES):
            block = address(packed) + (to + (i - begin) * COLUMNS + j) * 4
            transpose_block(block, COLUMNS * 4, address(w) + (of + (first + j) * K + i) * 4, K * 4)
    for i in range(begin + blocks, end):
        row = to + (i - begin) * COLUMNS
        for j in range(width):
            packed[row + j] = w[of + (first + j) * K + i]
        for j in range(width, COLUMNS):
            packed[row + j] = 0


@device_function
def _gather_block(out, a, w, epilogue, shortcut, zeros, order, job, N, AH, AW, AC, OH, OW, OC, R, S, WC, WK, groups,
                  transposed, num_h, num_w, den_h, den_w, off_h, off_w, inc_h, inc_w, block, shares,
                  depth):  # fmt: skip
    """One share of the channels of one block of one phase: see `gather_tiles`."""
    phases = den_h * den_w
    share, phase, index = job % shares, job // shares % phases, job // shares // phases
    py, px = phase // den_w, phase % den_w
    ny, nx = (OH - py + den_h - 1) // den_h, (OW - px + den_w - 1) // den_w
    count = min(block, N * ny * nx - index * block)
    if count <= 0:
        return
    Kg = OC // groups
    run = WK // groups if transposed else WC
    step_h, step_w = (num_h, num_w) if phases == 1 else (1, 1)

    # the taps of this phase, and where each looks from a pixel whose (i, j) is (0, 0)
    tap_h, tap_w, tap_of = np.empty(R * S, np.int64), np.empty(R * S, np.int64), np.empty(R * S, np.int64)
    taps = 0
    for r in range(R):
        u = py * num_h + off_h + r * inc_h
        for s in range(S):
            v = px * num_w + off_w + s * inc_w
            if u % den_h == 0 and v % den_w == 0:
                tap_h[taps], tap_w[taps], tap_of[taps] = u // den_h, v // den_w, r * S + s
                taps += 1

    # the table of addresses; rows behind the last pixel repeat it: equal sums, written to one place
    tiles = (count + ROWS - 1) // ROWS
    table = np.empty(tiles * taps * ENTRY, np.int64)
    used, seen_by_some = np.zeros(tiles, np.int64), np.zeros(taps, np.bool_)
    c_rows = np.empty(tiles * ROWS, np.int64)
    row_h, row_w, row_a = np.empty(ROWS, np.int64), np.empty(ROWS, np.int64), np.empty(ROWS, np.int64)
    n, i, j = _pixel(index * block, ny, nx)
    for tile in range(tiles):
        rows = min(ROWS, count - tile * ROWS)
        top, bottom, left, right = AH, 0, AW, 0
        for m in range(ROWS):
            if m >= rows:
                row_h[m], row_w[m], row_a[m] = row_h[m - 1], row_w[m - 1], row_a[m - 1]
                c_rows[tile * ROWS + m] = c_rows[tile * ROWS + m - 1]
                continue
            if len(order) > 0:
                n, i, j = _pixel(order[index * block + tile * ROWS + m], ny, nx)
            h, v = i * step_h, j * step_w
            top, bottom, left, right = min(top, h), max(bottom, h), min(left, v), max(right, v)
            of_a = ((n * AH + h) * AW + v) * AC
            of_out = ((n * OH + py + i * den_h) * OW + px + j * den_w) * OC
            prefetch(a, of_a, min(run, NEAR))  # the table takes a while, in which memory would rest
            prefetch_to_write(out, of_out, min(Kg, NEAR))
            row_h[m], row_w[m], row_a[m] = h, v, address(a) + of_a * 4
            c_rows[tile * ROWS + m] = address(out) + of_out * 4
            j += 1
            if j == nx:
                i, j = i + 1, 0
                if i == ny:
                    n, i = n + 1, 0
        for t in range(taps):
            entry = (tile * taps + used[tile]) * ENTRY
            shift = (tap_h[t] * AW + tap_w[t]) * AC * 4
            seen = top + tap_h[t] >= 0 and bottom + tap_h[t] < AH and left + tap_w[t] >= 0 and right + tap_w[t] < AW
            if seen:  # by all pixels of the tile, as in most
                for m in range(ROWS):
                    table[entry + 1 + m] = row_a[m] + shift
            else:
                for m in range(ROWS):
                    h, v = row_h[m] + tap_h[t], row_w[m] + tap_w[t]
                    inside = 0 <= h and h < AH and 0 <= v and v < AW
                    table[entry + 1 + m] = row_a[m] + shift if inside else address(zeros)
                    seen = seen or inside
            if seen:
                table[entry] = t * depth * COLUMNS * 4
                used[tile] += 1
                seen_by_some[t] = True

    # the sums: of `depth` channels at a time, whose pixels and filters stay in the cache meanwhile
    packed = np.empty(taps * depth * COLUMNS + LANES, np.float32)
    start = -(address(packed) // 4) % LANES  # whole vectors lie in one line of the cache
    finish = np.zeros(FINISH, np.int64)
    per_group = (Kg + COLUMNS - 1) // COLUMNS
    finish[1] = groups * per_group * COLUMNS * 4
    finish[2] = address(shortcut) - address(out) if len(shortcut) > 0 else 0
    for c in range(0, run, depth):
        end = min(c + depth, run)
        last = address(finish) if len(epilogue) > 0 and end == run else 0
        for at in range(groups * per_group * share // shares, groups * per_group * (share + 1) // shares):
            g, first = at // per_group, at % per_group * COLUMNS
            width = min(COLUMNS, Kg - first)
            k0 = g * (WK // groups)
            for t in range(taps):
                if seen_by_some[t]:
                    to = start + t * depth * COLUMNS
                    pack_panel(packed, to, w, tap_of[t], WC, WK, first, width, k0, c, end, transposed)
            finish[0] = address(epilogue) + at * COLUMNS * 4
            for tile in range(tiles):
                multiply_tile(address(table) + tile * taps * ENTRY * 8, used[tile], end - c, 4, (g * run + c) * 4,
                              address(packed) + start * 4, COLUMNS * 4, address(c_rows) + tile * ROWS * 8,
                              (g * Kg + first) * 4, width, min(c, 1), last)  # fmt: skip
    keep(table, c_rows, packed, finish)


@device_function
def _pixel(number, ny, nx):
    """(n, i, j) of the pixel with this number."""
    return number // (ny * nx), number % (ny * nx) // nx, number % nx


@kernel
def gather_tiles(out, a, w, epilogue, shortcut, zeros, order, N, AH, AW, AC, OH, OW, OC, R, S, WC, WK, groups,
                 transposed, num_h, num_w, den_h, den_w, off_h, off_w, inc_h, inc_w, block, shares, depth):  # fmt: skip
    """out[n, o, k] = sum over taps r and channels c of a[n, (o num + off + r inc) / den, c] w[r, c, k].

    Where there is an epilogue (factor, addend and floor: rows of COLUMNS numbers for each panel), then
    max(factor * that + addend + shortcut, floor), the shortcut of out's form or empty. out (N*OH*OW*OC,) flat; a has AC
    floats a pixel; w (R,S,WC,WK) flat, transposed: c and k change places; zeros: AC or run zeros, whichever is more;
    order: the numbers of out's pixels in the order to compute them in (`order_by_taps`; den is 1), or empty. Parallel
    over blocks of `block` output pixels of each phase and over `shares` of out's channels; summed over `depth` channels
    at a time.
    """
    blocks = (N * ((OH + den_h - 1) // den_h) * ((OW + den_w - 1) // den_w) + block - 1) // block
    for job in prange(blocks * den_h * den_w * shares):
        _gather_block(out, a, w, epilogue, shortcut, zeros, order, job, N, AH, AW, AC, OH, OW, OC, R, S, WC, WK, groups,
                      transposed, num_h, num_w, den_h, den_w, off_h, off_w, inc_h, inc_w, block, shares,
                      depth)  # fmt: skip


@device_function
def _rows_of_taps(table, used, begin, end, x, row, rows, H, W, M, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h,
                  dil_w, pixel, b_step, block):  # fmt: skip
    """For each tap the rows of x that it sees from `rows` rows of dy, and from which column to which: a tile's rows are
    the channels."""
    for tap in range(R * S):
        r, s = tap // S, tap % S
        first_w = s * dil_w - pad_w
        begin[tap] = max(0, -(first_w // stride_w))
        end[tap] = min(Q, (W - 1 - first_w) // stride_w + 1)
        used[tap] = 0
        for i in range(rows):
            n, h = (row + i) // P, (row + i) % P * stride_h - pad_h + r * dil_h
            if 0 <= h and h < H and begin[tap] < end[tap]:
                entry = (tap * block + used[tap]) * ENTRY
                table[entry] = (i * Q + begin[tap]) * b_step
                base = address(x) + ((n * H + h) * W + begin[tap] * stride_w + first_w) * pixel * 4
                for m in range(ROWS):
                    table[entry + 1 + m] = base + min(m, M - 1) * 4
                used[tap] += 1


@device_function
def _rows_of_numbers(table, used, begin, end, x, zeros, row, rows, H, W, M, P, Q, R, stride_h, pad_h, dil_h, pixel,
                     b_step, block):  # fmt: skip
    """The same for filters of merged taps: a tile's rows are any ROWS of the R*M numbers of a filter, as they lie."""
    for tile in range((R * M + ROWS - 1) // ROWS):
        begin[tile], end[tile], used[tile] = 0, Q, 0
        for i in range(rows):
            n, first_h = (row + i) // P, (row + i) % P * stride_h - pad_h
            entry = (tile * block + used[tile]) * ENTRY
            table[entry] = i * Q * b_step
            seen = False
            for m in range(ROWS):
                number = min(tile * ROWS + m, R * M - 1)
                h = first_h + number // M * dil_h
                inside = 0 <= h and h < H
                row_of_x = address(x) + ((n * H + h) * W * pixel + number % M) * 4
                table[entry + 1 + m] = row_of_x if inside else address(zeros)
                seen = seen or inside
            if seen:
                used[tile] += 1


@device_function
def _gradient_job(part, dy, x, zeros, rows_from, rows_to, panels_from, panels_to, H, W, M, P, Q, K, R, S, stride_h,
                  stride_w, pad_h, pad_w, dil_h, dil_w, groups, pixel, across, merged, block):  # fmt: skip
    """The rows and panels of one thread: see `filter_gradient_tiles`."""
    Kg = K // groups
    per_group = (Kg + COLUMNS - 1) // COLUMNS
    taps, channels = ((R * M + ROWS - 1) // ROWS, ROWS) if merged else (R * S, M)
    table = np.empty(taps * block * ENTRY, np.int64)
    used, begin, end = np.empty(taps, np.int64), np.empty(taps, np.int64), np.empty(taps, np.int64)
    # a panel of dy is packed, unless it is read so seldom that this would cost more than its rows' distance
    seldom = taps * ((channels + ROWS - 1) // ROWS) <= SELDOM and Kg % COLUMNS == 0
    b_step = K * 4 if seldom else COLUMNS * 4
    packed = np.empty(1 if seldom else block * Q * COLUMNS, np.float32)
    nowhere = np.empty(COLUMNS, np.float32)
    c_rows, last_rows = np.empty(ROWS, np.int64), np.empty(ROWS, np.int64)
    for m in range(ROWS):
        c_rows[m] = address(part) + m * K * 4
    for row in range(rows_from, max(rows_to, rows_from + 1), block):  # of no rows the sums are zeros
        rows = min(block, rows_to - row)
        if merged:
            _rows_of_numbers(table, used, begin, end, x, zeros, row, rows, H, W, M, P, Q, R, stride_h, pad_h, dil_h,
                             pixel, b_step, block)  # fmt: skip
        else:
            _rows_of_taps(table, used, begin, end, x, row, rows, H, W, M, P, Q, R, S, stride_h, stride_w, pad_h, pad_w,
                          dil_h, dil_w, pixel, b_step, block)  # fmt: skip
        for at in range(panels_from, panels_to):
            g = at // per_group
            k0 = g * Kg + at % per_group * COLUMNS
            width = min(COLUMNS, (g + 1) * Kg - k0)
            panel = address(dy) + (row * Q * K + k0) * 4
            if not seldom:
                for i in range(rows * Q):
                    copy_floats(address(packed) + i * b_step, panel + i * K * 4, width, COLUMNS)
                panel = address(packed)
            for tap in range(taps):
                if used[tap] == 0 and row > rows_from:
                    continue
                entries = address(table) + tap * block * ENTRY * 8
                for c in range(0, channels, ROWS):
                    c0 = max(0, min(c, channels - ROWS))  # the last tile overlaps the one before
                    a_shift = (g * M + c0) * across // ROWS * 4
                    c_shift = ((tap * channels + c0) * K + k0) * 4
                    rows_of_c = address(c_rows)
                    if c + ROWS > channels:  # and what is done, or of no channel, goes nowhere
                        rows_of_c = address(last_rows)
                        for m in range(ROWS):
                            fresh = c - c0 <= m and m < channels - c0
                            last_rows[m] = c_rows[m] if fresh else address(nowhere) - c_shift
                    multiply_tile(entries, used[tap], end[tap] - begin[tap], stride_w * pixel * 4, a_shift, panel,
                                  b_step, rows_of_c, c_shift, width, min(row - rows_from, 1), 0)  # fmt: skip
    keep(table, packed, nowhere, c_rows, last_rows)


@kernel
def filter_gradient_tiles(parts, dy, x, zeros, N, H, W, M, P, Q, K, R, S, stride_h, stride_w, pad_h, pad_w, dil_h,
                          dil_w, groups, pixel, across, merged, splits, panel_jobs, block):  # fmt: skip
    """parts[i, r, s, c, k] = sum of x[n, p stride + r dilation - padding, c] dy[n, p, q, k] over a share of n, p, q.

    parts (splits, at least R*S*M*K) flat rows, M the channels of a group; x has `pixel` floats from a pixel to the next
    and `across` from ROWS channels to the next ROWS. merged: M is S*C, `_merge_taps`; each part then has room for whole
    tiles of ROWS, and a row of x that is outside the image is `zeros`. Parallel over shares of the rows of dy (their
    parts are added up later, in order) and over shares of the panels of k.
    """
    panels = groups * ((K // groups + COLUMNS - 1) // COLUMNS)
    for job in prange(splits * panel_jobs):
        i, o = job // panel_jobs, job % panel_jobs
        _gradient_job(parts[i], dy, x, zeros, N * P * i // splits, N * P * (i + 1) // splits, panels * o // panel_jobs,
                      panels * (o + 1) // panel_jobs, H, W, M, P, Q, K, R, S, stride_h, stride_w, pad_h, pad_w, dil_h,
                      dil_w, groups, pixel, across, merged, block)  # fmt: skip


@kernel
def by_channel_tiles(out, x, pixels, C):
    """out[i, pixel, j] = x[pixel, i * ROWS + j]: what a tile reads lies together. Parallel over runs of ROWS pixels."""
    for job in prange((pixels + ROWS - 1) // ROWS):
        for i in range(C // ROWS):
            for pixel in range(job * ROWS, min(job * ROWS + ROWS, pixels)):
                for j in range(ROWS):
                    out[i, pixel, j] = x[pixel, i * ROWS + j]


@kernel
def pad_columns(out, x, rows, W, C, left, width):
    """Rows of W pixels laid into rows of `width` pixels from column `left`, zeros beside them. Parallel over rows."""
    for row in prange(rows):
        to = address(out) + row * width * C * 4
        copy_floats(to, 0, 0, left * C)
        copy_floats(to + left * C * 4, address(x) + row * W * C * 4, W * C, (width - left) * C)


@kernel
def add_columns(dx, columns, b, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w):
    """dx[n,h,w,c] = b[c] + columns[n,p,q,(r,s,c)] of all p, q whose tap sees (h, w). Parallel over rows of dx."""
    for row in prange(N * H):
        n, h = row // H, row % H
        for v in range(W):
            for c in range(C):
                dx[n, h, v, c] = b[c]
        for r in range(R):
            p = (h + pad_h - r * dil_h) // stride_h
            if p * stride_h + r * dil_h - pad_h == h and 0 <= p and p < P:
                for s in range(S):
                    first = s * dil_w - pad_w
                    for q in range(max(0, -(first // stride_w)), min(Q, (W - 1 - first) // stride_w + 1)):
                        v = q * stride_w + first
                        for c in range(C):
                            dx[n, h, v, c] += columns[n, p, q, (r * S + s) * C + c]


@kernel
def sum_parts(total, parts, count, n):
    """total[j] = sum_i parts[i, j], in the order of i. Parallel over j."""
    for j in prange(n):
        value = parts[0, j]
        for i in range(1, count):
            value += parts[i, j]
        total[j] = value
