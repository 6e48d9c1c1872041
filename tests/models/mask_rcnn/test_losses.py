import numpy as np
from hypothesis import given

import tinyseg as ts
from tinyseg.models.mask_rcnn import losses

from ...strategies import normal, seeds


@given(seeds)
def test_values_and_gradients(device, seed):
    x, rng = normal((5, 4), seed), np.random.default_rng(seed)
    t, labels = rng.random((5, 4)), rng.integers(0, 4, 5)
    p = 1 / (1 + np.exp(-x))
    found = losses.binary_cross_entropy(ts.tensor(x, device), t).item()
    np.testing.assert_allclose(found, -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(), rtol=1e-9)
    d = np.abs(x - t)
    expected = np.where(d < 1 / 9, d * d / (2 / 9), d - 1 / 18).sum()
    np.testing.assert_allclose(losses.smooth_l1(ts.tensor(x, device), t).item(), expected, rtol=1e-9)
    softmax = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    found = losses.cross_entropy(ts.tensor(x, device), labels).item()
    np.testing.assert_allclose(found, -np.log(softmax[np.arange(5), labels]).mean(), rtol=1e-9)
    for loss in (losses.binary_cross_entropy, losses.smooth_l1):
        ts.gradcheck(lambda x: loss(x, t), x, device=device)  # noqa: B023


@given(seeds)
def test_of_class(device, seed):
    labels = np.random.default_rng(seed).integers(0, 3, 4)
    for shape in ((4, 3), (4, 2, 3), (4, 2, 5, 3)):
        x = normal(shape, seed)
        y = losses.OfClass(labels)(ts.tensor(x, device)).numpy()
        np.testing.assert_array_equal(y, [x[r, ..., k] for r, k in enumerate(labels)])
        ts.adjoint_check(lambda x: losses.OfClass(labels)(x), x, device=device)
