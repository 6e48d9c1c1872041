"""Losses from boxes against masks painted pixel by pixel and the papers' equations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tests.strategies import seeds
from tinyseg import losses
from tinyseg.losses.boxes import box_masks, box_pairwise, box_projection, boxinst, segment_boxes
from tinyseg.structured import lab_of

K, H, W = 3, 7, 8


def some_boxes(seed, count=3):
    rng = np.random.default_rng(seed)
    x1, y1 = rng.integers(0, W - 2, count), rng.integers(0, H - 2, count)
    x2, y2 = x1 + rng.integers(1, 5, count), y1 + rng.integers(1, 5, count)
    return np.stack([x1, y1, x2, y2, rng.integers(1, K, count)], axis=1).astype(np.float64)


def drawn(seed, n=2):
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal((n, H, W, K)), [some_boxes([seed, i], i + 1) for i in range(n)]


def covers(box, y, x):
    return box[0] < x + 0.5 < box[2] and box[1] < y + 0.5 < box[3]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@given(seeds, st.sampled_from([0, None]))
def test_rect_paints_the_smaller_box_on_top(seed, background):
    boxes = some_boxes(seed)
    mask = box_masks(boxes, (H, W), background)
    for y, x in np.ndindex(H, W):
        areas = [((b[2] - b[0]) * (b[3] - b[1]), -i, b[4]) for i, b in enumerate(boxes) if covers(b, y, x)]
        expected = min(areas)[2] if areas else 255 if background is None else background
        assert mask[y, x] == expected


@given(seeds)
def test_rect_and_em_fixed_are_cross_entropy(device, seed):
    x, boxes = drawn(seed)
    rect, em = np.zeros((2, H, W), np.int32), np.zeros((2, H, W), np.int32)
    for n, y, z in np.ndindex(2, H, W):
        rect[n, y, z] = box_masks(boxes[n], (H, W))[y, z]
        scores = {0: x[n, y, z, 0] + 1} | {int(b[4]): x[n, y, z, int(b[4])] + 2 for b in boxes[n] if covers(b, y, z)}
        em[n, y, z] = max(scores, key=scores.get)
    t = ts.tensor(x, device)
    assert losses.bbox_rect(t, boxes).item() == pytest.approx(ts.ops.cross_entropy(ts.tensor(x), rect).item())
    assert losses.bbox_em_fixed(t, boxes).item() == pytest.approx(ts.ops.cross_entropy(ts.tensor(x), em).item())


@given(seeds)
def test_without_a_background(device, seed):
    """Pixels are of a class whose boxes cover them; what no box covers is unknown, and has no gradient but of pairs."""
    x, boxes = drawn(seed)
    em = np.full((2, H, W), 255, np.int32)
    for n, y, z in np.ndindex(2, H, W):
        scores = {int(b[4]): x[n, y, z, int(b[4])] for b in boxes[n] if covers(b, y, z)}
        em[n, y, z] = max(scores, key=scores.get, default=255)
    found = losses.bbox_em_fixed(ts.tensor(x, device), boxes, background=None)
    assert found.item() == pytest.approx(ts.ops.cross_entropy(ts.tensor(x), em).item())
    images = np.random.default_rng(seed).integers(0, 256, (2, H, W, 3), dtype=np.uint8)
    for n in range(2):
        mask = segment_boxes(images[n], boxes[n], K, None)
        assert np.array_equal(mask == 255, box_masks(boxes[n], (H, W), None) == 255)
        for y, z in np.argwhere(mask != 255):
            assert mask[y, z] in {int(b[4]) for b in boxes[n] if covers(b, y, z)}
    outside = np.stack([box_masks(b, (H, W), None) == 255 for b in boxes])
    t = ts.tensor(x, device, requires_grad=True)
    boxinst(t, [b[:1] for b in boxes], images, pairwise=0, background=None).backward()
    k = [int(b[0, 4]) for b in boxes]
    assert np.isfinite(t.grad.numpy()).all() and outside.any()
    inside = ~np.stack([box_masks(b[:1], (H, W), None) == 255 for b in boxes])
    away = losses.bbox_rect(ts.tensor(x, device), [b[:1] for b in boxes], background=None).item()
    labels = np.where(inside, np.array(k)[:, None, None], 255)
    assert away == pytest.approx(ts.ops.cross_entropy(ts.tensor(x), labels.astype(np.int32)).item())


def test_the_core_of_a_box_has_its_share_of_the_area():
    core = box_masks(np.array([[10, 20, 60, 100, 1.0]]), (120, 90), None, core=0.2) == 1
    assert core.sum() == pytest.approx(0.2 * 50 * 80, rel=0.05)
    y, x = np.nonzero(core)
    assert (y.mean(), x.mean()) == pytest.approx((59.5, 34.5), abs=0.51)


def test_bbox_seg_finds_a_disc_in_its_box():
    y, x = np.mgrid[:40, :48]
    disc = np.hypot(y - 18, x - 22) < 11
    image = np.where(disc[..., None], [200, 40, 40], [40, 90, 160])
    image += np.random.default_rng(0).integers(0, 12, image.shape)
    box = np.array([[11, 7, 34, 30, 2.0]])
    mask = segment_boxes(image.astype(np.uint8), box, 3)
    rect = box_masks(box, (40, 48))
    assert (mask == 2 * disc).mean() > 0.99 > (rect == 2 * disc).mean()
    assert not mask[rect == 0].any()  # a class never leaves its box
    assert not segment_boxes(image.astype(np.uint8), np.zeros((0, 5)), 3).any()


def dice(a, b):
    return 1 - 2 * (a * b).sum() / ((a * a).sum() + (b * b).sum() + 1e-5)


@given(seeds)
def test_projection_by_its_equation(device, seed):
    rng, boxes = np.random.default_rng(seed), some_boxes(seed, 2)
    m, expected = rng.random((2, H, W)), 0.0
    for i in range(2):
        b = np.array([[covers(boxes[i], y, x) for x in range(W)] for y in range(H)], float)
        expected += (dice(m[i].max(0), b.max(0)) + dice(m[i].max(1), b.max(1))) / 2
    assert box_projection(ts.tensor(m, device), boxes).item() == pytest.approx(expected)


@given(seeds)
def test_pairwise_by_its_equation(device, seed):
    rng = np.random.default_rng(seed)
    image = rng.choice([40, 43, 200], (1, H, W, 3)).astype(np.uint8)
    p, inside, lab = softmax(rng.standard_normal((1, H, W, 2))), rng.random((1, H, W)) < 0.5, lab_of(image[0])[None]
    values = []
    for y, x in np.argwhere(inside[0]):
        for dy, dx in ((-2, -2), (-2, 0), (-2, 2), (0, -2), (0, 2), (2, -2), (2, 0), (2, 2)):
            if 0 <= y + dy < H and 0 <= x + dx < W:
                alike = np.exp(-np.linalg.norm(lab[0, y, x] - lab[0, y + dy, x + dx]) * 0.5) >= 0.3
                values += [-np.log((p[0, y, x] * p[0, y + dy, x + dx]).sum())] * int(alike)
    assert box_pairwise(ts.tensor(p, device), image, inside).item() == pytest.approx(np.mean(values or [0]), abs=1e-9)


def test_gradients(device):
    x, boxes = drawn(5)
    images = np.random.default_rng(0).integers(100, 106, (2, H, W, 3)).astype(np.uint8)
    ts.gradcheck(lambda t: losses.bbox_rect(t, boxes), x, device=device)
    ts.gradcheck(lambda t: boxinst(t, boxes, images), x, device=device)
    no_box = [np.zeros((0, 5)), boxes[1]]
    ts.gradcheck(lambda t: boxinst(t, no_box, images), x, device=device)


def test_boxinst_falls_where_masks_fill_their_boxes():
    boxes, image = [np.array([[2, 1, 6, 5, 1.0]])], np.zeros((1, H, W, 3), np.uint8)
    full = np.zeros((1, H, W, K))
    full[0, 1:5, 2:6, 1] = full[0, :, :, 0] = 8
    full[0, 1:5, 2:6, 0] = 0
    empty = np.zeros((1, H, W, K)) + [8.0, 0, 0]
    # one colour all over: without the pairwise term, which would have one label all over
    assert boxinst(ts.tensor(full), boxes, image, pairwise=0).item() < 0.05
    assert boxinst(ts.tensor(empty), boxes, image, pairwise=0).item() > 1


@pytest.mark.parametrize("name", ["bbox_rect", "bbox_em_fixed"])
def test_errors(name):
    loss, x = getattr(losses, name), ts.tensor(np.zeros((1, H, W, K)))
    with pytest.raises(ValueError, match=f"{name}: 2 arrays of boxes for logits"):
        loss(x, [np.zeros((0, 5))] * 2)
    with pytest.raises(ValueError, match=f"{name}: boxes of image 0 are .1, 4., expected .B,5."):
        loss(x, [np.ones((1, 4))])
    with pytest.raises(ValueError, match="expected x1 < x2, y1 < y2 and a class from 0 to 2; cure: x1, y1, x2, y2"):
        loss(x, [np.array([[5, 1, 2, 3, 1]])])
    with pytest.raises(ValueError, match="boxinst: images are"):
        boxinst(x, [np.zeros((0, 5))], np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="box_projection: masks are"):
        box_projection(x, np.zeros((1, 5)))
