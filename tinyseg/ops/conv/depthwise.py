"""Depth-wise convolution: each channel has its own filter (groups = C), so there is no sum over channels.

    y[n,p,q,c] = b[c] + sum_{r,s} w[r,s,0,c] x[n, p*stride + r*dilation - padding, q*stride + s*..., c]

Forward, and backward to x, are one gather with other numbers, as in `direct.py`: output pixel o sees by tap s the input
pixel (o * num + off + s * inc) / den, where that is whole and inside. Every `period`-th pixel of a row of outputs sees
the same taps but for those near the borders, and sees by one tap what its neighbour among them sees by another: they
are a chain. `channelwise.py` computes at once a run of pixels that see by the same taps: all between the borders.
"""

import math

import numpy as np
from numba import prange

from ...kernel import device_function, kernel
from .channelwise import CHAIN, TAPS, sum_products, weigh_rows
from .simd import address, keep

ROWS = 8  # of outputs that share what has to be allocated for one
RUN = 4  # int64 numbers of a run of pixels: the first, how many, its first chain, and the first of the next run


@device_function
def _plan(OW, AW, S, num, den, off, inc):
    """(runs, chains, steps): what the pixels of any row of outputs see of a row of inputs.

    runs    (.., RUN): pixels that see by the same taps
    chains  (.., CHAIN): the input that a run's first pixel sees by a chain's first tap, that tap, and how many taps
    steps   between the pixels of a run, the inputs that they see, and the taps of a chain; the last is negative where
            the later taps look further back
    """
    common = math.gcd(num * den, inc)
    o_step, x_step, tap_step = den * abs(inc) // common, num * abs(inc) // common, num * den // common
    runs, chains = np.empty((OW, RUN), np.int64), np.empty((OW * S, CHAIN), np.int64)
    used = known = 0
    for phase in range(min(o_step, OW)):
        o = phase
        while o < OW:
            first, count = known, (OW - 1 - o) // o_step + 1  # of the pixels that see what o sees
            for start in range(min(tap_step, S)):
                taps = (S - 1 - start) // tap_step + 1
                s, sign = (start, 1) if inc > 0 else (start + (taps - 1) * tap_step, -1)
                at = o * num + off + s * inc
                if at % den == 0:
                    at //= den
                    enter, leave = -(at // x_step), (AW - 1 - at) // x_step + 1  # the first tap inside, and behind
                    t, behind = max(0, enter), min(taps, leave)
                    if t < behind:
                        count = min(count, leave - taps if enter <= 0 and leave > taps else 1)
                    elif enter >= taps:
                        count = min(count, enter - taps + 1)
                    while t < behind:
                        chains[known, 0], chains[known, 1] = at + t * x_step, s + sign * t * tap_step
                        chains[known, 2] = min(TAPS, behind - t)
                        known, t = known + 1, t + TAPS
            runs[used, 0], runs[used, 1], runs[used, 2], runs[used, 3] = o, count, first, known
            used, o = used + 1, o + count * o_step
    return runs[:used], chains, (o_step, x_step, tap_step if inc > 0 else -tap_step)


@device_function
def _look(rows, a, row, beside, OH, AH, AW, C, R, S, num, den, off, inc):
    """Write for each row of taps inside the image the row of a that a row of outputs (over all images) sees by it, and
    the first of its S rows in (R*S, C) `beside`: addresses, downwards. Returns how many there are."""
    pixel, seen = C * a.itemsize, 0
    for i in range(R):
        r = i if inc > 0 else R - 1 - i
        h = row % OH * num + off + r * inc
        if h >= 0 and h % den == 0 and h // den < AH:
            rows[seen, 0] = address(a) + (row // OH * AH + h // den) * AW * pixel
            rows[seen, 1] = beside + r * S * pixel
            seen += 1
    return seen


@device_function
def _enter(table, rows, seen, chains, begin, end, pixel):
    """Write the table of `channelwise.py`: the chains of a run in each of the rows seen. Returns how many there are."""
    entry = 0
    for i in range(seen):
        for j in range(begin, end):
            table[entry, 0] = rows[i, 0] + chains[j, 0] * pixel
            table[entry, 1] = rows[i, 1] + chains[j, 1] * pixel
            table[entry, 2] = chains[j, 2]
            entry += 1
    return entry


@device_function
def _gather_rows(out, a, w, b, begin, end, plan, AH, AW, C, OH, OW, R, S, num, den, off, inc):
    """The outputs' rows from `begin` to `end`, counted over all images."""
    runs, chains, (o_step, x_step, tap_step) = plan
    pixel = C * a.itemsize
    rows, table = np.empty((R, 2), np.int64), np.empty((R * S, CHAIN), np.int64)
    for row in range(begin, end):
        seen = _look(rows, a, row, address(w), OH, AH, AW, C, R, S, num, den, off, inc)
        for i in range(len(runs)):
            entries = _enter(table, rows, seen, chains, runs[i, 2], runs[i, 3], pixel)
            weigh_rows(a, address(out) + (row * OW + runs[i, 0]) * pixel, o_step * pixel, runs[i, 1], address(table),
                       entries, x_step * pixel, tap_step * pixel, address(b), C)  # fmt: skip
    keep(table)


@kernel
def depthwise_forward(y, x, w, b, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w):
    """The equation above. Parallel over the rows (n, p) of y."""
    plan = _plan(Q, W, S, stride_w, 1, -pad_w, dil_w)
    for i in prange((N * P + ROWS - 1) // ROWS):
        _gather_rows(y, x, w, b, i * ROWS, min((i + 1) * ROWS, N * P), plan, H, W, C, P, Q, R, S, stride_h, 1,
                     -pad_h, dil_h)  # fmt: skip


@kernel
def depthwise_backward_x(dx, dy, w, b, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w):
    """dx[n,h,w,c] = b[c] + sum_{r,s} w[r,s,0,c] dy[n,p,q,c] over the p, q that see (h, w). Parallel over rows of dx."""
    plan = _plan(W, Q, S, 1, stride_w, pad_w, -dil_w)
    for i in prange((N * H + ROWS - 1) // ROWS):
        _gather_rows(dx, dy, w, b, i * ROWS, min((i + 1) * ROWS, N * H), plan, P, Q, C, H, W, R, S, 1,
                     stride_h, pad_h, -dil_h)  # fmt: skip


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
            for j in range(len(runs)):
                entries = _enter(table, rows, seen, chains, runs[j, 2], runs[j, 3], pixel)
                sum_products(x, address(dy) + (row * Q + runs[j, 0]) * pixel, q_step * pixel, runs[j, 1],
                             address(table), entries, x_step * pixel, tap_step * pixel, C)  # fmt: skip
        keep(table)
