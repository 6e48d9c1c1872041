"""Losses for masks that are known at every pixel.

Each takes logits (N,H,W,K) and class ids (N,H,W), 255 = ignore, and returns a scalar. A pixel i counts with

    u_i = 0 if it is ignored, else  weight[class of i] * pixel_weight[i]        (1 where they are not given)

and the mean over pixels is  sum_i u_i loss_i / sum_i u_i.  Where nothing counts every loss is 0 and so is its gradient.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from .. import ops
from ..tensor import Function, Tensor

Weights = Sequence[float] | np.ndarray | Tensor | None
Ids = np.ndarray | Tensor
TINY = 1e-12  # a sum of weights under it is nobody's: the loss is 0


def cross_entropy(
    logits: Tensor,
    target: Ids,
    *,
    ignore_index: int = 255,
    weight: Weights = None,
    pixel_weight: Weights = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean of -log softmax(logits)[target], one weight a class and one a pixel (U-Net's border weights).

    Shapes: logits (N,H,W,K) float, target (N,H,W) int32, weight (K,), pixel_weight (N,H,W) -> ().
    Raises ValueError for shapes that do not fit, class ids outside of 0 ... K-1, and weights below 0.

    Example:
        loss = ts.losses.cross_entropy(model(x), mask, pixel_weight=ts.losses.unet_border_weights(cells)[None])
    """
    _check_single("cross_entropy", logits)
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
    if pixel_weight is None:  # one kernel does it all
        return ops.cross_entropy(logits, target, weight, **options)
    target, u = _counted("cross_entropy", logits, target, ignore_index, weight, pixel_weight)
    each = ops.cross_entropy(logits, target, weight, reduction="none", **options)
    return ops.sum(each * constant(pixel_weight, logits)) / max(float(u.sum()), TINY)


def focal(
    logits: Tensor,
    target: Ids,
    *,
    gamma: float = 2.0,
    ignore_index: int = 255,
    weight: Weights = None,
    pixel_weight: Weights = None,
) -> Tensor:
    """Cross-entropy that attends to pixels which are still wrong: mean of -(1-p)^gamma log p, p = softmax[target].

    `weight` is the paper's alpha, and the mean is over pixels (the paper divides by its positive anchors);
    gamma = 0 is cross_entropy. Lin et al., ICCV 2017.

    Shapes and errors: see `cross_entropy`.
    """
    if gamma < 0:
        raise ValueError(f"focal: gamma is {gamma}, expected a number >= 0")
    target, u = _counted("focal", logits, target, ignore_index, weight, pixel_weight)
    each = ops.cross_entropy(logits, target, ignore_index=ignore_index, reduction="none")
    return _mean(Focus(gamma)(each), u)


class Focus(Function):
    """y = (1-p)^gamma l,  l = -log p;   dy/dl = (1-p)^gamma (1 + gamma p l / (1-p)),  where l / (1-p) -> 1 as l -> 0"""

    def __init__(self, gamma):
        self.gamma = gamma

    def forward(self, l):
        xp = self.device.xp
        self.l = l
        self.rest = -xp.expm1(-l)  # 1 - p, without the rounding of p near 1
        return self.rest**self.gamma * l

    def backward(self, dy):
        ratio = self.l / self.device.xp.where(self.rest > 0, self.rest, 1)
        ratio[self.rest <= 0] = 1
        return dy * self.rest**self.gamma * (1 + self.gamma * (1 - self.rest) * ratio)


def binary_cross_entropy(
    logits: Tensor,
    target: Ids,
    *,
    ignore_index: int = 255,
    weight: Weights = None,
    pixel_weight: Weights = None,
) -> Tensor:
    """One logit for yes against no: mean of -log sigmoid(x) where the target is 1, of -log sigmoid(-x) where it is 0.

    The same number as cross_entropy of the two logits (0, x). With K channels these are K questions, each with a
    target of its own. Both are softplus(-+x) = log(1 + exp(-+x)), which is stable for any x.

    Shapes: logits (N,H,W,1), target (N,H,W) of 0, 1 and ignore; or logits (N,H,W,K), target (N,H,W,K).
    weight: (2,), for 0 and for 1; pixel_weight like target.
    Raises ValueError for shapes that do not fit and for other target values.
    """
    if logits.shape[-1:] == (1,) and len(np.shape(target)) == logits.ndim - 1:
        logits = logits.reshape(logits.shape[:-1])
    target, u = _counted("binary_cross_entropy", logits, target, ignore_index, weight, pixel_weight, classes=2)
    sign = 1 - 2 * (target == 1).astype(logits.dtype)
    return _mean(ops.softplus(_where_counted(logits, u) * Tensor(sign, logits.device)), u)


def dice(
    logits: Tensor,
    target: Ids,
    *,
    smooth: float = 1.0,
    ignore_index: int = 255,
    weight: Weights = None,
    pixel_weight: Weights = None,
) -> Tensor:
    """1 - Dice overlap of softmax p and one-hot target t, over the batch, averaged over the classes that occur in it.

        D_c = (2 sum_i u_i p_ic t_ic + smooth) / (sum_i u_i (p_ic + t_ic) + smooth)
        loss = sum_c w_c (1 - D_c) / sum_c w_c

    Here `weight` w weighs classes, not pixels. Milletari et al. 2016 (V-Net), without its squares.

    Shapes and errors: see `cross_entropy`.
    """
    target, u = _counted("dice", logits, target, ignore_index, None, pixel_weight)
    t = _one_hot(logits, target, u)
    w = _class_shares("dice", logits, t, weight)
    logits = _where_counted(logits, u[..., None])
    t, u, w = (Tensor(array, logits.device) for array in (t, u[..., None], w))
    pixels = tuple(range(logits.ndim - 1))
    p = ops.softmax(logits) * u
    overlap = (2 * ops.sum(p * t, axis=pixels) + smooth) / (ops.sum(p + t * u, axis=pixels) + smooth)
    return ops.sum((1 - overlap) * w)


def lovasz_softmax(
    logits: Tensor,
    target: Ids,
    *,
    ignore_index: int = 255,
    weight: Weights = None,
) -> Tensor:
    """The convex extension of the Jaccard loss 1 - IoU, over the batch, averaged over the classes that occur in it.

        loss_c = sum_i m_(i) g_i,   m_(1) >= m_(2) >= ... the errors |t_ic - p_ic| in order,
        g_i = J_i - J_(i-1),   J_i = the Jaccard loss if the pixels (1) ... (i) are wrong and the others right

    `weight` weighs classes, not pixels. Berman, Triki & Blaschko, CVPR 2018.

    Shapes and errors: see `cross_entropy` (without pixel_weight).
    """
    target, u = _counted("lovasz_softmax", logits, target, ignore_index, None, None)
    t = _one_hot(logits, target, u)
    w = _class_shares("lovasz_softmax", logits, t, weight)
    return Lovasz(t, u, w)(ops.softmax(_where_counted(logits, u[..., None])))


class Lovasz(Function):
    """y = sum_c w_c sum_i m_(i) g_i; g depends on the order of the errors alone, so dy/dm_(i) = w_c g_i"""

    def __init__(self, t, u, w):
        self.t, self.u, self.w = t, u, w

    def forward(self, p):
        xp = self.device.xp
        counted = xp.nonzero(self.u.reshape(-1))[0]
        classes = p.shape[-1]
        t, values = self.t.reshape(-1, classes)[counted], p.reshape(-1, classes)[counted]
        self.dp = self.device.zeros(p.shape, p.dtype)
        gradient, loss = self.dp.reshape(-1, classes), 0.0
        for c in range(classes):
            if not self.w[c]:
                continue
            error = xp.abs(t[:, c] - values[:, c])
            order = xp.argsort(-error)
            g = self.w[c] * _jaccard_steps(xp, t[order, c])
            loss = loss + (error[order] * g).sum()
            gradient[counted[order], c] = xp.where(t[order, c] > 0, -g, g)
        return xp.asarray(loss, p.dtype)

    def backward(self, dy):
        return dy * self.dp


def _jaccard_steps(xp, t):
    """g_i = J_i - J_(i-1) for targets t (0 or 1) in the order of their errors; there is at least one 1."""
    t = t.astype(np.float64)
    kept = t.sum() - xp.cumsum(t)  # intersection: true pixels that are still right
    union = t.sum() + xp.cumsum(1 - t)  # each wrong pixel of another class joins the union
    jaccard = 1 - kept / union
    jaccard[1:] -= jaccard[:-1].copy()
    return jaccard


def median_frequency_weights(data, num_classes: int, ignore_index: int = 255) -> np.ndarray:
    """Class weights median(f) / f_c, f_c the share of class c in the pixels of the images that hold it.

    Rare classes count more. A class that never occurs gets 0. Eigen & Fergus, ICCV 2015; SegNet.

    `data`: samples with a `mask` (a data set), masks (H,W), or their counts, (images, K) integers.
    Shapes: -> (K,) float32. Raises ValueError for class ids outside of 0 ... K-1.
    Example:
        weight = ts.losses.median_frequency_weights(train, train.num_classes)
    """
    counts = data
    if not (isinstance(data, np.ndarray) and data.ndim == 2):
        counts = [_count(getattr(item, "mask", item), num_classes, ignore_index) for item in _items(data)]
    counts = np.asarray(counts, np.float64).reshape(-1, num_classes)
    pixels_beside = (counts > 0).T @ counts.sum(axis=1)
    present = pixels_beside > 0
    frequency = counts.sum(axis=0)[present] / pixels_beside[present]
    weights = np.zeros(num_classes, np.float32)
    weights[present] = np.median(frequency) / frequency if present.any() else 0
    return weights


def _items(data) -> Iterable:
    """The items of anything with __len__ and __getitem__ (which need not raise IndexError), or of an iterable."""
    return (data[i] for i in range(len(data))) if hasattr(data, "__getitem__") else data


def _count(mask, num_classes, ignore_index):
    ids = np.asarray(mask)
    ids = ids[ids != ignore_index]
    if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
        found = f"{ids.min()} to {ids.max()}"
        raise ValueError(f"median_frequency_weights: class ids {found}, expected 0 to {num_classes - 1}")
    return np.bincount(ids, minlength=num_classes)


# What all losses share


def _check_single(loss, logits):
    if isinstance(logits, tuple | list):
        raise TypeError(
            f"{loss}: got {len(logits)} logits: a model with auxiliary heads returns those too in training; cure: the "
            "loss of each, times the weights that the model's docstring names, or a model made with aux=False"
        )


def _counted(loss, logits, target, ignore_index, weight, pixel_weight, classes=None):
    """The target as an array on the logits' device, and u: how much each pixel counts."""
    _check_single(loss, logits)
    device, classes = logits.device, classes or logits.shape[-1]
    expected = logits.shape if loss == "binary_cross_entropy" else logits.shape[:-1]
    target = target.data if isinstance(target, Tensor) else device.array(target)
    if target.shape != expected:
        raise ValueError(
            f"{loss}: target is {target.shape}, expected {expected} for logits {logits.shape}; cure for a model whose "
            "output is smaller than its input: crop the target's middle"
        )
    if target.dtype.kind not in "iub":
        raise TypeError(f"{loss}: target is {target.dtype}, expected integer class ids; cure: .astype(np.int32)")
    valid = target != ignore_index
    wrong = valid & ((target < 0) | (target >= classes))
    if wrong.any():
        found = sorted(set(device.numpy(target[wrong]).tolist()))[:5]
        allowed = f"0 to {classes - 1} and {ignore_index} (ignore)"
        raise ValueError(f"{loss}: target holds class ids {found}, expected {allowed}; cure: num_classes, or the masks")
    u = valid.astype(logits.dtype)
    if weight is not None:
        u *= _per_class(loss, weight, logits, classes)[device.xp.where(valid, target, 0)]
    if pixel_weight is not None:
        pixel_weight = constant(pixel_weight, logits).data
        if pixel_weight.shape != target.shape:
            raise ValueError(f"{loss}: pixel_weight has shape {pixel_weight.shape}, expected {target.shape}")
        _refuse_negative(loss, "pixel_weight", pixel_weight)
        u *= pixel_weight
    return target, u


def _mean(each: Tensor, u) -> Tensor:
    return ops.sum(each * Tensor(u, each.device)) / max(float(u.sum()), TINY)


def _where_counted(logits: Tensor, u) -> Tensor:
    """The logits, 0 where a pixel does not count: what stands there may be NaN or inf, and 0 times that is NaN."""
    counts = u != 0
    return logits if counts.all() else ops.where(Tensor(counts, logits.device), logits, 0.0)


def constant(values, like: Tensor) -> Tensor:
    """Values (an array or a Tensor) as a tensor of the dtype and device of another, without a gradient."""
    values = values.data if isinstance(values, Tensor) else like.device.array(values)
    return Tensor(values.astype(like.dtype), like.device)


def _per_class(loss, weight, logits, classes):
    weight = constant(weight, logits).data
    if weight.shape != (classes,):
        raise ValueError(f"{loss}: weight has shape {weight.shape}, expected ({classes},), one for each class")
    _refuse_negative(loss, "weight", weight)
    return weight


def _refuse_negative(loss, name, values):
    if not (values >= 0).all():
        raise ValueError(f"{loss}: {name} holds negative numbers or nan, expected numbers of at least 0")


def _one_hot(logits, target, u):
    """(N,H,W,K) of 0 and 1 in the logits' dtype; all 0 at a pixel that does not count."""
    classes = logits.device.xp.arange(logits.shape[-1])
    return ((target[..., None] == classes) & (u > 0)[..., None]).astype(logits.dtype)


def _class_shares(loss, logits, t, weight):
    """(K,) weights of the classes that occur, summing to 1; all 0 if none does."""
    weight = 1 if weight is None else _per_class(loss, weight, logits, t.shape[-1])
    w = (t.reshape(-1, t.shape[-1]).any(axis=0) * weight).astype(logits.dtype)
    return w / max(float(w.sum()), TINY)
