import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops import batched_nms, box_iou, match_boxes, nms

from ..strategies import float_dtypes, seeds


def boxes_of(seed, count, dtype=np.float32, spread=20):
    """Boxes of half pixels, so that many touch, coincide or have no area."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, spread, (count, 2)) / 2
    return np.concatenate([corner, corner + rng.integers(0, 12, (count, 2)) / 2], axis=1).astype(dtype)


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if union > 0 else 0.0


def nms_oracle(boxes, scores, threshold):
    left, kept = sorted(range(len(boxes)), key=lambda i: (-scores[i], i)), []
    while left:
        best, *left = left
        kept.append(best)
        left = [i for i in left if iou(boxes[best], boxes[i]) <= threshold]
    return kept


@given(st.integers(0, 9), st.integers(0, 9), float_dtypes, seeds)
def test_iou(device, m, n, dtype, seed):
    a, b = boxes_of(seed, m, dtype), boxes_of(seed + 1, n, dtype)
    found = box_iou(ts.tensor(a, device), b)
    assert found.shape == (m, n) and found.dtype == dtype
    np.testing.assert_allclose(found.numpy(), [[iou(u, v) for v in b] for u in a] if n and m else np.zeros((m, n)),
                               atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(found.numpy(), box_iou(ts.tensor(b, device), a).numpy().T, atol=1e-6)
    own = box_iou(ts.tensor(a, device), a).numpy()
    area = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    np.testing.assert_allclose(np.diag(own), area > 0, atol=1e-6)
    assert ((own >= 0) & (own <= 1 + 1e-6)).all()


@given(st.integers(0, 40), st.sampled_from([0.0, 0.3, 0.55, 1.0]), seeds)
def test_nms(device, count, threshold, seed):
    boxes = boxes_of(seed, count, np.float64)
    scores = np.random.default_rng(seed).integers(0, 9, count) / 8
    kept = nms(ts.tensor(boxes, device), scores, threshold).numpy()
    assert kept.dtype == np.int64 and kept.tolist() == nms_oracle(boxes, scores, threshold)


@given(st.integers(0, 40), st.integers(1, 5), seeds)
def test_groups_do_not_see_each_other(device, count, groups, seed):
    boxes, rng = boxes_of(seed, count, np.float64), np.random.default_rng(seed)
    scores, group = rng.permutation(count) / 8.0, rng.integers(-2, groups, count)
    kept = batched_nms(ts.tensor(boxes, device), scores, group, 0.3).numpy()
    expected = [i for g in np.unique(group) for i in np.flatnonzero(group == g)[
        nms_oracle(boxes[group == g], scores[group == g], 0.3)]]  # fmt: skip
    assert kept.tolist() == sorted(expected, key=lambda i: -scores[i])


@given(st.integers(0, 30), st.integers(1, 6), seeds)
def test_matching(device, count, objects, seed):
    boxes, truth = boxes_of(seed, count), boxes_of(seed + 1, objects)
    found, which, best = (t.numpy() for t in match_boxes(ts.tensor(boxes, device), truth))
    table = np.array([[iou(a, b) for b in truth] for a in boxes]).reshape(count, objects)
    np.testing.assert_allclose(found, table.max(1), atol=1e-6)
    np.testing.assert_allclose(table[np.arange(count), which], table.max(1), atol=1e-6)
    if count:
        expected = ((table >= table.max(0) - 1e-7) & (table.max(0) > 0)).any(1)
        np.testing.assert_array_equal(best > 0, expected)


def test_errors(device):
    boxes = ts.tensor(np.float32([[0, 0, 1, 1]]), device)
    for function, arguments, message in [
        (nms, (boxes, [0.5, 0.5], 0.5), "expected one each"),
        (nms, (boxes, [np.nan], 0.5), "score 0 is not finite"),
        (nms, (boxes, [0.5], 1.5), r"iou_threshold is 1.5, expected a number in \[0, 1\]"),
        (nms, (np.float32([[0, 0, np.inf, 1]]), [0.5], 0.5), "box 0 is .*finite"),
        (box_iou, (boxes, np.zeros((2, 3))), r"expected numbers \(R,4\)"),
        (match_boxes, (boxes, np.zeros((0, 4))), "at least one box"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(*arguments)
