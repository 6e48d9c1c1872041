"""Losses and their gradients against PyTorch's."""

import numpy as np
import pytest
from hypothesis import given

import tinyseg as ts
from tests.strategies import seeds

torch = pytest.importorskip("torch")
F = torch.nn.functional


def drawn(seed, classes):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, (2, 5, 4))
    target[rng.random(target.shape) < 0.2] = 255
    target[0, 0, 0] = 0
    return 3 * rng.standard_normal((*target.shape, classes)), target, rng.random(classes) + 0.5


def agree(ours, x, theirs, y):
    ours.backward()
    theirs.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-7, atol=1e-12)


@given(seeds)
def test_cross_entropy(seed):
    logits, target, weight = drawn(seed, 4)
    x, y = ts.tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    t = torch.tensor(target)
    ours = ts.losses.cross_entropy(x, target, weight=weight, label_smoothing=0.1)
    options = {"weight": torch.tensor(weight), "ignore_index": 255, "label_smoothing": 0.1}
    agree(ours, x, F.cross_entropy(y.permute(0, 3, 1, 2), t, **options), y)


@given(seeds)
def test_binary_cross_entropy(seed):
    logits, target, weight = drawn(seed, 2)
    x = ts.tensor(logits[..., :1], requires_grad=True)
    y = torch.tensor(logits[..., :1], requires_grad=True)
    u = torch.tensor(np.where(target == 255, 0, weight[np.minimum(target, 1)]))
    t = torch.tensor((target == 1).astype(float))
    theirs = F.binary_cross_entropy_with_logits(y[..., 0], t, weight=u, reduction="sum") / u.sum()
    agree(ts.losses.binary_cross_entropy(x, target, weight=weight), x, theirs, y)


@given(seeds)
def test_focal_by_autograd(seed):
    logits, target, weight = drawn(seed, 3)
    x, y = ts.tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    counted = torch.tensor(target != 255)
    t = torch.tensor(target)[counted]
    p = torch.softmax(y[counted], -1)[torch.arange(len(t)), t]
    u = torch.tensor(weight)[t]
    theirs = (-((1 - p) ** 2) * torch.log(p) * u).sum() / u.sum()
    agree(ts.losses.focal(x, target, gamma=2, weight=weight), x, theirs, y)
