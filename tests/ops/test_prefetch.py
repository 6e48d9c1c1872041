"""A prefetch is a hint: it changes nothing, wherever it points."""

import numba
import numpy as np
import pytest

from tinyseg.ops.prefetch import prefetch, prefetch_to_write


@numba.njit
def ask(array, first, count):
    prefetch(array, first, count)
    prefetch_to_write(array, first, count)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("first, count", [(0, 100), (3, 1), (99, 10**6), (-(10**6), 5), (0, 0)])
def test_nothing_changes(dtype, first, count):
    array = np.arange(100, dtype=dtype)
    ask(array, first, count)
    assert np.array_equal(array, np.arange(100, dtype=dtype))
