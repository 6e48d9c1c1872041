"""Anchors: the boxes that the region proposal network starts from. Ren et al. 2015, section 3.1.1; on levels: Lin 2017.

At each pixel of level l stand A boxes of one size s_l and several ratios of height to width,

    w = s_l / sqrt(ratio),   h = s_l sqrt(ratio),   rounded to whole half sides, centred at (stride x, stride y).
"""

import numpy as np


def base_anchors(size: float, ratios: tuple[float, ...]) -> np.ndarray:
    """Boxes (A,4) float32 about the origin."""
    h = np.sqrt(np.asarray(ratios, np.float32))
    half = np.stack([-1 / h, -h, 1 / h, h], axis=1) * np.float32(size) / 2
    return np.round(half).astype(np.float32)


def grid_anchors(base: np.ndarray, grid: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    """The base boxes at each pixel of a map: (rows * columns * A, 4), row after row."""
    y, x = (np.arange(n, dtype=np.float32) * np.float32(s) for n, s in zip(grid, stride))
    shift = np.zeros((*grid, 1, 4), np.float32)
    shift[..., 0::2] = x[:, None, None]
    shift[..., 1::2] = y[:, None, None, None]
    return (shift + base).reshape(-1, 4)


def pyramid_anchors(image_size, maps, sizes, ratios) -> list[np.ndarray]:
    """The anchors of each level of a pyramid: an array (H_l W_l A, 4) a level.

    image_size: (H,W) of the padded batch; maps: (H_l,W_l) of each level; sizes: one a level. A stride is the whole
    number of image pixels that a pixel of the map stands for.
    """
    return [
        grid_anchors(base_anchors(size, ratios), grid, tuple(n // m for n, m in zip(image_size, grid)))
        for size, grid in zip(sizes, maps)
    ]
