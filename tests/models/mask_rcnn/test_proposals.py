import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.models.mask_rcnn.proposals import propose, sigmoid, top

from ...ops.test_boxes import nms_oracle
from ...strategies import seeds


@given(st.integers(0, 30), st.integers(1, 30), seeds)
def test_top(size, count, seed):
    values = np.random.default_rng(seed).integers(0, 9, size).astype(np.float32)
    assert top(values, count).tolist() == sorted(range(size), key=lambda i: (-values[i], i))[:count]


def test_sigmoid_at_both_ends():
    np.testing.assert_allclose(sigmoid(np.float32([-100, 0, 100])), [0, 0.5, 1], atol=1e-30)


@given(st.integers(1, 12), st.integers(1, 9), seeds)
def test_level_by_level(device, before, after, seed):
    """Offsets of 0, so that boxes are the clipped anchors: the steps one after the other."""
    rng, levels = np.random.default_rng(seed), []
    for count in (14, 5):
        corner = rng.uniform(-9, 25, (count, 2))
        anchors = np.concatenate([corner, corner + rng.uniform(1, 15, (count, 2))], axis=1).astype(np.float32)
        levels.append((rng.standard_normal(count).astype(np.float32), np.zeros((count, 4), np.float32), anchors))
    boxes, scores = propose(*zip(*levels), (20, 25), before, after, 0.7, device)
    expected = []
    for logits, _, anchors in levels:
        best = np.argsort(-logits, kind="stable")[:before]
        clipped = np.clip(anchors[best], 0, [25, 20, 25, 20])
        large = ((clipped[:, 2:] - clipped[:, :2]) >= 1e-3).all(1)
        clipped, logits = clipped[large], logits[best][large]
        expected += [(logits[i], clipped[i]) for i in nms_oracle(clipped, logits, 0.7)]
    expected = sorted(expected, key=lambda e: -e[0])[:after]
    np.testing.assert_allclose(boxes, np.reshape([b for _, b in expected], (-1, 4)), atol=1e-4)
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(-s)) for s, _ in expected], rtol=1e-5)
