import numpy as np
import pytest

from tinyseg.metrics import PanopticQuality


def test_by_hand():
    """Two things and a ground: one thing found at IoU 3/4, one missed, one invented; the ground at 8/11."""
    true = np.zeros((4, 6), int)
    true[:] = 1
    true[0, :4], true[1, :4] = 2, 3
    true[3] = 0  # void
    found = np.full((4, 6), 1)
    found[0, :3] = 2
    found[2, 3:] = 4
    quality = PanopticQuality(2)
    quality.update(found, {1: 0, 2: 1, 4: 1}, true, {1: 0, 2: 1, 3: 1})
    # ground: 10 true pixels, found on 12 of the image that is no void, 7 common
    assert quality.true_positives.tolist() == [0, 1] or quality.true_positives.tolist() == [1, 1]
    iou_ground = 7 / (10 + 12 - 7)
    assert quality.true_positives[0] == (iou_ground > 0.5) and quality.false_negatives[0] == (iou_ground <= 0.5)
    assert quality.iou_sum[1] == pytest.approx(3 / 4)
    assert quality.false_negatives[1] == 1 and quality.false_positives[1] == 1
    assert quality.pq_of_classes()[1] == pytest.approx(0.75 / 2)
    assert quality.sq_of_classes()[1] == pytest.approx(0.75) and quality.rq_of_classes()[1] == pytest.approx(0.5)


def test_perfect_void_and_crowds():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, (9, 9))
    quality = PanopticQuality(5)
    quality.update(ids, {1: 0, 2: 3, 3: 3}, ids, {1: 0, 2: 3, 3: 3})
    assert quality.pq() == 1 and np.isnan(quality.pq_of_classes()[1])
    quality = PanopticQuality(2)
    found, true = np.array([[1, 1, 2, 2, 3, 3]]), np.array([[0, 0, 5, 5, 6, 6]])
    quality.update(found, {1: 1, 2: 1, 3: 0}, true, {5: 1, 6: 1}, crowd=[5])
    # 1 lies on void and 2 on a crowd of its class: no mistakes; 3 is wrong, and 6 was missed
    assert quality.false_positives.tolist() == [1, 0] and quality.false_negatives.tolist() == [0, 1]
    assert np.isnan(PanopticQuality(2).pq())


def test_errors():
    ids = np.ones((2, 2), int)
    for arguments, message in [
        ((ids, {1: 0}, ids[:1], {1: 0}), "of one shape"),
        ((ids, {}, ids, {1: 0}), "found segment 1 has class None"),
        ((ids, {1: 0}, ids, {1: 7}), "true segment 1 has class 7"),
    ]:
        with pytest.raises(ValueError, match=message):
            PanopticQuality(2).update(*arguments)
