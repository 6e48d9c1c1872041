"""Run lengths: there and back, sets as masks, COCO's text; and its reference implementation where it is installed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg import rle

from .strategies import seeds

sides = st.integers(1, 12)


def mask_of(height, width, seed, share=0.5):
    return (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)


@given(sides, sides, st.sampled_from([0, 0.1, 0.5, 1]), seeds)
def test_there_and_back(height, width, share, seed):
    mask = mask_of(height, width, seed, share)
    counts = rle.encode(mask)
    assert counts.sum() == mask.size and (counts[1:] > 0).all()
    np.testing.assert_array_equal(rle.decode(counts, (height, width)), mask)
    assert rle.area(counts) == mask.sum()
    np.testing.assert_array_equal(rle.from_text(rle.to_text(counts)), counts)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1] if len(rows) else [0] * 4
    found = rle.box(counts, height)
    assert found[0::2] == box[0::2]  # a run over a column's end counts as high as the image, as in COCO's code
    if not len(columns) or not (mask[-1, :-1] & mask[0, 1:]).any():
        assert found == box


@given(st.lists(st.integers(0, 10**6), max_size=8))
def test_text_of_any_counts(counts):
    assert rle.from_text(rle.to_text(np.array(counts, np.int64))).tolist() == counts


@given(sides, sides, seeds)
def test_intersection(height, width, seed):
    a, b = mask_of(height, width, seed, 0.6), mask_of(height, width, seed + 1, 0.4)
    assert rle.intersection(rle.encode(a), rle.encode(b)) == (a & b).sum()


def test_examples():
    assert rle.encode(np.array([[0, 1], [0, 1], [1, 0]])).tolist() == [2, 3, 1]
    assert rle.encode(np.ones((2, 2))).tolist() == [0, 4] and rle.encode(np.zeros((2, 2))).tolist() == [4]
    square = rle.decode(rle.from_polygons([[1, 1, 4, 1, 4, 3, 1, 3]], (5, 6)), (5, 6))
    expected = np.zeros((5, 6))
    expected[1:3, 1:4] = 1
    np.testing.assert_array_equal(square, expected)
    two = rle.from_polygons([[0, 0, 2, 0, 2, 2, 0, 2], [1, 0, 4, 0, 4, 2, 1, 2]], (5, 6))  # overlap: a union
    assert rle.area(two) == 8
    assert rle.area(rle.from_polygons([[-9, -9, 99, -9, 99, 99, -9, 99]], (5, 6))) == 30


def test_errors():
    for function, arguments, message in [
        (rle.decode, ([3, 2], (2, 2)), "cover 5 pixels, the mask has 2 x 2"),
        (rle.decode, ([-1, 5], (2, 2)), "cover 4 pixels"),
        (rle.from_text, ("a\x7f",), "no compressed run-length"),
        (rle.from_text, ("P",), "no compressed run-length"),
        (rle.from_polygons, ([[0, 0, 1, 1]], (3, 3)), "a polygon of 4 coordinates"),
        (rle.from_polygons, ([[0, 0, 1, 1, np.nan, 2]], (3, 3)), "finite"),
        (rle.from_polygons, ([[0, 0, 1e9, 0, 1e9, 1e9]], (3, 3)), "reaches to 1e"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(*arguments)


@given(sides, sides, st.integers(3, 8), seeds)
def test_equal_to_the_reference(height, width, corners, seed):
    reference = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(seed)
    polygon = np.round(rng.uniform(-2, max(height, width) + 2, 2 * corners), 2).tolist()
    encoded = reference.frPyObjects([polygon], height, width)[0]
    counts = rle.from_polygons([polygon], (height, width))
    np.testing.assert_array_equal(rle.decode(counts, (height, width)), reference.decode(encoded))
    mask = mask_of(height, width, seed)
    encoded = reference.encode(np.asfortranarray(mask))
    assert rle.to_text(rle.encode(mask)).encode() == encoded["counts"]
    assert rle.box(rle.encode(mask), height) == reference.toBbox(encoded).tolist()
