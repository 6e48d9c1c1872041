"""Gaussian filtering at any points of a space, exactly: every point speaks to every other.

    y_n = sum_m exp(-|f_n - f_m|^2 / 2) x_m

It costs O(N^2), so it is for small images, and for judging the permutohedral lattice, which approximates it.
"""

import math

import numpy as np
from numba import prange

from ..device import get_device
from ..kernel import kernel


def filter_features(op: str, features, most: int) -> np.ndarray:
    """(N,d) float64, checked. Raises ValueError naming `op`."""
    features = np.asarray(features)
    if features.ndim != 2 or not 1 <= features.shape[1] <= most or features.dtype.kind not in "iuf":
        raise ValueError(
            f"{op}: features are {features.dtype} of shape {features.shape}, expected floats (N,d), d from 1 to {most}"
        )
    features = np.ascontiguousarray(features, np.float64)
    if not np.isfinite(features).all():
        raise ValueError(f"{op}: features hold nan or inf")
    return features


class ExactGaussian:
    """What `Lattice` approximates, with the same face: `lattice_filter(x, ExactGaussian(features))`.

    Shapes: features (N,d) float, in units of their standard deviations. Raises ValueError: shapes; nan or inf.
    """

    def __init__(self, features: np.ndarray, dtype=np.float32, device="cpu"):
        self.device, self.dtype = get_device(device), np.dtype(dtype)
        features = filter_features("ExactGaussian", features, 1 << 20)
        self.points, self.features = len(features), self.device.array(features, np.float64)

    def apply(self, x, transposed: bool = False):
        """The sums for an array (N,K) of the filter's dtype and device; their matrix is its own transpose."""
        (N, K), d = x.shape, self.features.shape[1]
        y = self.device.empty((N, K), self.dtype)
        self.device.launch(gaussian_sums, y, x, self.features, N, d, K)
        return y


@kernel
def gaussian_sums(y, x, features, N, d, K):
    """y[n] = sum_m exp(-|f_n - f_m|^2 / 2) x[m]. Parallel over the points n."""
    for n in prange(N):
        for k in range(K):
            y[n, k] = 0
        for m in range(N):
            squared = 0.0
            for i in range(d):
                squared += (features[n, i] - features[m, i]) ** 2
            w = y.dtype.type(math.exp(-squared / 2))
            for k in range(K):
                y[n, k] += w * x[m, k]
