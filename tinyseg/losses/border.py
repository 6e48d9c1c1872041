"""The weight map of the U-Net paper: the ridges of background between cells that touch must be learned well.

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))

d1, d2: distances from background pixel x to the nearest and the second nearest cell; w_c a weight for each class.
Ronneberger, Fischer & Brox 2015, eq. 2. Everything is NumPy: make the map once for each image, beside the mask.
"""

import math

import numpy as np

from ..components import connected_components
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
