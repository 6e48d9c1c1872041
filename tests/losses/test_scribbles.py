"""Losses from scribbles against dense affinity matrices, and their gradients."""

import numpy as np
import pytest

import tinyseg as ts
from tests.strategies import normal
from tinyseg import losses
from tinyseg.structured import Lattice, bilateral_features

N, H, W, K = 2, 6, 7, 3


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal((N, H, W, K)), rng.integers(0, 256, (N, H, W, 3)).astype(np.uint8)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def affinity(image, sigma_xy, sigma_rgb):
    """W as the lattice applies it, column by column."""
    lattice = Lattice(bilateral_features(image, sigma_xy, sigma_rgb), np.float64)
    return lattice.apply(np.eye(lattice.points))


def expected(x, images, sigma_xy, sigma_rgb):
    """dense CRF (mean), dense CRF (sum) and normalised cut, from S and W."""
    mean = total = cut = 0.0
    for s, image in zip(softmax(x).reshape(len(x), -1, x.shape[-1]), images):
        w = affinity(image, sigma_xy, sigma_rgb)
        d = w.sum(1)
        mean += sum(s[:, k] @ w @ (1 - s[:, k]) for k in range(s.shape[1])) / w.sum()
        total -= sum(s[:, k] @ w @ s[:, k] for k in range(s.shape[1]))
        cut += sum(1 - (s[:, k] @ w @ s[:, k]) / (d @ s[:, k]) for k in range(s.shape[1]))
    return mean / len(x), total / len(x), cut / len(x)


@pytest.mark.parametrize("sigmas", [(100, 15), (3, 60)])
def test_values(device, sigmas):
    x, images = drawn()
    options = dict(sigma_xy=sigmas[0], sigma_rgb=sigmas[1])
    mean, total, cut = expected(x, images, *sigmas)
    t = ts.tensor(x, device)
    assert losses.dense_crf_loss(t, images, **options).item() == pytest.approx(mean, abs=1e-9)
    assert losses.dense_crf_loss(t, images, reduction="sum", **options).item() == pytest.approx(total)
    assert losses.normalized_cut_loss(t, images, **options).item() == pytest.approx(cut)
    assert losses.dense_crf_loss(t, images / 255, **options).item() == pytest.approx(mean, abs=1e-9)


def test_the_lattices_affinity_is_the_gaussians():
    """Where colours are few and the Gaussian is wide the lattice's W is the equation's up to its smoothing."""
    image = np.full((H, W, 3), 100, np.uint8)
    image[:, W // 2 :] = 160
    f = bilateral_features(image, 4, 30)
    exact = np.exp(-0.5 * np.square(f[:, None] - f).sum(-1))
    lattice = affinity(image, 4, 30)
    assert np.corrcoef(exact.reshape(-1), lattice.reshape(-1))[0, 1] > 0.95


def test_gradients(device):
    x, images = drawn(1)
    for loss in (losses.dense_crf_loss, losses.normalized_cut_loss):
        ts.gradcheck(lambda t, loss=loss: loss(t, images, sigma_xy=5, sigma_rgb=40), x, device=device)
        ts.gradcheck(lambda t, loss=loss: loss(t, images, sigma_xy=5, sigma_rgb=40, pool=2), x, device=device)


def test_gradient_is_minus_two_w_s(device):
    """As the authors' code has it, with respect to S; W and its transpose differ as the order of blurs does."""
    x, images = drawn(2)
    logits = ts.tensor(x, device, requires_grad=True)
    losses.dense_crf_loss(logits, images, sigma_xy=5, sigma_rgb=40, reduction="sum").backward()
    for n in range(N):
        s, w = softmax(x[n]).reshape(-1, K), affinity(images[n], 5, 40)
        ds = -(w + w.T) @ s / N
        dx = s * (ds - (ds * s).sum(1, keepdims=True))
        np.testing.assert_allclose(logits.grad.numpy()[n].reshape(-1, K), dx, atol=1e-9)


def test_a_cut_along_the_edge_is_the_cheapest():
    image = np.full((1, H, W, 3), 30, np.uint8)
    image[:, :, 4:] = 220
    masks = {"edge": np.arange(W) >= 4, "elsewhere": np.arange(W) >= 2, "rows": np.arange(W) >= 0}
    masks = {name: np.broadcast_to(m, (1, H, W)) for name, m in masks.items()}
    masks["rows"] = np.broadcast_to((np.arange(H) >= 3)[:, None], (1, H, W))
    values = {}
    for name, m in masks.items():
        x = ts.tensor(20.0 * np.stack([~m, m], axis=-1))
        values[name] = losses.dense_crf_loss(x, image).item(), losses.normalized_cut_loss(x, image).item()
    assert min(values, key=lambda name: values[name][0]) == min(values, key=lambda name: values[name][1]) == "edge"
    assert values["edge"][0] < 0.01


def test_partial_cross_entropy(device):
    x, target = normal((1, 2, 3, K), 0), np.full((1, 2, 3), 255, np.int32)
    target[0, 0, 1], target[0, 1, 2] = 2, 0
    p = softmax(x)
    value = losses.partial_cross_entropy(ts.tensor(x, device), target).item()
    assert value == pytest.approx(-(np.log(p[0, 0, 1, 2]) + np.log(p[0, 1, 2, 0])) / 2)
    ts.gradcheck(lambda t: losses.partial_cross_entropy(t, target), x, device=device)
    assert losses.partial_cross_entropy(ts.tensor(x, device), np.full_like(target, 255)).item() == 0


def test_errors():
    x, images = drawn()
    with pytest.raises(ValueError, match="dense_crf_loss: images are .2, 6, 6, 3. but logits"):
        losses.dense_crf_loss(ts.tensor(x), images[:, :, 1:])
    with pytest.raises(ValueError, match="normalized_cut_loss: sigma_xy=0"):
        losses.normalized_cut_loss(ts.tensor(x), images, sigma_xy=0)
    with pytest.raises(ValueError, match="reduction is 'none'"):
        losses.dense_crf_loss(ts.tensor(x), images, reduction="none")
    with pytest.raises(ValueError, match="a float image from"):
        losses.dense_crf_loss(ts.tensor(x), images.astype(np.float64))
