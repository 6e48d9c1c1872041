"""Which boxes learn what: matching with the truth, and balanced samples. Ren et al. 2015, section 3.1.2.

A box is positive where its IoU with some object is at least `high`, negative below `low`, and does not count between.
For anchors also the best of each object is positive, whatever its IoU, so that no object goes without.
"""

import numpy as np

from ... import ops
from ...tensor import tensor

NEGATIVE, BETWEEN = -1, -2


def match(boxes: np.ndarray, truth: np.ndarray, high: float, low: float, best_of_each: bool, device) -> np.ndarray:
    """For each box (R,4) the number of its object in truth (G,4), -1 = negative, -2 = does not count. (R,) int64.

    best_of_each: the boxes that overlap an object most (ties included) stay with the object that they overlap most.
    """
    if not len(truth):
        return np.full(len(boxes), NEGATIVE, np.int64)
    found = ops.match_boxes(tensor(boxes, device), tensor(truth, device))
    iou, which, some_best = (t.numpy() for t in found)
    matched = np.where(iou >= np.float32(high), which, np.where(iou < np.float32(low), NEGATIVE, BETWEEN))
    return np.where(some_best > 0, which, matched) if best_of_each else matched


def balanced(matched: np.ndarray, count: int, share: float, generator: np.random.Generator) -> np.ndarray:
    """Numbers of at most `count` boxes, at most that share of them positive, drawn without repetition; sorted."""
    positive, negative = np.flatnonzero(matched >= 0), np.flatnonzero(matched == NEGATIVE)
    positives = min(int(count * share), len(positive))
    negatives = min(count - positives, len(negative))
    chosen = generator.permutation(positive)[:positives], generator.permutation(negative)[:negatives]
    return np.sort(np.concatenate(chosen))
