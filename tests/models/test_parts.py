"""Pooled context against its equation, and what it does where there is nothing to normalise by."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import nn
from tinyseg.models.parts import PooledContext, resize


def images(n, h=7, w=5, c=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, h, w, c)).astype(np.float32)


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_pooled_context_is_its_equation(bins):
    model, x = PooledContext(3, 4, bins, align_corners=True), images(2)
    model.reset_parameters(0)
    h, w = x.shape[1:3]
    rows = [(i * h // bins, -(-(i + 1) * h // bins)) for i in range(bins)]
    columns = [(i * w // bins, -(-(i + 1) * w // bins)) for i in range(bins)]
    means = np.array([[x[:, a:b, c:d].mean((1, 2)) for c, d in columns] for a, b in rows]).transpose(2, 0, 1, 3)
    y = means @ model[1].weight.numpy()[0, 0]
    y = np.maximum((y - y.mean((0, 1, 2))) / np.sqrt(y.var((0, 1, 2)) + 1e-5), 0)
    expected = resize(ts.tensor(y), ts.tensor(x), align_corners=True).numpy()
    np.testing.assert_allclose(model(ts.tensor(x)).numpy(), expected, atol=2e-5)


def test_one_image_and_one_bin_use_the_running_statistics_and_leave_them():
    model = PooledContext(3, 16)
    model.reset_parameters(0)
    model(ts.tensor(images(4)))  # moves them
    before = model.state_dict()
    y = model(ts.tensor(images(1, seed=1)))
    y.sum().backward()
    assert all(np.array_equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad.numpy().any() for p in model.parameters())
    np.testing.assert_array_equal(y.numpy(), model.eval()(ts.tensor(images(1, seed=1))).numpy())


@pytest.mark.parametrize("name", ["pspnet50", "deeplabv3_resnet50", "deeplabv3plus_resnet50"])
def test_models_with_image_pooling_train_on_a_single_image(name):
    model = ts.models.create(name, 3, width=4, aux=False)
    model(ts.tensor(images(1, 40, 33))).sum().backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters())


def test_a_batch_that_leaves_nothing_to_normalise_is_told_so():
    with pytest.raises(ValueError, match="training needs at least 2 values for each channel.*cure"):
        ts.models.create("deeplabv3_resnet50", 3, width=4)(ts.tensor(images(1, 8, 8)))
    with pytest.raises(ValueError, match="larger batch"):
        nn.BatchNorm2d(3)(ts.tensor(images(1, 1, 1)))
