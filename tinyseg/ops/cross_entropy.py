"""Softmax and cross-entropy in one visit of the logits, with the gradient taken on the way.

    loss[m] = (1 - e) w[t] (-log p[t]) + e/K sum_k w[k] (-log p[k]),      p = softmax(x[m]),  t = target[m]
    dloss[m]/dx[k] = (1 - e) w[t] (p[k] - [k = t]) + e/K (p[k] sum_j w[j] - w[k])

over the pixels m whose target is not ignore_index; e is label_smoothing (Szegedy et al. 2016, section 7), w the class
weights. "mean" divides by the sum of w[t] over those pixels. Letters: m pixel, k class.
"""

import math

import numpy as np
from numba import prange

from ..kernel import kernel
from ..tensor import Function, Tensor
from .checks import floats
from .exponential import exp

RUN = 4096  # pixels whose weights are summed by one thread: fixed, so that the sum repeats to the bit


def cross_entropy(logits, target, weight=None, ignore_index=255, reduction="mean", label_smoothing=0.0) -> Tensor:
    """-log softmax(logits)[target], weighted by class, over all pixels whose target is not ignore_index.

    reduction "mean" divides the sum by the counted pixels' weights (their number without `weight`), "sum" does not,
    "none" keeps each pixel (ignored: 0). Where every pixel is ignored the loss is 0, and so is its gradient (PyTorch: NaN).
    NaN logits give a NaN loss. label_smoothing: Szegedy et al. 2016, section 7.

    Shapes: logits (..., K) float, target (...) integer class ids, weight (K,) -> () or (...).
    Raises ValueError: shapes that do not fit; a class id outside [0, K) that is not ignore_index; an unknown reduction;
    label_smoothing outside [0, 1]. TypeError: a target that is not of integers.

    Example:
        loss = ts.ops.cross_entropy(model(images), masks)
    """
    return CrossEntropy(target, weight, ignore_index, reduction, label_smoothing)(logits)


class CrossEntropy(Function):
    """loss = -sum_m w[t[m]] log softmax(x[m])[t[m]] / sum_m w[t[m]]"""

    def __init__(self, target, weight, ignore_index, reduction, label_smoothing):
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"cross_entropy: reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"cross_entropy: label_smoothing is {label_smoothing}, expected a number in [0, 1]")
        self.target, self.weight = target, weight
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def forward(self, x):
        device = self.device
        x = floats("cross_entropy", device, x, "logits")
        target, weight = self._on_device(self.target), self._weights(x)
        self._check(x, target, weight)
        K, M = x.shape[-1], target.size
        flat_target = device.xp.ascontiguousarray(target, np.int32).reshape(M)
        counted = self._count(flat_target, weight, M, K, target.shape)
        scale = (1 / counted if counted else 0.0) if self.reduction == "mean" else 1.0
        loss = device.empty(target.shape, x.dtype)
        self.dx = device.empty(x.shape if any(self.needs) else (0, K), x.dtype)
        numbers = (x.dtype.type(v) for v in (scale, 1 - self.label_smoothing, self.label_smoothing / K, float(weight.sum())))
        dx = self.dx.reshape(-1, K)
        device.launch(
            cross_entropy_with_gradient, loss.reshape(M), dx, x.reshape(M, K), flat_target, weight, *numbers,
            self.ignore_index, bool(len(dx)), M, K,
        )  # fmt: skip
        return loss if self.reduction == "none" else device.xp.asarray(loss.sum(dtype=np.float64) * scale, x.dtype)

    def backward(self, dy):
        K = self.dx.shape[-1]
        dy = self.device.xp.ascontiguousarray(dy).reshape(-1)
        self.device.launch(scale_rows, self.dx.reshape(-1, K), dy, int(self.reduction == "none"), self.dx.size // K, K)
        return self.dx

    def _on_device(self, array):
        if isinstance(array, Tensor):
            return array.data
        return array if isinstance(array, self.device.xp.ndarray) else self.device.array(array)

    def _weights(self, x):
        if self.weight is None:
            return self.device.xp.ones(x.shape[-1], x.dtype)
        return self.device.xp.ascontiguousarray(self._on_device(self.weight), x.dtype)

    def _check(self, x, target, weight):
        if target.dtype.kind not in "iu":
            raise TypeError(f"cross_entropy: target has dtype {target.dtype}, expected integer class ids; cure: .astype(np.int32)")
        K = x.shape[-1] if x.ndim else 0
        if not K or target.shape != x.shape[:-1]:
            raise ValueError(
                f"cross_entropy: logits {x.shape} need a target of shape {x.shape[:-1]}, got {target.shape}; "
                "logits are (N,H,W,K), the classes last"
            )
        if weight.shape != (K,):
            raise ValueError(f"cross_entropy: weight has shape {weight.shape}, expected ({K},), one for each class")

    def _count(self, target, weight, M, K, shape) -> float:
        """The sum of the weights of the counted pixels. Raises ValueError for a class id that does not exist."""
        runs = -(-M // RUN)
        sums, bad = self.device.empty(runs, np.float64), self.device.empty(runs, np.int64)
        self.device.launch(count_targets, sums, bad, target, weight, self.ignore_index, M, K, RUN)
        if M and int(bad.min()) < M:
            m = int(bad.min())
            where = tuple(int(i) for i in np.unravel_index(m, shape))
            raise ValueError(
                f"cross_entropy: target is {int(target[m])} at {where}, but logits have K = {K} classes, so that 0 to {K - 1} "
                f"are allowed, and ignore_index = {self.ignore_index}; cure: num_classes >= {int(target[m]) + 1}, or fix the masks"
            )
        return float(sums.sum())


@kernel
def count_targets(sums, bad, target, weight, ignore_index, M, K, run):
    """For each run of pixels the sum of its targets' weights, and the first target that is no class (M if none).
    Parallel over runs."""
    for i in prange((M + run - 1) // run):
        total, first_bad = 0.0, M
        for m in range(i * run, min((i + 1) * run, M)):
            t = target[m]
            if t == ignore_index:
                continue
            if t < 0 or t >= K:
                first_bad = min(first_bad, m)
            else:
                total += weight[t]
        sums[i], bad[i] = total, first_bad


@kernel
def cross_entropy_with_gradient(
    loss, dx, x, target, weight, scale, sharp, smooth, weight_sum, ignore_index, with_gradient, M, K
):
    """loss[m], and scale * dloss[m]/dx[m] if asked for. Parallel over pixels."""
    for m in prange(M):
        t = target[m]
        if t == ignore_index:
            loss[m] = 0
            if with_gradient:
                for k in range(K):
                    dx[m, k] = 0
            continue
        highest = x[m, 0]
        for k in range(1, K):
            highest = max(highest, x[m, k])
        total = x.dtype.type(0)
        if with_gradient:
            for k in range(K):
                dx[m, k] = exp(x[m, k] - highest)
            for k in range(K):
                total += dx[m, k]
        else:
            for k in range(K):
                total += exp(x[m, k] - highest)
        log_total = x.dtype.type(math.log(total)) + highest
        value = sharp * weight[t] * (log_total - x[m, t])
        if smooth > 0:
            for k in range(K):
                value += smooth * weight[k] * (log_total - x[m, k])
        loss[m] = value
        if with_gradient:
            share = scale * (sharp * weight[t] + smooth * weight_sum) / total
            for k in range(K):
                dx[m, k] *= share
            dx[m, t] -= scale * sharp * weight[t]
            if smooth > 0:
                for k in range(K):
                    dx[m, k] -= scale * smooth * weight[k]


@kernel
def scale_rows(dx, dy, step, M, K):
    """dx[m] *= dy[m * step], in place; nothing is touched where dy is one 1, as it is behind loss.backward().
    Parallel over pixels."""
    if step == 1 or dy[0] != 1:
        for m in prange(M):
            for k in range(K):
                dx[m, k] *= dy[m * step]
