"""Panoptic quality: one number for things and stuff. Kirillov et al., CVPR 2019, equation 1.

Segments of one class match where their IoU is above 1/2 (there can be only one such pair). With TP the matched pairs,
FP predicted and FN true segments that are left,

    PQ = SQ RQ,    SQ = mean of IoU over TP,    RQ = |TP| / (|TP| + |FP|/2 + |FN|/2).

Pixels of no true segment (void) are left out of unions. What was predicted mostly on void, or on a crowd of its class,
is no mistake.
"""

import numpy as np


class PanopticQuality:
    """Counts over a set of images; classes that never occur are nan, and means leave them out.

    Shapes: update(found, found_classes, true, true_classes, crowd): found and true (H,W) ids of segments, 0 = none;
        found_classes and true_classes: a class id in 0..num_classes-1 for each segment id; crowd: ids of true crowds.
    Raises ValueError: shapes that differ, an id without a class, a class outside the range.

    Example:
        quality = PanopticQuality(num_classes=3)
        quality.update(ids, {1: 2, 2: 0}, true_ids, {1: 2, 2: 0})
        print(quality.pq())
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.iou_sum = np.zeros(num_classes)
        self.true_positives, self.false_positives, self.false_negatives = np.zeros((3, num_classes), np.int64)

    def update(self, found, found_classes: dict, true, true_classes: dict, crowd=()) -> None:
        found, true, crowd = np.asarray(found), np.asarray(true), set(crowd)
        if found.shape != true.shape or found.dtype.kind not in "iu" or true.dtype.kind not in "iu":
            raise ValueError(f"panoptic_quality: found {found.dtype} {found.shape}, true {true.dtype} {true.shape}, "
                             "expected integer ids of one shape")
        sizes = {}
        for name, ids, classes in (("found", found, found_classes), ("true", true, true_classes)):
            values, counts = np.unique(ids, return_counts=True)
            sizes[name] = dict(zip(values.tolist(), counts.tolist()))
            for i in sizes[name]:
                if i and not 0 <= classes.get(i, -1) < self.num_classes:
                    raise ValueError(f"panoptic_quality: {name} segment {i} has class {classes.get(i)}, expected "
                                     f"0 to {self.num_classes - 1}")
        base = int(true.max(initial=0)) + 1
        pairs, counts = np.unique(found.ravel().astype(np.int64) * base + true.ravel(), return_counts=True)
        common = {divmod(pair, base): n for pair, n in zip(pairs.tolist(), counts.tolist())}
        matched_found, matched_true = set(), set()
        for (f, t), n in common.items():
            if not f or not t or t in crowd or found_classes[f] != true_classes[t]:
                continue
            union = sizes["found"][f] + sizes["true"][t] - n - common.get((f, 0), 0)
            if n / union > 0.5:
                self.iou_sum[true_classes[t]] += n / union
                self.true_positives[true_classes[t]] += 1
                matched_found.add(f)
                matched_true.add(t)
        for t in sizes["true"]:
            if t and t not in crowd and t not in matched_true:
                self.false_negatives[true_classes[t]] += 1
        for f, size in sizes["found"].items():
            if f and f not in matched_found:
                excused = common.get((f, 0), 0)
                excused += sum(common.get((f, t), 0) for t in crowd if true_classes.get(t) == found_classes[f])
                self.false_positives[found_classes[f]] += excused / size <= 0.5

    def pq_of_classes(self) -> np.ndarray:
        """(K,) panoptic quality of each class."""
        with np.errstate(invalid="ignore"):
            return self.iou_sum / (self.true_positives + (self.false_positives + self.false_negatives) / 2)

    def sq_of_classes(self) -> np.ndarray:
        """(K,) mean IoU of the matched segments."""
        return self.iou_sum / np.where(self.true_positives > 0, self.true_positives, np.nan)

    def rq_of_classes(self) -> np.ndarray:
        """(K,) F-score of finding segments at all."""
        with np.errstate(invalid="ignore"):
            return self.true_positives / (
                self.true_positives + (self.false_positives + self.false_negatives) / 2
            )

    def pq(self) -> float:
        """The mean over the classes that occur."""
        values = self.pq_of_classes()
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
