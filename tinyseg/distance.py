"""Exact Euclidean distances to the pixels of a mask, in NumPy.

    d(y, x) = min over mask pixels (v, u) of sqrt((y - v)^2 + (x - u)^2) = sqrt(min_u (g(y, u)^2 + (x - u)^2)),

g the distance within a column. Felzenszwalb & Huttenlocher 2012 take the minimum over u in O(1) a pixel; here it is
taken offset by offset over whole images, which is short, and fast for the small distances that boundaries need.
"""

import math

import numpy as np


def distance_transform(mask: np.ndarray, limit: float = math.inf) -> np.ndarray:
    """The distance in pixels from each pixel to the nearest True pixel; inf where there is none within `limit`.

    Costs O(H W min(W, limit)). Shapes: mask (H,W) bool -> (H,W) float32, exact (squares are whole numbers).

    Example:
        near = distance_transform(boundary, limit=5) <= 5
    """
    height, width = mask.shape
    rows = np.arange(height)[:, None]
    far = height + width  # further than any distance in the image
    above = np.maximum.accumulate(np.where(mask, rows, -far), axis=0)
    below = np.minimum.accumulate(np.where(mask, rows, height + far)[::-1], axis=0)[::-1]
    column = np.minimum(rows - above, below - rows).astype(np.float64) ** 2
    column[column >= far * far] = np.inf
    squared = column.copy()
    for offset in range(1, int(min(limit, width - 1)) + 1):
        np.minimum(squared[:, offset:], column[:, :-offset] + offset**2, out=squared[:, offset:])
        np.minimum(squared[:, :-offset], column[:, offset:] + offset**2, out=squared[:, :-offset])
    squared[squared > limit**2] = np.inf
    return np.sqrt(squared).astype(np.float32)
