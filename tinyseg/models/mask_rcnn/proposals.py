"""From the region proposal network's numbers to a few hundred boxes worth looking at. Ren et al. 2015, section 3.3.

Of each level the best `before` anchors by objectness are decoded and clipped; of those that are at least 1/1000 pixel
large, non-maximum suppression (IoU 0.7, level by level) leaves some, and the best `after` of an image go on.
"""

import numpy as np

from ... import ops
from ...tensor import tensor
from .box_coding import ANCHOR_WEIGHTS, clip, decode, large_enough

LEAST = 1e-3  # pixels


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x) without overflow, in float32."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(np.float32)


def propose(objectness, offsets, anchors, size, before: int, after: int, threshold: float, device):
    """The proposals of one image: boxes (R,4) float32, best first, and their scores (R,) in [0, 1].

    Shapes: objectness (n_l,), offsets (n_l,4), anchors (n_l,4): a list of host arrays each, one a level; size (H,W) of
        the image without its padding.
    """
    boxes, scores, levels = [], [], []
    for level, (logit, offset, anchor) in enumerate(zip(objectness, offsets, anchors)):
        best = top(logit, before)
        found = clip(decode(offset[best], anchor[best], ANCHOR_WEIGHTS), size)
        large = large_enough(found, LEAST)
        boxes.append(found[large])
        scores.append(sigmoid(logit[best][large]))
        levels.append(np.full(int(large.sum()), level))
    boxes, scores, levels = (np.concatenate(parts) for parts in (boxes, scores, levels))
    kept = ops.batched_nms(tensor(boxes, device), scores, levels, threshold).numpy()[:after]
    return boxes[kept], scores[kept]


def top(values: np.ndarray, count: int) -> np.ndarray:
    """The numbers of the `count` largest values, largest first; of equal ones the first."""
    if len(values) > count:
        least = np.partition(values, len(values) - count)[len(values) - count]
        candidates = np.flatnonzero(values >= least)
    else:
        candidates = np.arange(len(values))
    return candidates[np.argsort(-values[candidates], kind="stable")][:count]
