"""The U-Net paper's weight map against its equation, pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import seeds
from tinyseg.components import connected_components
from tinyseg.losses import unet_border_weights


def some_cells(seed, shape=(12, 15), count=4):
    rng = np.random.default_rng(seed)
    cells = np.zeros(shape, np.int32)
    for number in range(1, count + 1):
        y, x = rng.integers(0, shape[0] - 2), rng.integers(0, shape[1] - 2)
        cells[y : y + rng.integers(1, 5), x : x + rng.integers(1, 5)] = 10 * number
    return cells


@given(seeds, st.floats(0.5, 5), st.integers(0, 4))
def test_the_equation(seed, sigma, count):
    cells = some_cells(seed, count=count)
    expected = np.ones(cells.shape)
    for y, x in np.argwhere(cells == 0):
        d = sorted(min(np.hypot(y - v, x - u) for v, u in np.argwhere(cells == i)) for i in np.unique(cells[cells > 0]))
        expected[y, x] = 0.5 + (10 * np.exp(-((d[0] + d[1]) ** 2) / (2 * sigma**2)) if len(d) > 1 else 0)
    actual = unet_border_weights(cells, sigma=sigma, class_weight=(0.5, 1.0))
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_a_mask_is_taken_apart_into_cells():
    mask = np.zeros((7, 9), np.uint8)
    mask[1:6, 1:4] = mask[1:6, 5:8] = 1  # two cells, one column of background between them
    mask[6, 8] = 255
    weights = unet_border_weights(mask)
    assert weights[3, 4] == pytest.approx(1 + 10 * np.exp(-(2**2) / 50)) and weights[3, 4] == weights.max()
    assert (weights[mask == 1] == 1).all()
    np.testing.assert_array_equal(weights, unet_border_weights(7 * connected_components(mask == 1)))


@given(seeds, st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.0, 0.4, 0.6, 1.0]))
def test_connected_components(seed, height, width, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    expected, count = np.zeros(mask.shape, int), 0
    for start in np.argwhere(mask):
        if expected[tuple(start)] == 0:
            count += 1
            waiting = [tuple(start)]
            while waiting:
                y, x = waiting.pop()
                if 0 <= y < height and 0 <= x < width and mask[y, x] and not expected[y, x]:
                    expected[y, x] = count
                    waiting += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    assert np.array_equal(connected_components(mask), expected)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"float64 of shape \(3, 3\), expected \(H,W\) instance ids"):
        unet_border_weights(np.zeros((3, 3)))
