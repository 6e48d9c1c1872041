"""What a convolution does for the batch norm behind it while its result lies in the cache."""

from ...kernel import device_function
from .simd import add_rows, address, load_address, load_float


@device_function
def run_statistics_of(means, deviations, run, first, channels, pixels, count):
    """Mean and sum of squared deviations of a run, for `channels` channels from `first` on (a multiple of LANES).

    `pixels` is the address of the addresses of the run's `count` pixels. See `ops/statistics.py`.
    """
    zero = means.dtype.type(0)
    for c in range(first, first + channels):
        means[run, c] = zero
        deviations[run, c] = zero
    if count == 0:
        return
    pivot = load_address(pixels) + first * 4
    add_rows(pixels, count, first * 4, channels, pivot, address(means[run]) + first * 4,
             address(deviations[run]) + first * 4)  # fmt: skip
    share = means.dtype.type(1.0 / count)
    for c in range(channels):
        d = means[run, first + c] * share
        deviations[run, first + c] = max(deviations[run, first + c] - means[run, first + c] * d, zero)
        means[run, first + c] = load_float(pivot + c * 4) + d
