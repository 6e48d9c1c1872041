"""Depth-wise convolution: each channel has its own filter (groups = C), so there is no sum over channels.

    y[n,p,q,c] = b[c] + sum_{r,s} w[r,s,0,c] x[n, p*stride + r*dilation - padding, q*stride + s*..., c]

Forward, and backward to x, are one gather with other numbers, as in `direct.py`: output pixel o sees by tap s the input
pixel (o * num + off + s * inc) / den, where that is whole and inside. Every `period`-th pixel of a row of outputs sees
the same taps but for those near the borders, and sees by one tap what its neighbour among them sees by another: they
are a chain, of which `channelwise.py` computes all pixels between the borders at once, and each near them by itself.
"""

import math

import numpy as np
from numba import prange

from ...kernel import device_function, kernel
from .channelwise import CHAIN, sum_products, weigh_rows
from .simd import address, keep

RUN = 4  # int64 numbers of a run of pixels: the first, how many, its first chain, and the first of the next run


@device_function
def _plan(OW, AW, S, num, den, off, inc):
    """(runs, chains, steps): what the pixels of any row of outputs see of a row of inputs.

    runs    (.., RUN): pixels that see by the same taps, all between the borders at once, each near them by itself
    chains  (.., CHAIN): the input that a run's first pixel sees by a chain's first tap, that tap, and how many follow
    steps   between the pixels of a run, the inputs that they see, and the taps of a chain; the last is negative where
            the later taps look further back
    """
    common = math.gcd(num * den, inc)
    o_step, x_step, tap_step = den * abs(inc) // common, num * abs(inc) // common, num * den // common
    runs, chains = np.empty((OW, RUN), np.int64), np.empty((OW * S, CHAIN), np.int64)
    used = known = 0
    for phase in range(min(o_step, OW)):
        columns = (OW - 1 - phase) // o_step + 1
        begin, end = 0, columns  # of the pixels between the borders: all of their taps are inside
        for s in range(S):
            at = phase * num + off + s * inc
            if at % den == 0:
                begin = max(begin, -(at // den // x_step))
                end = min(end, (AW - 1 - at // den) // x_step + 1)
        i = 0
        while i < columns:
            o, count = phase + i * o_step, end - begin if i == begin and end > begin else 1
            runs[used, 0], runs[used, 1], runs[used, 2] = o, count, known
            for start in range(min(tap_step, S)):
                taps = (S - 1 - start) // tap_step + 1
                s, sign = (start, 1) if inc > 0 else (start + (taps - 1) * tap_step, -1)
                at = o * num + off + s * inc
                if at % den == 0:
                    at //= den
                    first, behind = max(0, -(at // x_step)), min(taps, (AW - 1 - at) // x_step + 1)
                    if first < behind:
                        chains[known, 0], chains[known, 1] = at + first * x_step, s + sign * first * tap_step
                        chains[known, 2] = behind - first
                        known += 1
            runs[used, 3] = known
            used += 1
            i += count
    return runs[:used], chains, (o_step, x_step, tap_step if inc > 0 else -tap_step)


@device_function
def _look(rows, a, row, beside, OH, AH, AW, C, R, S, num, den, off, inc):
    """Write for each row of taps inside the image the row of a that a row of outputs (over all images) sees by it, and
    the first of its S rows in (R*S, C) `beside`: addresses. Returns how many there are."""
    pixel, seen = C * a.itemsize, 0
    for r in range(R):
        h = row % OH * num + off + r * inc
        if h >= 0 and h % den == 0 and h // den < AH:
            rows[seen, 0] = address(a) + (row // OH * AH + h // den) * AW * pixel
            rows[seen, 1] = beside + r * S * pixel
            seen += 1
    return seen


@device_function
def _enter(table, rows, chains, pixel):
    """Write the table of `channelwise.py`: each of the chains in each of the rows."""
    for i in range(len(rows)):
        for j in range(len(chains)):
            entry = i * len(chains) + j
            table[entry, 0] = rows[i, 0] + chains[j, 0] * pixel
            table[entry, 1] = rows[i, 1] + chains[j, 1] * pixel
            table[entry, 2] = chains[j, 2]
    return len(rows) * len(chains)


@device_function
def _gather_row(out, a, w, b, row, plan, AH, AW, C, OH, OW, R, S, num, den, off, inc):
    """One row of the outputs, counted over all images."""
    runs, chains, (o_step, x_step, tap_step) = plan
    pixel = C * a.itemsize
    rows, table = np.empty((R, 2), np.int64), np.empty((R * S, CHAIN), np.int64)
    seen = _look(rows, a, row, address(w), OH, AH, AW, C, R, S, num, den, off, inc)
    for first, count, begin, end in runs:
        entries = _enter(table, rows[:seen], chains[begin:end], pixel)
        weigh_rows(a, address(out) + (row * OW + first) * pixel, o_step * pixel, count, address(table), entries,
                   x_step * pixel, tap_step * pixel, address(b), C)  # fmt: skip
    keep(table)


@kernel
def depthwise_forward(y, x, w, b, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w):
    """The equation above. Parallel over the rows (n, p) of y."""
    plan = _plan(Q, W, S, stride_w, 1, -pad_w, dil_w)
    for row in prange(N * P):
        _gather_row(y, x, w, b, row, plan, H, W, C, P, Q, R, S, stride_h, 1, -pad_h, dil_h)


@kernel
def depthwise_backward_x(dx, dy, w, b, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w):
    """dx[n,h,w,c] = b[c] + sum_{r,s} w[r,s,0,c] dy[n,p,q,c] over the p, q that see (h, w). Parallel over rows of dx."""
    plan = _plan(W, Q, S, 1, stride_w, pad_w, -dil_w)
    for row in prange(N * H):
        _gather_row(dx, dy, w, b, row, plan, P, Q, C, H, W, R, S, 1, stride_h, pad_h, -dil_h)


@kernel
def depthwise_backward_w(parts, dy, x, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, splits):
    """parts[i, (r,s,c)] = the filters' gradient over the i-th share of the rows (n, p) of dy. Parallel over shares."""
    runs, chains, (q_step, x_step, tap_step) = _plan(Q, W, S, stride_w, 1, -pad_w, dil_w)
    pixel = C * x.itemsize
    for i in prange(splits):
        for j in range(R * S * C):
            parts[i, j] = 0
        rows, table = np.empty((R, 2), np.int64), np.empty((R * S, CHAIN), np.int64)
        for row in range(N * P * i // splits, N * P * (i + 1) // splits):
            seen = _look(rows, x, row, address(parts[i]), P, H, W, C, R, S, stride_h, 1, -pad_h, dil_h)
            for first, count, begin, end in runs:
                entries = _enter(table, rows[:seen], chains[begin:end], pixel)
                sum_products(x, address(dy) + (row * Q + first) * pixel, q_step * pixel, count, address(table), entries,
                             x_step * pixel, tap_step * pixel, C)  # fmt: skip
        keep(table)
