"""Boxes as what a network predicts: offsets from a reference box. Girshick et al. 2014, appendix C.

    t_x = w_x (x - x_r) / width_r     t_w = w_w log(width / width_r)       (x: the middle; y and height likewise)

The weights w make the four numbers about equally large: (1,1,1,1) for anchors, (10,10,5,5) for proposals.
"""

import math

import numpy as np

LIMIT = np.float32(math.log(1000 / 16))  # a box may grow by this factor at most, or exp would overflow
ANCHOR_WEIGHTS, BOX_WEIGHTS = (1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)
Weights = tuple[float, float, float, float]


def encode(boxes: np.ndarray, references: np.ndarray, weights: Weights) -> np.ndarray:
    """The offsets (R,4) that lead from the references (R,4) to the boxes (R,4)."""
    boxes, references, weights = (np.asarray(a, np.float32) for a in (boxes, references, weights))
    side, side_r = boxes[:, 2:] - boxes[:, :2], references[:, 2:] - references[:, :2]
    middle, middle_r = boxes[:, :2] + side / 2, references[:, :2] + side_r / 2
    return np.concatenate([(middle - middle_r) / side_r, np.log(side / side_r)], axis=1) * weights


def decode(offsets: np.ndarray, references: np.ndarray, weights: Weights) -> np.ndarray:
    """The boxes (..., 4) that offsets (..., 4) from references (..., 4) lead to; the last axes broadcast."""
    offsets = np.asarray(offsets, np.float32) / np.float32(weights)
    side_r = references[..., 2:] - references[..., :2]
    middle = offsets[..., :2] * side_r + (references[..., :2] + side_r * np.float32(0.5))
    half = np.exp(np.minimum(offsets[..., 2:], LIMIT)) * side_r * np.float32(0.5)
    return np.concatenate([middle - half, middle + half], axis=-1)


def clip(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes (..., 4) cut at the border of an image (H,W)."""
    height, width = size
    return np.clip(boxes, np.float32(0), np.float32([width, height, width, height]))


def large_enough(boxes: np.ndarray, least: float) -> np.ndarray:
    """Which boxes (R,4) have both sides of at least so many pixels."""
    return ((boxes[:, 2:] - boxes[:, :2]) >= np.float32(least)).all(1)
