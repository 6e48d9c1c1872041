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


def float_dtype(op: str, dtype) -> np.dtype:
    """The dtype. Raises TypeError naming `op` unless it is float32 or float64."""
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"{op}: dtype is {np.dtype(dtype)}, expected float32 or float64")
    return np.dtype(dtype)


def check_dtype(op: str, gaussian, x) -> None:
    """TypeError naming `op` unless x has the dtype that a filter was made for."""
    if x.dtype != gaussian.dtype:
        name = type(gaussian).__name__
        raise TypeError(
            f"{op}: x is {x.dtype}, the filter {gaussian.dtype}; cure: {name}(features, dtype=np.{x.dtype})"
        )


NORMALIZATIONS = ("symmetric", "before", "after", "none")


def filter_norms(op: str, gaussian, normalization: str):
    """(before, after): what stands on both sides of a filter K, from D = diag(K 1); each (N,1) on its device, or None.

    "symmetric" D^-1/2 K D^-1/2, "before" K D^-1, "after" D^-1 K, "none" K. Raises ValueError naming `op` for another.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"{op}: normalization is {normalization!r}, expected one of {', '.join(NORMALIZATIONS)}")
    if normalization == "none":
        return None, None
    ones = gaussian.device.empty((gaussian.points, 1), gaussian.dtype)
    ones.fill(1)
    total = gaussian.apply(ones) + gaussian.dtype.type(1e-20)
    if normalization == "symmetric":
        root = 1 / gaussian.device.xp.sqrt(total)
        return root, root
    return (1 / total, None) if normalization == "before" else (None, 1 / total)


class ExactGaussian:
    """What `Lattice` approximates, with the same face: `lattice_filter(x, ExactGaussian(features))`.

    Shapes: features (N,d) float, in units of their standard deviations. Raises ValueError: shapes; nan or inf.
    """

    def __init__(self, features: np.ndarray, dtype=np.float32, device="cpu"):
        self.device, self.dtype = get_device(device), float_dtype("ExactGaussian", dtype)
        features = filter_features("ExactGaussian", features, 1 << 20)
        self.points, self.features = len(features), self.device.array(features, np.float64)

    def apply(self, x, transposed: bool = False):
        """The sums for an array (N,K) of the filter's dtype and device; their matrix is its own transpose."""
        check_dtype("ExactGaussian", self, x)
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
