"""Batch normalisation, alone and fused with the ReLU behind it.

    y[m,c] = (x[m,c] - mean[c]) / sqrt(var[c] + eps) * weight[c] + bias[c] = x[m,c] * scale[c] + shift[c]

over the m = 1..M pixels of a batch, M = N H W. In training mean and variance are the batch's (and the running ones
follow), else the running ones. Ioffe & Szegedy, "Batch Normalization", 2015, algorithms 1 and 2.

Statistics are taken in runs of pixels (`statistics.py`), by a kernel of this file or by the convolution in front.
The fused form saves x alone: backward finds the sign of y again from x, scale and shift.
"""

import numpy as np
from numba import prange

from ..kernel import kernel
from ..tensor import Function, Tensor
from .checks import floats, wide
from .prefetch import prefetch
from .statistics import RUN, Runs, merge

WIDE = 512  # fewer channels than this: several pixels make one row, so that loops are long
AHEAD = 2  # how many rows before it reads several arrays a kernel asks the memory for them


def batch_norm(x, running_mean, running_var, weight, bias, training, momentum=0.1, eps=1e-5) -> Tensor:
    """Each channel brought to mean `bias` and standard deviation `weight`.

    In training by the batch's own statistics, and running <- (1 - momentum) running + momentum batch, in place, with
    the unbiased variance; else by the running ones (frozen). weight, bias and, in training, the running ones may be
    None. Ioffe & Szegedy 2015.

    Shapes: x (..., C) float, the others (C,) -> like x. The running ones are Tensors or arrays on x's device.
    Raises ValueError: a shape that is not (C,); fewer than two values a channel in training; no running ones outside.

    Example:
        y = ts.ops.batch_norm(x, mean, var, weight, bias, training=True)
    """
    function = BatchNorm("batch_norm", running_mean, running_var, training, momentum, eps, relu=False)
    return function(x, 1.0 if weight is None else weight, 0.0 if bias is None else bias)


def batch_norm_relu(x, running_mean, running_var, weight, bias, training, momentum=0.1, eps=1e-5) -> Tensor:
    """relu(batch_norm(...)) in the time and memory of one of them. Arguments, shapes and errors: see `batch_norm`."""
    function = BatchNorm("batch_norm_relu", running_mean, running_var, training, momentum, eps, relu=True)
    return function(x, 1.0 if weight is None else weight, 0.0 if bias is None else bias)


class BatchNorm(Function):
    """y = x * scale + shift, scale = weight / sqrt(var + eps), shift = bias - mean * scale; with relu max(y, 0)"""

    takes_half = "mixed"

    def __init__(self, op, running_mean, running_var, training, momentum, eps, relu, runs: Runs | None = None):
        self.op, self.runs = op, runs  # runs: statistics of x, where they are known already
        self.running_mean = running_mean.data if isinstance(running_mean, Tensor) else running_mean
        self.running_var = running_var.data if isinstance(running_var, Tensor) else running_var
        self.training, self.momentum, self.eps, self.relu = training, momentum, eps, relu

    def forward(self, x, weight, bias):
        x = self.prepared(x, weight, bias)
        y = self.device.empty(x.shape, x.dtype)
        lowest = wide(x.dtype).type(0 if self.relu else -np.inf)
        _, *scale_shift = self.mean_scale_shift
        self.device.launch(
            scale_and_shift, y.reshape(self.rows.shape), self.rows, *scale_shift, lowest, *self.rows.shape
        )
        return y

    def backward(self, dy):
        x, (mean, *sign) = self.rows, self.mean_scale_shift
        shape, dy = dy.shape, self.device.xp.ascontiguousarray(dy).reshape(x.shape)
        if not self.relu:
            sign = self._table(0.0, 1.0)
        sums = None
        if self.training or any(self.needs[1:]):
            sums = self.device.empty((2, -(-len(x) // RUN), x.shape[1]), wide(x.dtype))
            self.device.launch(gradient_sums, sums[0], sums[1], dy, x, mean, *sign, *x.shape, RUN)
        dx, dweight, dbias = self.gradients(dy, sums, sign)
        return None if dx is None else dx.reshape(shape), dweight, dbias

    def prepared(self, x, weight, bias):
        """x, checked; mean, scale and shift of each channel are then known."""
        x = floats(self.op, self.device, x)
        self._check(x, weight, bias)
        self.rows = _rows(x)
        mean, var = self._batch_statistics() if self.training else (self.running_mean, self.running_var)
        self.inverse = 1 / self.device.xp.sqrt(var.astype(np.float64) + self.eps)
        self.factor = weight * self.inverse
        self.mean_scale_shift = self._table(mean, self.factor, bias - mean * self.factor)
        return x

    def gradients(self, dy, sums, sign):
        """dx, dweight and dbias of dy where x * sign[0] + sign[1] > 0, and of the sums of dy and dy (x - mean)."""
        x, C, (mean, *_) = self.rows, self.channels, self.mean_scale_shift
        dx = dweight = dbias = None
        if sums is not None:
            dbias, about_mean = sums.reshape(2, -1, C).sum(1, dtype=np.float64)
            dweight = about_mean * self.inverse
        if self.needs[0]:
            slope, level = 0.0, 0.0
            if self.training:  # mean and variance follow x
                share = -self.factor * (C / x.size)
                slope, level = share * self.inverse * dweight, share * dbias
            dx = self.device.empty(x.shape, x.dtype)
            factors = self._table(self.factor, slope, level)
            self.device.launch(gradient_of_rows, dx, dy, x, mean, *sign, *factors, *x.shape)
        return dx, *(g.astype(wide(x.dtype)) if need else None for g, need in zip((dweight, dbias), self.needs[1:3]))

    def _batch_statistics(self):
        """Mean and variance (biased) of each channel in float64; the running ones follow."""
        pixels = self.rows.size // self.channels
        mean, var = merge(self.runs or self._runs())
        self.runs = None
        if self.running_mean is not None:
            xp = self.device.xp
            for running, batch in ((self.running_mean, mean), (self.running_var, var * (pixels / (pixels - 1)))):
                move = self.momentum * (batch - running)
                if self.rows.dtype == np.float16:  # a step that overflows is skipped: it must leave nothing here
                    move = xp.where(xp.isfinite(move), move, 0)
                running += move
        return mean, var

    def _runs(self) -> Runs:
        xp, x, C = self.device.xp, self.rows, self.channels
        count = -(-len(x) // RUN)
        means, deviations = self.device.empty((2, count, x.shape[1]), wide(x.dtype))
        self.device.launch(run_statistics, means, deviations, x, *x.shape, RUN)
        counts = xp.full(count, RUN)
        counts[-1] = len(x) - (count - 1) * RUN
        return Runs(means.reshape(-1, C), deviations.reshape(-1, C), xp.repeat(counts, x.shape[1] // C))

    def _table(self, *values):
        """For each of `values`, one number a channel or one for all, a row as wide as x's rows; at least float32."""
        table = self.device.empty((len(values), self.rows.shape[1]), wide(self.rows.dtype))
        for row, value in zip(table.reshape(len(values), -1, self.channels), values):
            row[...] = value
        return table

    def _check(self, x, weight, bias):
        self.channels = C = x.shape[-1] if x.ndim else 0
        given = dict(weight=weight, bias=bias, running_mean=self.running_mean, running_var=self.running_var)
        if x.ndim < 2 or any(v is not None and v.shape not in ((C,), ()) for v in given.values()):
            shapes = ", ".join(f"{name} {v.shape}" for name, v in given.items() if v is not None)
            raise ValueError(f"{self.op}: x {x.shape} has {C} channels, but got {shapes}; expected ({C},) each")
        for (name, v), need in zip((("weight", weight), ("bias", bias)), self.needs[1:]):
            if need and v.shape != (C,):
                raise ValueError(f"{self.op}: {name} is one number that requires a gradient; expected shape ({C},)")
            if v.dtype != wide(x.dtype):
                raise TypeError(f"{self.op}: {name} has dtype {v.dtype}, x {x.dtype}; cure: {name}.astype({x.dtype})")
        if (self.running_mean is None) != (self.running_var is None):
            raise ValueError(f"{self.op}: running_mean and running_var: one is None; expected both or neither")
        if not self.training and (self.running_mean is None or self.running_var is None):
            raise ValueError(f"{self.op}: outside training it needs running_mean and running_var; got None")
        if self.training and x.size <= C:
            raise ValueError(
                f"{self.op}: training needs at least 2 values for each channel, x {x.shape} has {x.size // max(C, 1)}; "
                "cure: a larger batch (behind a global pool each image is one value), a larger crop, or model.eval()"
            )


def _rows(x):
    """x as (M, C), or with few channels as (M / t, t C): t pixels side by side."""
    pixels, side_by_side = x.size // max(x.shape[-1], 1), 1
    while side_by_side * x.shape[-1] < WIDE and pixels and pixels % (2 * side_by_side) == 0:
        side_by_side *= 2
    return x.reshape(pixels // side_by_side, side_by_side * x.shape[-1])


@kernel
def run_statistics(mean, deviation, x, M, C, run):
    """Of each run of rows the mean and the sum of squared deviations from it. Parallel over runs."""
    zero = x.dtype.type(0)
    for i in prange((M + run - 1) // run):
        begin, end = i * run, min(i * run + run, M)
        for c in range(C):
            mean[i, c], deviation[i, c] = zero, zero
        for m in range(begin, end):
            for c in range(C):
                d = x[m, c] - x[begin, c]
                mean[i, c] += d
                deviation[i, c] += d * d
        share = x.dtype.type(1.0 / (end - begin))
        for c in range(C):
            d = mean[i, c] * share
            deviation[i, c] = max(deviation[i, c] - mean[i, c] * d, zero)
            mean[i, c] = x[begin, c] + d


@kernel
def scale_and_shift(y, x, scale, shift, lowest, M, C):
    """y = max(x * scale + shift, lowest). Parallel over rows."""
    for m in prange(M):
        for c in range(C):
            v = x[m, c] * scale[c] + shift[c]
            y[m, c] = lowest if v < lowest else v  # NaN stays NaN


@kernel
def gradient_sums(sum_dy, sum_dyx, dy, x, mean, scale, shift, M, C, run):
    """Of each run of rows the sums of dy and dy (x - mean), where x * scale + shift > 0. Parallel over runs."""
    zero = x.dtype.type(0)  # a plain 0 is an int64, and beside a float32 makes a float64
    for i in prange((M + run - 1) // run):
        for c in range(C):
            sum_dy[i, c], sum_dyx[i, c] = zero, zero
        for m in range(i * run, min(i * run + run, M)):
            prefetch(dy, (m + AHEAD) * C, C)
            prefetch(x, (m + AHEAD) * C, C)
            for c in range(C):
                g = dy[m, c]  # loaded before it is chosen: only so does the choice become a vector instruction
                g = zero if x[m, c] * scale[c] + shift[c] <= zero else g
                sum_dy[i, c] += g
                sum_dyx[i, c] += g * (x[m, c] - mean[c])


@kernel
def gradient_of_rows(dx, dy, x, mean, scale, shift, factor, slope, level, M, C):
    """dx = factor dy + slope (x - mean) + level, dy only where x * scale + shift > 0. Parallel over rows."""
    zero = x.dtype.type(0)
    for m in prange(M):
        for c in range(C):
            g = dy[m, c]
            g = zero if x[m, c] * scale[c] + shift[c] <= zero else g
            dx[m, c] = factor[c] * g + slope[c] * (x[m, c] - mean[c]) + level[c]
