import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops import multiscale_roi_align, roi_align

from ..strategies import float_dtypes, normal, seeds
from .repeat import assert_bits_repeat

sizes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 8]))
options = st.fixed_dictionaries({
    "output_size": st.sampled_from([1, 2, (3, 2)]), "spatial_scale": st.sampled_from([1.0, 0.5]),
    "sampling_ratio": st.sampled_from([0, 1, 2, 3]), "aligned": st.booleans(),
})  # fmt: skip


def boxes_for(shape, seed, count=5):
    """Boxes inside, over the edge, smaller than a pixel and far outside, and the image of each."""
    rng = np.random.default_rng(seed)
    n, h, w, _ = shape
    corner = rng.uniform(-4, 2 * max(h, w), (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 2 * max(h, w), (count, 2))], axis=1)
    boxes[0] = [0.3, 0.4, 0.5, 0.6]
    return boxes.astype(np.float32), rng.integers(0, n, count)


def bilinear(image, y, x):
    """The image (H,W,C) at a point, by the rules of torchvision."""
    h, w = image.shape[:2]
    if y < -1 or y > h or x < -1 or x > w:
        return np.zeros(image.shape[2])
    y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
    top, left = int(y), int(x)
    below, right = min(top + 1, h - 1), min(left + 1, w - 1)
    dy, dx = y - top, x - left
    return ((1 - dy) * ((1 - dx) * image[top, left] + dx * image[top, right])
            + dy * ((1 - dx) * image[below, left] + dx * image[below, right]))  # fmt: skip


def oracle(x, boxes, images, output_size, spatial_scale=1.0, sampling_ratio=0, aligned=False):
    P, Q = output_size if isinstance(output_size, tuple) else (output_size, output_size)
    y = np.zeros((len(boxes), P, Q, x.shape[3]))
    for r, (box, n) in enumerate(zip(boxes.astype(x.dtype), images)):
        x1, y1, x2, y2 = box * x.dtype.type(spatial_scale) - x.dtype.type(0.5 * aligned)
        height, width = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1), max(x2 - x1, 1))
        bin_h, bin_w = height / x.dtype.type(P), width / x.dtype.type(Q)
        S = sampling_ratio or int(np.ceil(bin_h))
        T = sampling_ratio or int(np.ceil(bin_w))
        for p in range(P):
            for q in range(Q):
                points = [bilinear(x[n], y1 + (p + (s + 0.5) / S) * bin_h, x1 + (q + (t + 0.5) / T) * bin_w)
                          for s in range(S) for t in range(T)]  # fmt: skip
                y[r, p, q] = np.sum(points, axis=0) / max(len(points), 1) if points else 0
    return y


@given(sizes, options, float_dtypes, seeds)
def test_value(device, shape, options, dtype, seed):
    x, (boxes, images) = normal(shape, seed, dtype), boxes_for(shape, seed)
    y = roi_align(ts.tensor(x, device), boxes, images, **options)
    expected = oracle(x, boxes, images, **options)
    assert y.shape == expected.shape and y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-5 if dtype == np.float32 else 1e-12)


@given(sizes, options, seeds)
def test_adjoint(device, shape, options, seed):
    boxes, images = boxes_for(shape, seed)
    ts.adjoint_check(lambda x: roi_align(x, boxes, images, **options), normal(shape, seed), device=device)


def test_a_ramp_gives_the_middle_of_each_bin(device):
    """Bilinear interpolation is exact on a plane, whatever the points. PAPERS: He et al. 2017, RoIAlign."""
    h, w = np.mgrid[:20, :30].astype(np.float64)
    x = np.stack([h, w, 2 * h - w], axis=-1)[None]
    boxes = np.array([[3.0, 4.0, 17.0, 12.0], [5.25, 2.5, 26.0, 16.75]])
    for ratio in (0, 1, 2, 4):
        y = roi_align(ts.tensor(x, device), boxes, [0, 0], (4, 7), sampling_ratio=ratio).numpy()
        for (x1, y1, x2, y2), bins in zip(boxes, y):
            v, u = np.meshgrid(x1 + (np.arange(7) + 0.5) * (x2 - x1) / 7, y1 + (np.arange(4) + 0.5) * (y2 - y1) / 4)
            np.testing.assert_allclose(bins, np.stack([u, v, 2 * u - v], axis=-1), atol=1e-12)


def test_levels(device):
    """Each box reads the map of its level alone, and gives its gradient to it alone."""
    maps = [normal((2, 8 >> i, 12 >> i, 3), i) for i in range(3)]
    corner = np.random.default_rng(3).uniform(0, 5, (7, 2))
    boxes, images = np.concatenate([corner, corner + 3], axis=1), np.array([0, 1, 0, 1, 1, 0, 0])
    levels, scales = np.array([2, 0, 0, 2, 0, 2, 0]), (1.0, 0.5, 0.25)
    tensors = [ts.tensor(x, device, requires_grad=True) for x in maps]
    y = multiscale_roi_align(tensors, boxes, images, levels, 2, scales, 2)
    for level in (0, 2):
        own = levels == level
        expected = oracle(maps[level], boxes[own], images[own], 2, scales[level], 2)
        np.testing.assert_allclose(y.numpy()[own], expected, atol=1e-12)
    y.sum().backward()
    assert tensors[0].grad.numpy().any() and tensors[2].grad.numpy().any() and not tensors[1].grad.numpy().any()


def test_no_boxes_and_threads(device):
    x = normal((2, 9, 7, 5), 0, np.float32)
    leaf = ts.tensor(x, device, requires_grad=True)
    y = roi_align(leaf, np.zeros((0, 4)), np.zeros(0, int), 7)
    assert y.shape == (0, 7, 7, 5)
    (y.sum() + leaf.sum() * 0).backward()
    assert not leaf.grad.numpy().any()
    boxes, images = boxes_for(x.shape, 1, 30)
    assert_bits_repeat(lambda x: roi_align(x, boxes, images, 3), x, device=device)


def test_errors(device):
    x, box = ts.tensor(np.zeros((1, 4, 4, 2), np.float32), device), np.float32([[0, 0, 2, 2]])
    for arguments, message in [
        ((x[0], box, [0], 2), r"expected \(N,H,W,C\)"),
        ((x, box[:, :3], [0], 2), r"boxes are float32 of shape \(1, 3\)"),
        ((x, box * np.nan, [0], 2), "box 0 is .* expected finite"),
        ((x, box, [0, 0], 2), "batch_index is .* expected integers"),
        ((x, box, [0.5], 2), "batch_index is float64"),
        ((x, box, [1], 2), "batch_index from 1 to 1, expected 0 to 0"),
        ((x, box, [0], 0), "output_size is 0"),
        ((x, box, [0], 2, 0.0), "spatial_scale"),
        ((x[:, :0], box, [0], 2), "no pixels"),
    ]:
        with pytest.raises(ValueError, match=message):
            roi_align(*arguments)
    with pytest.raises(ValueError, match="levels from 2 to 2"):
        multiscale_roi_align((x, x), box, [0], [2], 2, (1, 0.5))
    with pytest.raises(ValueError, match="a scale for each map"):
        multiscale_roi_align((x, x), box, [0], [1], 2, (1,))
