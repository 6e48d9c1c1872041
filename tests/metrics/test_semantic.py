"""Metrics against loops written from the equations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import seeds
from tinyseg.distance import distance_transform
from tinyseg.metrics import ConfusionMatrix, boundary_f_score


def maps(seed, classes, shape=(2, 7, 9), ignore=0.2):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, shape)
    target[rng.random(shape) < ignore] = 255
    return rng.integers(0, classes, shape), target


@given(seeds, st.integers(1, 5))
def test_scores_follow_the_definitions(seed, classes):
    pred, target = maps(seed, classes)
    confusion = ConfusionMatrix(classes)
    for p, t in zip(pred, target):  # accumulated over the set
        confusion.update(p, t)

    n = [[np.sum((target == i) & (pred == j)) for j in range(classes)] for i in range(classes)]
    t = [sum(n[i]) for i in range(classes)]
    iou = [np.nan] * classes
    for i in range(classes):
        union = t[i] + sum(n[j][i] for j in range(classes)) - n[i][i]
        if union:
            iou[i] = n[i][i] / union
    assert np.array_equal(confusion.matrix, n)
    np.testing.assert_allclose(confusion.iou(), iou)
    np.testing.assert_allclose(confusion.pixel_accuracy(), sum(n[i][i] for i in range(classes)) / sum(t))
    recalls = [n[i][i] / t[i] for i in range(classes) if t[i]]
    np.testing.assert_allclose(confusion.mean_accuracy(), np.mean(recalls))
    np.testing.assert_allclose(confusion.mean_iou(), np.nanmean(iou))
    np.testing.assert_allclose(confusion.frequency_weighted_iou(), sum(a * b for a, b in zip(t, iou) if a) / sum(t))
    np.testing.assert_allclose(confusion.frequency(), np.array(t) / sum(t))


def test_absent_class_is_nan_and_left_out_of_the_mean():
    confusion = ConfusionMatrix(3)
    confusion.update(np.array([0, 0, 1]), np.array([0, 0, 1]))
    assert np.array_equal(confusion.iou(), [1, 1, np.nan], equal_nan=True)
    assert confusion.mean_iou() == 1 and confusion.mean_accuracy() == 1


@pytest.mark.parametrize("dtype", "bhilBHIL")
def test_every_kind_of_integer_counts(dtype):
    confusion = ConfusionMatrix(3)
    confusion.update(np.array([0, 1, 2, 2], dtype), np.array([0, 1, 2, 1], dtype))
    assert confusion.matrix.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_without_pixels_every_score_is_nan():
    confusion = ConfusionMatrix(2)
    confusion.update(np.zeros((3, 3), int), np.full((3, 3), 255))
    assert np.isnan([confusion.pixel_accuracy(), confusion.mean_iou(), confusion.mean_accuracy()]).all()
    assert np.isnan(confusion.frequency_weighted_iou())


def test_what_is_predicted_at_ignored_pixels_does_not_matter():
    confusion = ConfusionMatrix(2)
    confusion.update(np.array([1, 77]), np.array([1, 255], np.uint8))
    assert confusion.matrix.tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("pred, target, error, words", [
    (np.zeros(3, int), np.zeros(4, int), ValueError, r"pred is \(3,\) but target is \(4,\)"),
    (np.zeros((3, 2)), np.zeros(3, int), TypeError, r"argmax"),
    (np.array([0, 1]), np.array([0, 254]), ValueError, "target holds class ids 254, expected 0 to 1 or 255"),
    (np.array([0, 5]), np.array([0, 1]), ValueError, "pred holds class ids 5"),
    (np.array([0, -1]), np.array([0, 1]), ValueError, "pred holds class ids -1"),
])  # fmt: skip
def test_bad_labels_are_refused(pred, target, error, words):
    with pytest.raises(error, match=words):
        ConfusionMatrix(2).update(pred, target)


# Boundaries


def boundary_oracle(pred, target, c, radius):
    def boundary(ids):
        points = []
        for y, x in np.argwhere((ids == c) & (target != 255)):
            for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                inside = 0 <= v < ids.shape[0] and 0 <= u < ids.shape[1]
                if inside and target[v, u] != 255 and ids[v, u] != c:
                    points.append((y, x))
                    break
        return points

    def matched(a, b):
        return np.mean([any(np.hypot(y - v, x - u) <= radius for v, u in b) for y, x in a])

    true, found = boundary(target), boundary(pred)
    if not true:
        return np.nan
    if not found:
        return 0
    p, r = matched(found, true), matched(true, found)
    return 2 * p * r / (p + r) if p + r else 0


@given(seeds, st.floats(0, 0.3))
def test_boundary_f_score(seed, tolerance):
    pred, target = maps(seed, 3, (8, 11), ignore=0.1)
    expected = [boundary_oracle(pred, target, c, tolerance * np.hypot(8, 11)) for c in range(3)]
    np.testing.assert_allclose(boundary_f_score(pred, target, 3, tolerance), expected)


def test_boundary_f_score_of_itself_and_of_nothing():
    target = np.zeros((40, 50), int)
    target[10:20, 10:20] = 1
    assert np.array_equal(boundary_f_score(target, target, 3), [1, 1, np.nan], equal_nan=True)
    assert np.array_equal(boundary_f_score(0 * target, target, 2), [0, 0])
    shifted = np.roll(target, 1, axis=0)
    assert np.array_equal(boundary_f_score(shifted, target, 2, tolerance=1.1 / np.hypot(40, 50)), [1, 1])
    with pytest.raises(ValueError, match="one image"):
        boundary_f_score(target[None], target[None], 2)


@given(seeds, st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.05, 0.5]), st.sampled_from([0, 1.5, 3, np.inf]))
def test_distance_transform(seed, height, width, share, limit):
    mask = np.random.default_rng(seed).random((height, width)) < share
    expected = np.full(mask.shape, np.inf)
    for y, x in np.ndindex(mask.shape):
        for v, u in np.argwhere(mask):
            expected[y, x] = min(expected[y, x], np.hypot(y - v, x - u))
    expected[expected > limit] = np.inf
    np.testing.assert_allclose(distance_transform(mask, limit), expected, rtol=1e-6)
