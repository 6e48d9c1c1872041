"""How good a segmentation is: arrays in, numbers out.

With n_ij the pixels of class i that were predicted as j, t_i = sum_j n_ij and p_i = sum_j n_ji,

    pixel accuracy = sum_i n_ii / sum_i t_i             mean accuracy = mean_i n_ii / t_i
    IoU_i = n_ii / (t_i + p_i - n_ii)                   mean IoU = mean_i IoU_i
    frequency-weighted IoU = sum_i t_i IoU_i / sum_i t_i

(FCN's names and definitions.) One matrix is accumulated over the whole set: the mean of the images' scores is another
number. A class that never occurs has no score: it is nan, and means leave it out.
"""

import numpy as np

from ..distance import distance_transform


class ConfusionMatrix:
    """Counts of (class, predicted class) over a set; `matrix[i, j]` is n_ij, int64.

    Shapes: update(pred, target) takes two integer arrays of equal shape; pixels whose target is `ignore_index` do not
    count, whatever was predicted there.

    Example:
        confusion = ConfusionMatrix(num_classes=11)
        for i in range(len(val)):
            confusion.update(ts.predict(model, val[i].image), val[i].mask)
        print(confusion.mean_iou(), confusion.iou())
    """

    def __init__(self, num_classes: int, ignore_index: int = 255):
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.matrix = np.zeros((num_classes, num_classes), np.int64)

    def update(self, pred: np.ndarray, target: np.ndarray) -> None:
        """Count one image or batch. Raises TypeError for arrays that are not of integers, ValueError for shapes that
        differ and for class ids outside of 0 ... num_classes-1.
        """
        pred, target = _class_ids("pred", pred), _class_ids("target", target)
        if pred.shape != target.shape:
            raise ValueError(f"metrics: pred is {pred.shape} but target is {target.shape}, expected equal shapes")
        counted = target != self.ignore_index
        pred, target = pred[counted], target[counted]
        for name, ids in (("pred", pred), ("target", target)):
            if ids.size and not 0 <= ids.min() <= ids.max() < self.num_classes:
                strangers = np.unique(ids[(ids < 0) | (ids >= self.num_classes)])
                raise ValueError(
                    f"metrics: {name} holds class ids {_some(strangers)}, expected 0 to {self.num_classes - 1}"
                    + (f" or {self.ignore_index} (ignore)" if name == "target" else "")
                    + "; cure: check num_classes and the masks (tinyseg check DIR)"
                )
        pairs = target.astype(np.int64) * self.num_classes + pred.astype(np.int64)
        self.matrix += np.bincount(pairs, minlength=self.matrix.size).reshape(self.matrix.shape)

    def pixel_accuracy(self) -> float:
        """Share of all pixels that are right; nan before the first pixel."""
        return float(_ratio(np.trace(self.matrix), self.matrix.sum()))

    def accuracy(self) -> np.ndarray:
        """(K,) share of each class's pixels that are right (recall)."""
        return _ratio(np.diag(self.matrix), self.matrix.sum(axis=1))

    def mean_accuracy(self) -> float:
        return _mean(self.accuracy())

    def iou(self) -> np.ndarray:
        """(K,) intersection over union; nan for a class that is neither in the targets nor in the predictions."""
        right = np.diag(self.matrix)
        return _ratio(right, self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - right)

    def mean_iou(self) -> float:
        return _mean(self.iou())

    def frequency_weighted_iou(self) -> float:
        true = self.matrix.sum(axis=1)
        return float(_ratio(np.nansum(true * self.iou()), true.sum()))

    def frequency(self) -> np.ndarray:
        """(K,) share of the pixels that each class has."""
        return _ratio(self.matrix.sum(axis=1), self.matrix.sum())

    def __repr__(self):
        pixels, mean = self.matrix.sum(), self.mean_iou()
        return f"ConfusionMatrix({self.num_classes} classes, {pixels} pixels, mean IoU {mean:.4f})"


def boundary_f_score(
    pred: np.ndarray, target: np.ndarray, num_classes: int, tolerance: float = 0.0075, ignore_index: int = 255
) -> np.ndarray:
    """(K,) boundary F-score of one image: how well contours agree, where IoU looks at areas. Csurka et al., BMVC 2013.

    A boundary pixel of a class is matched if the other map has a boundary pixel of it within tolerance * diagonal
    (0.75 %, as SegNet). F = 2 P R / (P + R), P the matched share of predicted and R of true boundary pixels. nan for a
    class without a boundary in the target. Pixels to ignore, and borders with them, do not count.
    Costs O(K H W r), r the tolerance in pixels.

    Shapes: pred, target (H,W) integers. Raises as `ConfusionMatrix.update`.
    Example:
        score = np.nanmean([np.nanmean(boundary_f_score(p, t, 11)) for p, t in pairs])
    """
    ConfusionMatrix(num_classes, ignore_index).update(pred, target)  # its checks
    pred, target = np.asarray(pred), np.asarray(target)
    if target.ndim != 2:
        raise ValueError(f"boundary_f_score: got shape {target.shape}, expected one image (H,W)")
    valid = target != ignore_index
    radius = tolerance * np.hypot(*target.shape)
    scores = np.full(num_classes, np.nan)
    for i in range(num_classes):
        true, found = _boundary(target == i, valid), _boundary(pred == i, valid)
        if not true.any():
            continue
        if not found.any():
            scores[i] = 0
            continue
        precision = np.mean(distance_transform(true, radius)[found] <= radius)
        recall = np.mean(distance_transform(found, radius)[true] <= radius)
        scores[i] = 2 * precision * recall / max(precision + recall, 1e-12)
    return scores


def _boundary(mask, valid):
    """Pixels of a class beside (4 neighbours) a pixel of another, both of them valid."""
    edge = np.zeros_like(mask)
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = (mask[a] != mask[b]) & valid[a] & valid[b]
        edge[a] |= differ & mask[a]
        edge[b] |= differ & mask[b]
    return edge


def _class_ids(name, ids):
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(
            f"metrics: {name} is {ids.dtype} of shape {ids.shape}, expected integer class ids; "
            "cure: logits.numpy().argmax(-1)"
        )
    return ids


def _ratio(a, b):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.true_divide(a, b)


def _mean(values) -> float:
    """The mean of the scores that there are."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _some(ids):
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
