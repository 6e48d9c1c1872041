"""Mean and squared deviations of each channel over a run of pixels: what batch norm asks of its input.

Pixels are cut into runs of fixed length, whatever the number of threads. Each run gives its mean and its sum of
squared deviations, in the numbers' own precision and about the run's first pixel, so that a large mean costs no digits;
float64 merges the runs (Chan, Golub & LeVeque 1979). A convolution does this for its result a block at a time, while
the block lies in the cache; so the batch norm behind it need not read it again.
"""

from typing import NamedTuple

import numpy as np

RUN = 128  # pixels summed in their own precision before float64 takes over


class Runs(NamedTuple):
    """Of each run and channel the mean and the sum of squared deviations from it; of each run the number of pixels."""

    means: np.ndarray  # (runs, C)
    deviations: np.ndarray  # (runs, C)
    counts: np.ndarray  # (runs,)


def room_for_runs(device, runs: int, channels: int, dtype) -> Runs:
    """Arrays for so many runs, none of which has a pixel yet."""
    return Runs(*(device.empty((runs, channels), dtype) for _ in "md"), device.zeros((runs,), np.int64))


def merge(runs: Runs):
    """Mean and (biased) variance of each channel over all runs, in float64."""
    counts = runs.counts.astype(np.float64)[:, None]
    pixels = counts.sum()
    means = runs.means.astype(np.float64)
    mean = (counts * means).sum(0) / pixels
    spread = (counts * (means - mean) ** 2).sum(0) + runs.deviations.sum(0, dtype=np.float64)
    return mean, spread / pixels


