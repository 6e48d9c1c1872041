import math

import numpy as np
from hypothesis import given

from tinyseg.models.mask_rcnn.box_coding import ANCHOR_WEIGHTS, BOX_WEIGHTS, clip, decode, encode, large_enough

from ...strategies import seeds


def boxes_of(seed, count=6):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 40, (count, 2))], axis=1).astype(np.float32)


@given(seeds)
def test_there_and_back(seed):
    boxes, references = boxes_of(seed), boxes_of(seed + 1)
    for weights in (ANCHOR_WEIGHTS, BOX_WEIGHTS):
        offsets = encode(boxes, references, weights)
        np.testing.assert_allclose(decode(offsets, references, weights), boxes, atol=1e-3)
    assert np.abs(encode(boxes, boxes, BOX_WEIGHTS)).max() < 1e-5


def test_by_hand():
    offsets = encode(np.float32([[10, 20, 30, 60]]), np.float32([[0, 0, 10, 20]]), (10, 10, 5, 5))
    expected = [10 * (20 - 5) / 10, 10 * (40 - 10) / 20, 5 * math.log(2), 5 * math.log(2)]
    np.testing.assert_allclose(offsets[0], expected, rtol=1e-6)


def test_growth_is_limited():
    found = decode(np.float32([[0, 0, 99, 99]]), np.float32([[0, 0, 16, 16]]), ANCHOR_WEIGHTS)
    np.testing.assert_allclose(found[0, 2:] - found[0, :2], 1000, rtol=1e-5)


def test_one_box_a_class():
    references, offsets = boxes_of(0), np.random.default_rng(1).standard_normal((6, 3, 4)).astype(np.float32)
    found = decode(offsets, references[:, None], BOX_WEIGHTS)
    for k in range(3):
        np.testing.assert_allclose(found[:, k], decode(offsets[:, k], references, BOX_WEIGHTS))


def test_clip_and_size():
    assert clip(np.float32([[-3, 4, 99, 99]]), (20, 30)).tolist() == [[0, 4, 30, 20]]
    assert large_enough(np.float32([[0, 0, 1, 1], [0, 0, 1, 0.5], [2, 2, 1, 5]]), 1).tolist() == [True, False, False]
