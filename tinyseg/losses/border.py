"""The weight map of the U-Net paper: the ridges of background between cells that touch must be learned well.

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

d1, d2: distances from background pixel x to the nearest and the second nearest cell; w_c a weight for each class.
Ronneberger, Fischer & Brox 2015, eq. 2. Everything is NumPy: make the map once for each image, beside the mask.
"""

import math

import numpy as np

from ..distance import distance_transform


def unet_border_weights(
    cells: np.ndarray,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_weight: tuple[float, float] = (1.0, 1.0),
    ignore_index: int = 255,
) -> np.ndarray:
    """The map w(x) above, for `cross_entropy(..., pixel_weight=)`; class_weight: w_c of background and of cells.

    `cells` are instance ids, 0 = background; or a mask of 0, 1 and `ignore_index`, whose connected parts
    (4 neighbours) are the cells. Inside cells w = w_c. Distances are exact between pixel centres wherever the term
    exceeds w0 e^-18, that is to d1 + d2 = 6 sigma, and the term is 0 beyond. Costs O(window area * 6 sigma)
    and one look at the whole image a cell.

    Shapes: cells (H,W) integers -> (H,W) float32.
    Example:
        weights = np.stack([ts.losses.unet_border_weights(s.instances) for s in samples])
    """
    cells = np.asarray(cells)
    if cells.ndim != 2 or cells.dtype.kind not in "iub":
        raise ValueError(f"unet_border_weights: got {cells.dtype} of shape {cells.shape}, expected (H,W) instance ids")
    if set(np.unique(cells).tolist()) <= {0, 1, ignore_index}:
        cells = connected_components(cells == 1)
    reach = 6 * sigma
    nearest = np.full(cells.shape, np.inf, np.float32)
    second = nearest.copy()
    for cell in np.unique(cells[cells != 0]):
        where = np.nonzero(cells == cell)
        window = tuple(
            slice(max(0, i.min() - math.ceil(reach)), i.max() + math.ceil(reach) + 1) for i in where
        )  # nothing outside is within reach
        distance = distance_transform(cells[window] == cell, reach)
        second[window] = np.minimum(second[window], np.maximum(nearest[window], distance))
        nearest[window] = np.minimum(nearest[window], distance)
    background = cells == 0
    both = np.where(background, nearest + second, np.inf)
    ridge = np.where(both <= reach, np.exp(-(both**2) / (2 * sigma**2)), 0)
    return (np.where(background, *class_weight) + w0 * ridge).astype(np.float32)


def connected_components(mask: np.ndarray) -> np.ndarray:
    """(H,W) int32: 1, 2, ... for each part of a mask that hangs together by 4 neighbours, 0 outside; in reading order.

    Runs of pixels within rows are joined with the runs they touch in the row above (union-find over runs).
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 1), np.int8)
    padded[:, :width] = mask
    steps = np.diff(padded.reshape(-1), prepend=0)  # the column of zeros keeps rows apart
    starts, stops = np.nonzero(steps == 1)[0], np.nonzero(steps == -1)[0]
    # Runs a and b of neighbouring rows touch if a, moved down one row, overlaps b.
    first = np.searchsorted(stops, starts - (width + 1), side="right")
    last = np.searchsorted(starts, stops - (width + 1), side="left")
    parent = list(range(len(starts)))

    def root(run):
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    for run, (above, end) in enumerate(zip(first.tolist(), last.tolist())):
        for other in range(above, end):
            a, b = sorted((root(run), root(other)))
            parent[b] = a
    roots = np.array([root(run) for run in range(len(parent))], np.int64)
    _, number = np.unique(roots, return_inverse=True)
    ids = np.zeros(padded.size + 1, np.int32)
    ids[starts] += (number + 1).astype(np.int32)
    ids[stops] -= (number + 1).astype(np.int32)
    return np.cumsum(ids, dtype=np.int32)[:-1].reshape(height, width + 1)[:, :width].copy()
