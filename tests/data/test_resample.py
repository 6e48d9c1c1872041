import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinyseg.data.resample import (
    as_size,
    bicubic_surface,
    convolve,
    resize_image,
    resize_labels,
    warp_image,
    warp_labels,
)

sides = st.integers(1, 20)
seeds = st.integers(0, 2**32 - 1)


@given(sides, sides, sides, sides, seeds)
def test_resize_is_pillows_bilinear(height, width, new_height, new_width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pillow = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BILINEAR)
    ours = resize_image(image, (new_height, new_width))
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - np.array(pillow)).max() <= 2  # Pillow rounds after each axis


@given(sides, sides, sides, sides, st.sampled_from([np.uint8, np.uint16, np.float32]))
def test_constant_images_stay_constant(height, width, new_height, new_width, dtype):
    assert np.allclose(resize_image(np.full((height, width, 1), 200, dtype), (new_height, new_width)), 200)


@given(sides, sides, st.integers(1, 4), seeds)
def test_labels_repeat_and_come_back(height, width, factor, seed):
    labels = np.random.default_rng(seed).integers(0, 9, (height, width))
    larger = resize_labels(labels, (height * factor, width * factor))
    assert np.array_equal(larger, np.kron(labels, np.ones((factor, factor), int)))
    assert np.array_equal(resize_labels(larger, (height, width)), labels)


@given(sides, sides, seeds)
def test_warp_to_the_same_place_is_the_identity(height, width, seed):
    rng = np.random.default_rng(seed)
    image, labels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8), rng.integers(0, 9, (height, width))
    y, x = np.float32(np.mgrid[:height, :width])
    assert np.array_equal(warp_image(image, y, x, np.zeros(3)), image)
    assert np.array_equal(warp_labels(labels, y, x, 255), labels)
    assert (warp_labels(labels, y + height, x, 255) == 255).all()
    assert (warp_image(image, y, x - width, np.float32([1, 2, 3])) == [1, 2, 3]).all()


def test_warp_between_pixels():
    image = np.float32([[0, 10], [20, 30]])[:, :, None]
    half = np.full((1, 1), 0.5, np.float32)
    assert warp_image(image, half, half, np.zeros(1)).item() == 15


@given(st.integers(2, 5), st.integers(2, 30), seeds)
def test_surface_meets_its_knots_and_keeps_planes(knots, n, seed):
    values = np.random.default_rng(seed).normal(size=(knots, knots))
    surface = bicubic_surface(values, ((knots - 1) * n + 1, (knots - 1) * n + 1))
    assert np.allclose(surface[::n, ::n], values)
    assert np.allclose(bicubic_surface(np.full((knots, knots), 3.0), (n, n + 1)), 3)


def test_convolve_is_the_sum_over_taps():
    image = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    assert np.array_equal(convolve(image, np.float32([0, 0, 1]), axis=1).ravel(), [1, 2, 3, 4, 4])


def test_sizes():
    assert as_size(3) == (3, 3) and as_size((4, 5)) == (4, 5)
    with pytest.raises(ValueError, match="pixels >= 1"):
        as_size((0, 5))
