from types import SimpleNamespace

import numpy as np
from hypothesis import given

from tinyseg import rle
from tinyseg.models.mask_rcnn.box_coding import BOX_WEIGHTS, decode
from tinyseg.models.mask_rcnn.detections import Detections, select

from ...ops.test_boxes import nms_oracle
from ...strategies import seeds


@given(seeds)
def test_selection_step_by_step(device, seed):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((9, 4))
    scores = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    corner = rng.uniform(0, 30, (9, 2))
    proposals = np.concatenate([corner, corner + rng.uniform(2, 20, (9, 2))], axis=1).astype(np.float32)
    offsets = rng.standard_normal((9, 4, 4)).astype(np.float32)
    heads = SimpleNamespace(score=0.1, suppression=0.5, most=5)
    found = select(scores, offsets, proposals, (32, 40), heads, device)
    expected = []
    for k in (1, 2, 3):
        boxes = np.clip(decode(offsets[:, k], proposals, BOX_WEIGHTS), 0, [40, 32, 40, 32])
        good = np.flatnonzero((scores[:, k] > 0.1) & ((boxes[:, 2:] - boxes[:, :2]) >= 0.01).all(1))
        kept = good[nms_oracle(boxes[good], scores[good, k], 0.5)]
        expected += [(scores[i, k], k, boxes[i]) for i in kept]
    expected = sorted(expected, key=lambda e: -e[0])[:5]
    assert found.labels.tolist() == [k for _, k, _ in expected]
    np.testing.assert_allclose(found.scores, [s for s, _, _ in expected])
    np.testing.assert_allclose(found.boxes, np.reshape([b for _, _, b in expected], (-1, 4)), atol=1e-4)


def test_masks_in_the_image():
    masks = np.zeros((2, 28, 28), np.float32)
    masks[0], masks[1, :14] = 1, 1
    found = Detections((40, 60), np.float32([[10, 10, 30, 30], [5, 5, 25, 35]]), np.array([1, 2]),
                       np.float32([0.9, 0.5]), masks)  # fmt: skip
    assert found.mask(0)[12:28, 12:28].all() and not found.mask(0)[:8].any()
    assert found.mask(1)[6:18, 6:24].all() and not found.mask(1)[22:].any()
    np.testing.assert_array_equal(rle.decode(rle.from_text(found.rle(0)["counts"]), (40, 60)), found.mask(0))
    ids = found.instances()
    assert ids[15, 15] == 1 and ids[7, 7] == 2 and ids[35, 50] == 0  # the better one on top
    double = found.resized((80, 120))
    assert double.boxes[0].tolist() == [20, 20, 60, 60] and double.mask(0).shape == (80, 120)
    assert len(found.take(found.scores > 0.6)) == 1
