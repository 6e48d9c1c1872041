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
from .exponential import exponentials, row_sum

RUN = 4096  # pixels whose weights are summed by one thread: fixed, so that the sum repeats to the bit


def cross_entropy(logits, target, weight=None, ignore_index=255, reduction="mean", label_smoothing=0.0) -> Tensor:
    """-log softmax(logits)[target], weighted by class, over all pixels whose target is not ignore_index.

    reduction "mean" divides the sum by the counted pixels' weights (their number without `weight`), "sum" does not,
    "none" keeps each pixel (ignored: 0). Where every pixel is ignored loss and gradient are 0 (PyTorch's "mean": NaN).
    NaN logits give a NaN loss. label_smoothing: Szegedy et al. 2016, section 7.

    Shapes: logits (..., K) float, target (...) integer class ids, weight (K,) -> () or (...).
    Raises ValueError: shapes that do not fit; a class id outside [0, K) that is not ignore_index; an unknown reduction;
    a weight below 0; label_smoothing outside [0, 1]. TypeError: a target that is not of integers.

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
        target = self._on_device(self.target)
        self._check(x, target)
        weight = self._weights(x)
        K, M = x.shape[-1], target.size
        flat_target, ignore_index = self._as_int32(target, K)
        xp, scale = device.xp, 1.0
        counted = self._count(flat_target, weight, ignore_index, M, K, target)
        if self.reduction == "mean":
            scale = 1 / xp.where(counted > 0, counted, np.inf)
        loss = device.empty(target.shape, x.dtype)
        dx = device.empty(x.shape, x.dtype)  # without a gradient it is scratch for the exponentials
        smooth = self.label_smoothing / K * weight  # what each class weighs in every pixel
        scale_blur = device.empty(2, x.dtype)
        scale_blur[0], scale_blur[1] = scale, smooth.sum()
        flat_loss, flat_x = loss.reshape(M), x.reshape(M, K)
        arrays = flat_loss, dx.reshape(M, K), flat_x, flat_target, weight, smooth * scale_blur[0], scale_blur
        sharp = x.dtype.type(1 - self.label_smoothing)
        device.launch(cross_entropy_with_gradient, *arrays, sharp, ignore_index, M, K, max(2048 // K, 1))
        if self.label_smoothing:
            flat_loss -= xp.where(flat_target == ignore_index, 0, flat_x @ smooth)
        if any(self.needs):
            self.dx = dx
        return loss if self.reduction == "none" else xp.asarray(loss.sum(dtype=np.float64) * scale, x.dtype)

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
        K = x.shape[-1]
        if self.weight is None:
            return self.device.xp.ones(K, x.dtype)
        weight = self._on_device(self.weight)
        if weight.shape != (K,):
            raise ValueError(f"cross_entropy: weight has shape {weight.shape}, expected ({K},), one for each class")
        self.device.check(weight.min(), _negative)
        return self.device.xp.ascontiguousarray(weight, x.dtype)

    def _check(self, x, target):
        if target.dtype.kind not in "iu":
            raise TypeError(f"cross_entropy: target has dtype {target.dtype}, expected integer class ids as int32")
        K = x.shape[-1] if x.ndim else 0
        if not K or target.shape != x.shape[:-1]:
            raise ValueError(
                f"cross_entropy: logits {x.shape} need a target of shape {x.shape[:-1]}, got {target.shape}; "
                "logits are (N,H,W,K), the classes last"
            )

    def _as_int32(self, target, K):
        """The target for the kernels, flat, and its ignore_index. Wider integers are looked at before they are cut."""
        xp, ignored = self.device.xp, self.ignore_index
        flat = target.reshape(-1)
        if xp.can_cast(target.dtype, np.int32):
            return xp.ascontiguousarray(flat, np.int32), ignored
        no_class = (flat < 0) | (flat >= K)
        return xp.where(flat == ignored, -1, xp.where(no_class, -2, flat)).astype(np.int32), -1

    def _count(self, flat, weight, ignore_index, M, K, target):
        """The sum of the weights of the counted pixels. A class id that does not exist is a ValueError."""
        device, runs = self.device, -(-M // RUN)
        sums, bad = device.empty(runs, np.float64), device.empty(runs, np.int64)
        device.launch(count_targets, sums, bad, flat, weight, ignore_index, M, K, RUN)
        ignore_index = self.ignore_index

        def error(bad):
            m = int(bad.min(initial=M))
            if m == M:
                return None
            where = tuple(int(i) for i in np.unravel_index(m, target.shape))
            return ValueError(
                f"cross_entropy: target is {int(target[where])} at {where}, but logits have K = {K} classes: "
                f"0 to {K - 1} and ignore_index {ignore_index} are allowed; cure: more classes, or other masks "
                "(tinyseg check)"
            )

        device.check(bad, error)
        return sums.sum()


def _negative(least):
    return None if least >= 0 else ValueError(f"cross_entropy: weight holds {least}, expected numbers of at least 0")


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
def cross_entropy_with_gradient(loss, dx, x, target, weight, lean, scale_blur, sharp, ignore_index, M, K, run):
    """loss[m] = sharp w[t] (log sum exp x[m] - x[m,t]) + blur log sum exp x[m]; dx[m] = scale * its gradient - lean.

    scale_blur holds scale and blur. Parallel over runs of pixels, short enough to stay in the near cache.
    """
    scale, blur = scale_blur[0], scale_blur[1]
    for i in prange((M + run - 1) // run):
        begin, end = i * run, min(i * run + run, M)
        exponentials(dx, loss, x, begin, end, K)
        for m in range(begin, end):
            t = target[m]
            if t == ignore_index:
                loss[m] = 0
                for k in range(K):
                    dx[m, k] = 0
                continue
            total = row_sum(dx, m, K)
            log_total = loss[m] + loss.dtype.type(math.log(total))
            hard = sharp * weight[t]
            share = scale * (hard + blur) / total
            for k in range(K):
                dx[m, k] = dx[m, k] * share - lean[k]
            dx[m, t] -= scale * hard
            loss[m] = hard * (log_total - x[m, t]) + blur * log_total


@kernel
def scale_rows(dx, dy, step, M, K):
    """dx[m] *= dy[m * step], in place; nothing is touched where dy is one 1, as it is behind loss.backward().
    Parallel over pixels."""
    if step == 1 or dy[0] != 1:
        for m in prange(M):
            for k in range(K):
                dx[m, k] *= dy[m * step]
