"""Weak labels from masks: they say nothing that the mask does not, and say it of every thing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import seeds
from tinyseg.data import Shapes, weaken


def drawn(seed, shape=(40, 50)):
    """A mask of discs and rectangles on background, some of it ignored, and instances."""
    rng = np.random.default_rng(seed)
    mask, instances = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    y, x = np.ogrid[: shape[0], : shape[1]]
    for i in range(1, 4):
        cy, cx, r = rng.integers(5, shape[0] - 5), rng.integers(5, shape[1] - 5), rng.integers(3, 9)
        inside = np.hypot(y - cy, x - cx) < r if rng.random() < 0.5 else (abs(y - cy) < r) & (abs(x - cx) < r / 2)
        mask[inside], instances[inside] = rng.integers(1, 4), i
    mask[:2] = 255
    instances[:2] = 0
    return mask, instances


@given(seeds, st.sampled_from([0.0, 0.3, 1.0]), st.integers(1, 4), st.booleans())
def test_scribbles_are_true_and_cross_everything(seed, length, width, with_instances):
    mask, instances = drawn(seed)
    instances = instances if with_instances else None
    drawn_on = weaken.scribbles(mask, instances, length, width, seed)
    labelled = drawn_on != 255
    assert drawn_on.dtype == np.int32 and np.array_equal(drawn_on[labelled], mask[labelled])
    for k, window, thing in weaken.things(mask, instances):
        assert (drawn_on[window][thing] == k).any()
    assert set(np.unique(drawn_on)) - {255} == set(np.unique(mask)) - {255}
    assert np.array_equal(drawn_on, weaken.scribbles(mask, instances, length, width, seed))


def test_a_whole_scribble_is_long_and_a_part_has_its_length():
    """At least 70 % of the longer side, as ScribbleSup's annotators were asked for; then in proportion."""
    mask = np.zeros((60, 120), np.int32)
    mask[20:40, 10:110] = 1
    lengths = {}
    for length in (1.0, 0.5, 0.0):
        x = np.nonzero(weaken.scribbles(mask, None, length, width=1, seed=3) == 1)[1]
        lengths[length] = x.max() - x.min() + 1
    assert 0.7 * 100 <= lengths[1.0] <= 100 and lengths[0.5] == pytest.approx(lengths[1.0] / 2, abs=5)
    assert lengths[0.0] <= 2


def test_a_scribble_keeps_to_the_middle():
    """Around a ring, however it sways, the pixels of a scribble are deeper than the ring's average."""
    y, x = np.mgrid[:80, :80]
    ring = abs(np.hypot(y - 40, x - 40) - 28) < 8
    depths = []
    for seed in range(5):
        on = weaken.scribbles(ring.astype(np.int32), None, 1.0, 1, seed) == 1
        depths.append((8 - abs(np.hypot(y - 40, x - 40) - 28))[on].mean())
        angles = np.arctan2(y[on] - 40, x[on] - 40)
        assert len(np.unique(np.round(angles, 1))) > 25  # it goes round most of a half
    assert np.mean(depths) > 4


@given(seeds)
def test_points_lie_well_inside(seed):
    mask, instances = drawn(seed)
    points = weaken.points(mask, instances, seed)
    assert len(points) == len(weaken.things(mask, instances))
    assert all(mask[y, x] == k for k, x, y in points)


@given(seeds, st.sampled_from([0, None]))
def test_boxes_are_tight(seed, background):
    mask, instances = drawn(seed)
    boxes = weaken.boxes(mask, instances, background)
    assert boxes.dtype == np.float32 and boxes.shape[1:] == (5,)
    for x1, y1, x2, y2, k in boxes.astype(int):
        inside = mask[y1:y2, x1:x2] == k
        assert k != background and all(side.any() for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_small_things_are_passed_over_unless_alone():
    mask = np.zeros((100, 100), np.int32)
    mask[5:30, 5:30] = mask[50, 50] = 1
    mask[80, 80] = 2
    assert [(k, thing.sum()) for k, _, thing in weaken.things(mask)][1:] == [(1, 625), (2, 1)]


def test_tags():
    assert weaken.tags(np.array([[0, 3], [255, 3]]), 5).tolist() == [True, False, False, True, False]


def test_shapes_have_a_scribble_for_each_instance():
    sample = Shapes(size=48, length=3, seed=5)[2]
    drawn_on = weaken.scribbles(sample.mask, sample.instances, seed=1)
    assert all((drawn_on[sample.instances == i] != 255).any() for i in range(1, sample.instances.max() + 1))


def test_errors():
    with pytest.raises(ValueError, match="length=1.5, width=3; expected a part in .0, 1."):
        weaken.scribbles(np.zeros((4, 4), np.int32), length=1.5)
