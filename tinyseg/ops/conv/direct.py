"""Implicit GEMM: convolution in both directions as one gather, and the gradient of the filters, on `multiply_tile`.

Forward, and backward to x, are the same sum with other numbers. For an output pixel o and a filter tap r, the input
pixel is  (o * num + off + r * inc) / den,  where it is whole and inside the image:

    y[p]  = sum_r w[r]   x [p * stride - padding + r * dilation]           num = stride, den = 1
    dx[h] = sum_r w[r]^T dy[(h + padding - r * dilation) / stride]         num = 1, den = stride

Outputs with the same remainder modulo den see the same taps; they form a *phase*, inside which the input pixel moves
by a whole step. So a transposed convolution is den^2 small convolutions with no wasted multiplication.

The work is cut into blocks of output pixels, small enough for the input that they see to stay in the L2 cache. A block
first writes its table of addresses, then goes through the filters panel by panel (a panel: COLUMNS output channels).
"""

import numpy as np
from numba import prange

from ...kernel import device_function, kernel
from ..prefetch import prefetch
from .simd import COLUMNS, ENTRY, FINISH, LANES, ROWS, address, copy_floats, keep, multiply_tile, transpose_block

AHEAD = 16  # how many rows of filters before they are packed the memory is asked for them
SELDOM = 12  # times that a panel of dy is read: up to here it is read where it lies


@kernel
def pack_filters(panels, w, R, S, C, K, groups, transposed, skipped):
    """Filters w (R,S,C,K) as panels (groups, count, R*S, run, COLUMNS), zero beyond the last channel.

    Columns are output channels k and the run is c; transposed, columns are c and the run is k. Those of so many
    skipped panels of each group are left out. Parallel over taps and panels.
    """
    Kg = K // groups
    count, run = panels.shape[1], panels.shape[3]
    taps = R * S
    for job in prange(groups * count * taps):
        g, rest = job // (count * taps), job % (count * taps)
        at, tap = rest // taps, rest % taps
        r, s = tap // S, tap % S
        first = (skipped + at) * COLUMNS
        if transposed:
            width = min(COLUMNS, C - first)
            blocks = run // LANES * LANES if width == COLUMNS else 0
            for i in range(0, blocks, LANES):
                for j in range(0, COLUMNS, LANES):
                    to = address(panels) + ((((g * count + at) * taps + tap) * run + i) * COLUMNS + j) * 4
                    of = address(w) + ((tap * C + first + j) * K + g * Kg + i) * 4
                    transpose_block(to, COLUMNS * 4, of, K * 4)
            for i in range(blocks, run):
                for j in range(width):
                    panels[g, at, tap, i, j] = w[r, s, first + j, g * Kg + i]
                for j in range(width, COLUMNS):
                    panels[g, at, tap, i, j] = 0
        else:
            width = min(COLUMNS, Kg - first)
            for i in range(run):
                prefetch(w, (tap * C + i + AHEAD) * K + g * Kg + first, COLUMNS)
                to = address(panels) + (((g * count + at) * taps + tap) * run + i) * COLUMNS * 4
                copy_floats(to, address(w) + ((tap * C + i) * K + g * Kg + first) * 4, width, COLUMNS)


@device_function
def _gather_block(out, a, panels, epilogue, shortcut, zeros, job, N, AH, AW, AC, OH, OW, OC, R, S, groups, num_h, num_w,
                  den_h, den_w, off_h, off_w, inc_h, inc_w, columns, block):  # fmt: skip
    """One block of one phase: see `gather_tiles`."""
    phases = den_h * den_w
    phase, index = job % phases, job // phases
    py, px = phase // den_w, phase % den_w
    ny, nx = (OH - py + den_h - 1) // den_h, (OW - px + den_w - 1) // den_w
    count = min(block, N * ny * nx - index * block)
    if count <= 0:
        return
    run, panel_count, Kg = panels.shape[3], panels.shape[1], OC // groups
    step_h, step_w = (num_h, num_w) if phases == 1 else (1, 1)

    # the taps of this phase, and where each looks from a pixel whose (i, j) is (0, 0)
    tap_h, tap_w = np.empty(R * S, np.int64), np.empty(R * S, np.int64)
    tap_panel = np.empty(R * S, np.int64)
    taps = 0
    for r in range(R):
        u = py * num_h + off_h + r * inc_h
        for s in range(S):
            v = px * num_w + off_w + s * inc_w
            if u % den_h == 0 and v % den_w == 0:
                tap_h[taps], tap_w[taps] = u // den_h, v // den_w
                tap_panel[taps] = (r * S + s) * run * COLUMNS * 4
                taps += 1

    # the table of addresses
    tiles = (count + ROWS - 1) // ROWS
    table = np.empty(tiles * taps * ENTRY, np.int64)
    used = np.zeros(tiles, np.int64)
    c_rows = np.empty(tiles * ROWS, np.int64)
    nowhere = np.empty(OC + COLUMNS, np.float32)
    row_h, row_w, row_a = np.empty(ROWS, np.int64), np.empty(ROWS, np.int64), np.empty(ROWS, np.int64)
    n = index * block // (ny * nx)
    i = index * block % (ny * nx) // nx
    j = index * block % nx
    for tile in range(tiles):
        rows = min(ROWS, count - tile * ROWS)
        for m in range(rows):
            row_h[m], row_w[m] = i * step_h, j * step_w
            row_a[m] = address(a) + ((n * AH + i * step_h) * AW + j * step_w) * AC * 4
            c_rows[tile * ROWS + m] = address(out) + ((n * OH + py + i * den_h) * OW + px + j * den_w) * OC * 4
            j += 1
            if j == nx:
                i, j = i + 1, 0
                if i == ny:
                    n, i = n + 1, 0
        for m in range(rows, ROWS):
            c_rows[tile * ROWS + m] = address(nowhere)
        for t in range(taps):
            entry = (tile * taps + used[tile]) * ENTRY
            seen = False
            shift = (tap_h[t] * AW + tap_w[t]) * AC * 4
            for m in range(rows):
                h, w = row_h[m] + tap_h[t], row_w[m] + tap_w[t]
                inside = 0 <= h and h < AH and 0 <= w and w < AW
                table[entry + 1 + m] = row_a[m] + shift if inside else address(zeros)
                seen = seen or inside
            if seen:
                table[entry] = tap_panel[t]
                for m in range(rows, ROWS):
                    table[entry + 1 + m] = address(zeros)
                used[tile] += 1

    # the sums
    edge, edge_shortcut = np.empty((ROWS, COLUMNS), np.float32), np.empty((ROWS, COLUMNS), np.float32)
    edge_rows = np.empty(ROWS, np.int64)
    for m in range(ROWS):
        edge_rows[m] = address(edge) + m * COLUMNS * 4
    finish, edge_finish = np.zeros(FINISH, np.int64), np.zeros(FINISH, np.int64)
    added = len(shortcut) > 0
    to_shortcut = address(shortcut) - address(out)
    finish[1] = edge_finish[1] = columns * 4
    finish[2], edge_finish[2] = (to_shortcut, address(edge_shortcut) - address(edge)) if added else (0, 0)
    last, edge_last = (address(finish), address(edge_finish)) if len(epilogue) > 0 else (0, 0)
    for g in range(groups):
        for p in range(panel_count):
            panel = address(panels) + (g * panel_count + p) * R * S * run * COLUMNS * 4
            finish[0] = edge_finish[0] = address(epilogue) + (g * panel_count + p) * COLUMNS * 4
            c_shift = (g * Kg + p * COLUMNS) * 4
            width = min(COLUMNS, Kg - p * COLUMNS)
            for tile in range(tiles):
                entries = address(table) + tile * taps * ENTRY * 8
                rows = min(ROWS, count - tile * ROWS)
                if width == COLUMNS and (rows == ROWS or not added):
                    multiply_tile(entries, used[tile], run, 4, g * run * 4, panel, COLUMNS * 4,
                                  address(c_rows) + tile * ROWS * 8, c_shift, 0, last)  # fmt: skip
                    continue
                # the last channels: a whole tile would write over the next pixel; or the last pixels, behind which
                # is nothing to add
                for m in range(rows if added else 0):
                    from_shortcut = c_rows[tile * ROWS + m] + c_shift + to_shortcut
                    copy_floats(edge_rows[m] + edge_finish[2], from_shortcut, width, COLUMNS)
                multiply_tile(entries, used[tile], run, 4, g * run * 4, panel, COLUMNS * 4, address(edge_rows), 0, 0,
                              edge_last)  # fmt: skip
                for m in range(rows):
                    copy_floats(c_rows[tile * ROWS + m] + c_shift, edge_rows[m], width, width)
    keep(table, c_rows, nowhere, edge, edge_shortcut, edge_rows, finish, edge_finish)


@kernel
def gather_tiles(out, a, panels, epilogue, shortcut, zeros, N, AH, AW, AC, OH, OW, OC, R, S, groups, num_h, num_w,
                 den_h, den_w, off_h, off_w, inc_h, inc_w, columns, block):  # fmt: skip
    """out[n, o, k] = sum over taps r and channels c of a[n, (o num + off + r inc) / den, c] panels[r, c, k].

    Where there is an epilogue (factor, addend and floor: rows of COLUMNS numbers for each panel, `columns` apart), then
    max(factor * that + addend + shortcut, floor), the shortcut of out's form or empty. out (N*OH*OW*OC,) flat; a has AC
    floats a pixel; panels from `pack_filters`; zeros: AC or run zeros, whichever is more. Parallel over blocks of
    `block` output pixels of each phase.
    """
    blocks = (N * ((OH + den_h - 1) // den_h) * ((OW + den_w - 1) // den_w) + block - 1) // block
    for job in prange(blocks * den_h * den_w):
        _gather_block(out, a, panels, epilogue, shortcut, zeros, job, N, AH, AW, AC, OH, OW, OC, R, S, groups, num_h,
                      num_w, den_h, den_w, off_h, off_w, inc_h, inc_w, columns, block)  # fmt: skip


@device_function
def _gradient_job(part, dy, x, rows_from, rows_to, panels_from, panels_to, H, W, XC, M, P, Q, K, R, S, stride_h,
                  stride_w, pad_h, pad_w, dil_h, dil_w, groups, block):  # fmt: skip
    """The rows and panels of one thread: see `filter_gradient_tiles`."""
    Kg = K // groups
    per_group = (Kg + COLUMNS - 1) // COLUMNS
    taps = R * S
    for at in range(panels_from, panels_to):  # this job's part starts from zero
        k0 = at // per_group * Kg + at % per_group * COLUMNS
        k1 = min(k0 + COLUMNS, (at // per_group + 1) * Kg)
        for row in range(taps * M):
            copy_floats(address(part) + (row * K + k0) * 4, 0, 0, k1 - k0)
    table = np.empty(taps * block * ENTRY, np.int64)
    used = np.empty(taps, np.int64)
    # a panel of dy is packed, unless it is read so seldom that this would cost more than its rows' distance
    seldom = taps * ((M + ROWS - 1) // ROWS) <= SELDOM and Kg % COLUMNS == 0
    b_step = K * 4 if seldom else COLUMNS * 4
    packed = np.empty(1 if seldom else block * Q * COLUMNS, np.float32)
    edge = np.empty((ROWS, COLUMNS), np.float32)
    nowhere = np.empty(COLUMNS, np.float32)
    edge_rows, c_rows, last_rows = np.empty(ROWS, np.int64), np.empty(ROWS, np.int64), np.empty(ROWS, np.int64)
    for m in range(ROWS):
        edge_rows[m] = address(edge) + m * COLUMNS * 4
        c_rows[m] = address(part) + m * K * 4
    for row in range(rows_from, rows_to, block):
        rows = min(block, rows_to - row)
        for tap in range(taps):  # the rows of x that this tap sees, from its first column inside the image
            r, s = tap // S, tap % S
            q0 = max(0, -((s * dil_w - pad_w) // stride_w))
            n_used = 0
            for i in range(rows):
                n, p = (row + i) // P, (row + i) % P
                h = p * stride_h - pad_h + r * dil_h
                if 0 <= h and h < H:
                    entry = (tap * block + n_used) * ENTRY
                    table[entry] = (i * Q + q0) * b_step
                    base = address(x) + ((n * H + h) * W + q0 * stride_w - pad_w + s * dil_w) * XC * 4
                    for m in range(ROWS):
                        table[entry + 1 + m] = base + min(m, M - 1) * 4
                    n_used += 1
            used[tap] = n_used
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
                first_w = (tap % S) * dil_w - pad_w
                q0 = max(0, -(first_w // stride_w))
                q1 = min(Q, (W - 1 - first_w) // stride_w + 1)
                if q1 <= q0 or used[tap] == 0:
                    continue
                entries = address(table) + tap * block * ENTRY * 8
                for c in range(0, M, ROWS):
                    c0 = max(0, min(c, M - ROWS))  # the last tile overlaps the one before; what is done goes nowhere
                    c_shift = ((tap * M + c0) * K + k0) * 4
                    a_shift = (g * M + c0) * 4
                    if width < COLUMNS:
                        multiply_tile(entries, used[tap], q1 - q0, stride_w * XC * 4, a_shift, panel, b_step,
                                      address(edge_rows), 0, 0, 0)  # fmt: skip
                        for m in range(c - c0, min(ROWS, M - c0)):
                            for j in range(width):
                                part[(tap * M + c0 + m) * K + k0 + j] += edge[m, j]
                    elif c + ROWS <= M:
                        multiply_tile(entries, used[tap], q1 - q0, stride_w * XC * 4, a_shift, panel, b_step,
                                      address(c_rows), c_shift, 1, 0)  # fmt: skip
                    else:
                        for m in range(ROWS):
                            last_rows[m] = c_rows[m] if c - c0 <= m and m < M - c0 else address(nowhere) - c_shift
                        multiply_tile(entries, used[tap], q1 - q0, stride_w * XC * 4, a_shift, panel, b_step,
                                      address(last_rows), c_shift, 1, 0)  # fmt: skip
    keep(table, packed, edge, nowhere, edge_rows, c_rows, last_rows)


@kernel
def filter_gradient_tiles(parts, dy, x, N, H, W, XC, M, P, Q, K, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w,
                          groups, splits, panel_jobs, block):  # fmt: skip
    """parts[i, r, s, c, k] = sum of x[n, p stride + r dilation - padding, c] dy[n, p, q, k] over a share of n, p, q.

    parts (splits, R*S*M*K) flat rows, M the channels of a group; x has XC floats a pixel. Parallel over shares of the
    rows of dy (their parts are added up later, in order) and over shares of the panels of k.
    """
    panels = groups * ((K // groups + COLUMNS - 1) // COLUMNS)
    for job in prange(splits * panel_jobs):
        i, o = job // panel_jobs, job % panel_jobs
        _gradient_job(parts[i], dy, x, N * P * i // splits, N * P * (i + 1) // splits, panels * o // panel_jobs,
                      panels * (o + 1) // panel_jobs, H, W, XC, M, P, Q, K, R, S, stride_h, stride_w, pad_h, pad_w,
                      dil_h, dil_w, groups, block)  # fmt: skip


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
