"""Resizing: nearest and bilinear, and their exact adjoints.

    y[n,p,q,c] = sum_h A[p,h] sum_w B[q,w] x[n,h,w,c]

A and B have one or two neighbouring weights in each row, so the resize is two passes, along columns and along rows, of
one kernel that reads a table of runs: which inputs, with which weights. The gradient is the same kernel with the tables
of A' and B'; nothing is scattered. The pass that makes the map larger comes last, the one that makes it smaller first.
Letters: n image, c channel, (h,w) input pixel, (p,q) output pixel.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import prange

from ..kernel import kernel
from ..tensor import Function, Tensor
from .checks import image, pair

BLOCK = 2048  # values of a row of y that stay in the nearest cache while a long run passes over them


def interpolate(x, size=None, scale_factor=None, mode="bilinear", align_corners=False) -> Tensor:
    """x resized to `size` (H,W), or by `scale_factor`: one number or (vertical, horizontal).

    Output p looks at source = (p + 1/2) H/P - 1/2, or p (H-1)/(P-1) with align_corners: "bilinear" weighs its two
    neighbours, clamped at the border. "nearest" takes floor(p H/P), in exact arithmetic. With scale_factor H/P is
    1/scale_factor also where the size was rounded down, as in PyTorch.

    Shapes: x (N,H,W,C) float -> (N,P,Q,C).
    Raises ValueError: not (N,H,W,C); not exactly one of size and scale_factor, or a result without pixels; an unknown
    mode; align_corners with "nearest".

    Example:
        logits = ts.ops.interpolate(logits, size=image.shape[1:3])
    """
    return Interpolate(size, scale_factor, mode, align_corners)(x)


class Interpolate(Function):
    """y[n,p,q,c] = sum_h A[p,h] sum_w B[q,w] x[n,h,w,c]"""

    takes_half = "alone"

    def __init__(self, size, scale_factor, mode, align_corners):
        if mode not in ("bilinear", "nearest"):
            raise ValueError(f"interpolate: mode is {mode!r}, expected 'bilinear' or 'nearest'")
        if mode == "nearest" and align_corners:
            raise ValueError("interpolate: align_corners has no meaning for mode 'nearest'; cure: leave it out")
        if (size is None) == (scale_factor is None):
            raise ValueError(f"interpolate: size {size}, scale_factor {scale_factor}: expected exactly one of the two")
        if scale_factor is not None:
            scale_factor = scale_factor if isinstance(scale_factor, tuple | list) else (scale_factor, scale_factor)
            if len(scale_factor) != 2 or not all(f > 0 for f in scale_factor):
                raise ValueError(f"interpolate: scale_factor is {scale_factor}, expected one or two positive numbers")
        self.size = None if size is None else pair("interpolate", "size", size, 1)
        self.factors = scale_factor or (None, None)
        self.mode, self.align_corners = mode, align_corners

    def forward(self, x):
        x = image("interpolate", self.device, x)
        N, H, W, C = x.shape
        P, Q = self.size or (int(H * self.factors[0]), int(W * self.factors[1]))
        if not H * W * P * Q:
            raise ValueError(f"interpolate: cannot make {P} x {Q} pixels of x {x.shape}")
        how = self.mode, self.align_corners
        self.rows, self.columns = Runs.of(H, P, self.factors[0], *how), Runs.of(W, Q, self.factors[1], *how)
        return _resample_image(self.device, x, self.rows, self.columns)

    def backward(self, dy):
        dy = self.device.xp.ascontiguousarray(dy)
        return _resample_image(self.device, dy, self.rows.transposed, self.columns.transposed)


@dataclass(frozen=True, eq=False)
class Runs:
    """A sparse matrix with one run of neighbouring weights in each row.

    Row p weighs inputs first[p], first[p] + 1, ... by weight[start[p]:start[p + 1]].
    """

    inputs: int
    first: np.ndarray  # (P,) int32
    start: np.ndarray  # (P + 1,) int32
    weight: np.ndarray  # float64
    transposed: "Runs | None" = None

    @property
    def outputs(self) -> int:
        return len(self.first)

    @staticmethod
    @lru_cache(maxsize=256)
    def of(inputs: int, outputs: int, factor: float | None, mode: str, align_corners: bool) -> "Runs":
        """The matrix A of one axis, with its transpose."""
        p = np.arange(outputs)
        if mode == "nearest":
            low = p * inputs // outputs if factor is None else np.floor(p / factor).astype(np.int64)
            low = high = np.minimum(low, inputs - 1)
            share = np.zeros(outputs)
        else:
            if align_corners:
                source = p * ((inputs - 1) / max(outputs - 1, 1))
            else:
                source = np.maximum((p + 0.5) * (inputs / outputs if factor is None else 1 / factor) - 0.5, 0)
            low = np.minimum(np.floor(source).astype(np.int64), inputs - 1)
            high = np.minimum(low + 1, inputs - 1)
            share = source - low
        two = (high > low) & (share > 0)
        row = np.concatenate([p, p[two]])
        column = np.concatenate([low, high[two]])
        weight = np.concatenate([np.where(two, 1 - share, 1), share[two]])
        transposed = Runs._from_triplets(column, row, weight, inputs, outputs)
        return Runs._from_triplets(row, column, weight, outputs, inputs, transposed)

    @staticmethod
    def _from_triplets(row, column, weight, rows, columns, transposed=None) -> "Runs":
        order = np.lexsort((column, row))
        row, column, weight = row[order], column[order], weight[order]
        start = np.searchsorted(row, np.arange(rows + 1)).astype(np.int32)
        first = np.zeros(rows, np.int32)
        some = start[:-1] < start[1:]
        first[some] = column[start[:-1][some]]
        return Runs(columns, first, start, weight, transposed)


def _resample_image(device, x, rows: Runs, columns: Runs):
    """Both passes, in the order that keeps the map between them small."""
    N, H, W, C = x.shape
    P, Q = rows.outputs, columns.outputs
    if (H * Q, W) < (P * W, Q):  # of equal maps, the pass that enlarges comes last along rows
        x = _resample(device, x.reshape(N * H, W, C), columns)
        return _resample(device, x.reshape(N, H, Q * C), rows).reshape(N, P, Q, C)
    x = _resample(device, x.reshape(N, H, W * C), rows)
    return _resample(device, x.reshape(N * P, W, C), columns).reshape(N, P, Q, C)


def _resample(device, x, runs: Runs):
    """Along the middle axis of (A, X, I)."""
    A, X, I = x.shape
    y = device.empty((A, runs.outputs, I), x.dtype)
    tables = _tables(device, runs, x.dtype)
    device.launch(resample, y, x, *tables, A, X, I, runs.outputs, max(1, 4 * BLOCK // max(I, 1)))
    return y


@lru_cache(maxsize=256)
def _tables(device, runs: Runs, dtype):
    """first, start and weight on a device, copied there once."""
    return device.array(runs.first), device.array(runs.start), device.array(runs.weight, dtype)


@kernel
def resample(y, x, first, start, weight, A, X, I, P, stripe):
    """y[a,p,i] = sum_j weight[start[p] + j] x[a, first[p] + j, i]. Parallel over a and stripes of p."""
    stripes = (P + stripe - 1) // stripe
    for task in prange(A * stripes):
        a, p_first = task // stripes, task % stripes * stripe
        for p in range(p_first, min(p_first + stripe, P)):
            t, taps, source = start[p], start[p + 1] - start[p], first[p]
            for begin in range(0, I, BLOCK):
                end = min(begin + BLOCK, I)
                out = y[a, p, begin:end]
                if taps == 0:
                    for i in range(len(out)):
                        out[i] = 0
                elif taps % 2 == 1:
                    w0, x0 = weight[t], x[a, source, begin:end]
                    for i in range(len(out)):
                        out[i] = w0 * x0[i]
                else:
                    w0, w1 = weight[t], weight[t + 1]
                    x0, x1 = x[a, source, begin:end], x[a, source + 1, begin:end]
                    for i in range(len(out)):
                        out[i] = w0 * x0[i] + w1 * x1[i]
                for j in range(2 - taps % 2, taps, 2):
                    w0, w1 = weight[t + j], weight[t + j + 1]
                    x0, x1 = x[a, source + j, begin:end], x[a, source + j + 1, begin:end]
                    for i in range(len(out)):
                        out[i] += w0 * x0[i] + w1 * x1[i]
