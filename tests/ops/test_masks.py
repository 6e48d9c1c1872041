import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops import crop_masks, paste_masks

from ..strategies import seeds
from .test_interpolate import oracle as resize_oracle
from .test_roi_align import oracle as roi_align_oracle

sides = st.integers(1, 40)


def boxes_of(rng, count, size):
    corner = rng.uniform(-10, max(size), (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0, 30, (count, 2))], axis=1).astype(np.float32)


def paste_oracle(mask, box, size):
    """Pad by one, grow the box as much, truncate it, resize into it, cut at the image's border."""
    M = len(mask)
    padded = np.pad(mask, 1)
    half = (box[2:] - box[:2]) * np.float32(0.5) * np.float32((M + 2) / M)
    middle = (box[2:] + box[:2]) * np.float32(0.5)
    (x1, y1), (x2, y2) = np.trunc(middle - half).astype(int), np.trunc(middle + half).astype(int)
    w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    resized = resize_oracle(padded[None, :, :, None], h, w, "bilinear", False)[0, :, :, 0]
    whole = np.zeros(size, np.float32)
    for i in range(h):
        for j in range(w):
            if 0 <= y1 + i < size[0] and 0 <= x1 + j < size[1]:
                whole[y1 + i, x1 + j] = resized[i, j]
    return whole


@given(sides, sides, st.sampled_from([1, 4, 28]), seeds)
def test_paste(device, height, width, M, seed):
    rng = np.random.default_rng(seed)
    masks, boxes = rng.random((3, M, M)).astype(np.float32), boxes_of(rng, 3, (height, width))
    found = paste_masks(ts.tensor(masks, device), boxes, (height, width)).numpy()
    for mask, box, whole in zip(masks, boxes, found):
        np.testing.assert_allclose(whole, paste_oracle(mask, box, (height, width)), atol=1e-5)


def test_a_full_mask_fills_its_box(device):
    whole = paste_masks(ts.tensor(np.ones((1, 28, 28), np.float32), device), [[10, 20, 50, 44]], (60, 70)).numpy()[0]
    expected = np.zeros((60, 70), bool)
    expected[20:44, 10:50] = True
    wrong = np.argwhere((whole >= 0.5) != expected)
    assert len(wrong) < 2 * (24 + 40) and whole[22:42, 12:48].min() > 0.9999  # whole pixels: the edge may be off by one


@given(sides, sides, seeds)
def test_crop_is_roi_align_of_the_whole_mask(device, height, width, seed):
    rng = np.random.default_rng(seed)
    bits, places, whole = [], [], np.zeros((3, height, width, 1), np.float32)
    for m in range(3):
        top, left = rng.integers(0, height), rng.integers(0, width)
        rows, columns = rng.integers(0, height - top + 1), rng.integers(0, width - left + 1)
        bits.append((rng.random((rows, columns)) > 0.4).astype(np.uint8))
        places.append([top, left, rows, columns])
        whole[m, top : top + rows, left : left + columns, 0] = bits[-1]
    boxes, which = boxes_of(rng, 4, (height, width)), rng.integers(0, 3, 4)
    found = crop_masks(bits, places, which, boxes, (height, width), (3, 5), device)
    np.testing.assert_allclose(found.numpy(), roi_align_oracle(whole, boxes, which, (3, 5))[..., 0], atol=1e-5)


def test_nothing(device):
    assert paste_masks(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4)), (5, 6)).shape == (0, 5, 6)
    assert crop_masks([], [], [], np.zeros((0, 4)), (5, 6), 28, device).shape == (0, 28, 28)


def test_errors(device):
    mask, box = np.zeros((1, 4, 4), np.float32), np.float32([[0, 0, 2, 2]])
    for function, arguments, message in [
        (paste_masks, (ts.tensor(mask[:, :3], device), box, (5, 5)), r"expected \(R,M,M\) and \(R,4\)"),
        (paste_masks, (ts.tensor(mask, device), box, (0, 5)), "size is"),
        (paste_masks, (ts.tensor(mask, device), box * np.nan, (5, 5)), "finite"),
        (crop_masks, ([mask[0]], [[0, 0, 4, 3]], [0], box, (5, 5), 2, device), "of that size"),
        (crop_masks, ([mask[0]], [[0, 0, 4, 4]], [1], box, (5, 5), 2, device), r"expected 0..0"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(*arguments)
