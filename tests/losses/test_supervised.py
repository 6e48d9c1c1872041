"""Losses against slow sums written from their equations, their gradients in float64, and what they ignore."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tests.strategies import seeds
from tinyseg import losses

K = 3
PIXELS = {
    "cross_entropy": losses.cross_entropy,
    "focal": losses.focal,
    "dice": losses.dice,
    "lovasz_softmax": losses.lovasz_softmax,
}
EVERY = {**PIXELS, "binary_cross_entropy": losses.binary_cross_entropy}


def drawn(seed, classes=K, shape=(2, 3, 4), ignore=0.2, channels=None):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, shape).astype(np.int32)
    target[rng.random(shape) < ignore] = 255
    logits = 3 * rng.standard_normal((*shape, channels or classes))
    return logits, target, rng.random(classes) + 0.5, rng.random(shape) + 0.1


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def mean_over_pixels(each, target, weight, pixel_weight):
    """sum u loss / sum u, pixel by pixel; each(p, t) is the loss of one pixel."""
    total = count = 0.0
    for at in np.ndindex(target.shape):
        if target[at] != 255:
            u = weight[target[at]] * pixel_weight[at]
            total, count = total + u * each(at), count + u
    return total / count if count else 0.0


def lovasz_oracle(p, t):
    """The definition: the Jaccard loss of the errors' level sets, integrated over the level."""
    errors = np.abs(t - p)
    levels = np.unique(np.concatenate([[0], errors]))
    total = 0.0
    for low, high in itertools.pairwise(levels):
        wrong = errors > low
        right = ~wrong
        intersection = np.sum((t == 1) & right)
        union = np.sum((t == 1) | wrong)
        total += (high - low) * (1 - intersection / union)
    return total


@given(seeds)
def test_cross_entropy_and_focal(seed):
    x, t, w, v = drawn(seed)
    p = softmax(x)
    expected = mean_over_pixels(lambda at: -np.log(p[at][t[at]]), t, w, v)
    actual = losses.cross_entropy(ts.tensor(x), t, weight=w, pixel_weight=v).item()
    assert actual == pytest.approx(expected, rel=1e-6)
    actual = losses.cross_entropy(ts.tensor(x), t, weight=w).item()
    assert actual == pytest.approx(mean_over_pixels(lambda at: -np.log(p[at][t[at]]), t, w, v * 0 + 1), rel=1e-6)
    expected = mean_over_pixels(lambda at: -((1 - p[at][t[at]]) ** 1.5) * np.log(p[at][t[at]]), t, w, v)
    actual = losses.focal(ts.tensor(x), t, gamma=1.5, weight=w, pixel_weight=v).item()
    assert actual == pytest.approx(expected, rel=1e-6)


@given(seeds)
def test_binary_cross_entropy(seed):
    x, t, w, v = drawn(seed, classes=2, channels=1)
    s = 1 / (1 + np.exp(-x[..., 0]))
    expected = mean_over_pixels(lambda at: -np.log(s[at] if t[at] else 1 - s[at]), t, w, v)
    actual = losses.binary_cross_entropy(ts.tensor(x), t, weight=w, pixel_weight=v).item()
    assert actual == pytest.approx(expected, rel=1e-6)
    two = np.concatenate([0 * x, x], axis=-1)
    assert actual == pytest.approx(losses.cross_entropy(ts.tensor(two), t, weight=w, pixel_weight=v).item(), rel=1e-6)


def test_binary_cross_entropy_of_several_questions():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    t = np.random.default_rng(1).integers(0, 2, x.shape)
    t[0] = 255
    one_by_one = [losses.binary_cross_entropy(ts.tensor(x[..., i : i + 1]), t[..., i]).item() for i in range(5)]
    assert losses.binary_cross_entropy(ts.tensor(x), t).item() == pytest.approx(np.mean(one_by_one))


@given(seeds)
def test_dice(seed):
    x, t, w, v = drawn(seed)
    p, v = softmax(x), np.where(t == 255, 0, v)
    scores, weights = [], []
    for c in range(K):
        true = t == c
        if true.any():
            both, total = (v * p[..., c] * true).sum(), (v * (p[..., c] + true)).sum()
            scores.append(1 - (2 * both + 0.5) / (total + 0.5))
            weights.append(w[c])
    expected = np.average(scores, weights=weights) if scores else 0
    actual = losses.dice(ts.tensor(x), t, smooth=0.5, weight=w, pixel_weight=v).item()
    assert actual == pytest.approx(expected, rel=1e-6)


@given(seeds)
def test_lovasz_softmax(seed):
    x, t, w, _ = drawn(seed)
    p, counted = softmax(x), t != 255
    present = [c for c in range(K) if (t == c).any()]
    each = [lovasz_oracle(p[..., c][counted], (t[counted] == c).astype(float)) for c in present]
    expected = np.average(each, weights=w[present]) if present else 0
    assert losses.lovasz_softmax(ts.tensor(x), t, weight=w).item() == pytest.approx(expected, rel=1e-6)


def test_lovasz_of_a_certain_prediction_is_the_jaccard_loss():
    t = np.random.default_rng(0).integers(0, 2, (1, 6, 7))
    guess = np.random.default_rng(1).integers(0, 2, (1, 6, 7))
    x = ts.tensor(1000.0 * np.eye(2)[guess])
    iou = [np.sum((t == c) & (guess == c)) / np.sum((t == c) | (guess == c)) for c in (0, 1)]
    assert losses.lovasz_softmax(x, t).item() == pytest.approx(1 - np.mean(iou), rel=1e-6)


@pytest.mark.parametrize("name", EVERY)
@given(seed=seeds)
def test_gradients(name, seed):
    classes = 2 if name == "binary_cross_entropy" else K
    x, t, w, v = drawn(seed, classes, channels=1 if classes == 2 else None)
    options = {} if name == "lovasz_softmax" else {"pixel_weight": v}
    ts.gradcheck(lambda x: EVERY[name](x, t, weight=w, **options), x)
    ts.gradcheck(lambda x: EVERY[name](x, t), x)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_ignored_gets_no_gradient_and_nothing_but_ignored_is_zero(name):
    x, t, w, v = drawn(3, 2, channels=1 if name == "binary_cross_entropy" else 2)
    for target in (t, np.full_like(t, 255)):
        for weight in (None, w):
            logits = ts.tensor(x.astype(np.float32), requires_grad=True)
            loss = EVERY[name](logits, target, weight=weight)
            loss.backward()
            gradient = logits.grad.numpy()
            assert loss.dtype == np.float32 and loss.shape == () and np.isfinite(gradient).all()
            assert not gradient[target == 255].any()
            assert (loss.item() == 0) == (target == 255).all() == (not gradient.any())


@pytest.mark.parametrize("name", EVERY)
def test_extreme_logits_stay_finite(name):
    channels = 1 if name == "binary_cross_entropy" else 2
    for size in (0, 50, 1e4):
        x = np.zeros((1, 2, 2, channels), np.float32)
        x[0, 0, :, 0], x[0, 1, :, 0] = size, -size
        logits = ts.tensor(x, requires_grad=True)
        loss = EVERY[name](logits, np.array([[[0, 1], [1, 0]]]))
        loss.backward()
        assert np.isfinite(loss.item()) and np.isfinite(logits.grad.numpy()).all()


def test_zero_logits_give_log_classes_and_push():
    """A zero-initialised head: log K, and gradients that are not lost in a kink at 0."""
    t = np.zeros((1, 2, 2), np.int32)
    assert losses.cross_entropy(ts.tensor(np.zeros((1, 2, 2, 5))), t).item() == pytest.approx(np.log(5))
    logits = ts.tensor(np.zeros((1, 2, 2, 1)), requires_grad=True)
    losses.binary_cross_entropy(logits, t + 1).backward()
    np.testing.assert_allclose(logits.grad.numpy(), -0.5 / 4)


@given(seeds, st.sampled_from([0.0, 0.5, 2.0]))
def test_focal_with_gamma_zero_is_cross_entropy(seed, size):
    x, t, w, v = drawn(seed)
    options = {"weight": w, "pixel_weight": v}
    plain = losses.cross_entropy(ts.tensor(size * x), t, **options).item()
    assert losses.focal(ts.tensor(size * x), t, gamma=0, **options).item() == pytest.approx(plain)


@pytest.mark.parametrize("name", EVERY)
def test_wrong_targets_and_weights_are_refused(name):
    loss, x = EVERY[name], ts.tensor(np.zeros((1, 2, 2, 1 if name == "binary_cross_entropy" else 2)))
    good = np.zeros((1, 2, 2), np.int32)
    with pytest.raises(ValueError, match=r"\(1, 2, 3\)"):
        loss(x, np.zeros((1, 2, 3), np.int32))
    with pytest.raises(ValueError, match="7"):
        loss(x, good + 7)
    with pytest.raises(TypeError, match="integer class ids"):
        loss(x, good + 0.5)
    with pytest.raises(ValueError, match=r"weight.*\(4,\).*\(2,\)"):
        loss(x, good, weight=np.ones(4))
    for bad in (-1, np.nan):
        with pytest.raises(ValueError, match="weight holds"):
            loss(x, good, weight=[1, bad])
    if name != "lovasz_softmax":
        with pytest.raises(ValueError, match=r"pixel_weight has shape \(2, 2\)"):
            loss(x, good, pixel_weight=np.ones((2, 2)))
        with pytest.raises(ValueError, match="pixel_weight holds negative numbers"):
            loss(x, good, pixel_weight=good - 1.0)
    if name == "focal":
        with pytest.raises(ValueError, match="gamma is -1"):
            loss(x, good, gamma=-1)


def test_median_frequency_weights():
    masks = [np.array([[0, 0], [0, 1]]), np.array([[0, 0], [255, 0]]), np.array([[2, 2], [1, 0]], np.uint8)]
    frequency = np.array([7 / 11, 2 / 8, 2 / 4])  # over the images in which each occurs, without ignored pixels
    expected = [*(np.median(frequency) / frequency), 0]

    class Samples:
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return type("Sample", (), {"mask": masks[i]})

    counts = np.array([[3, 1, 0, 0], [3, 0, 0, 0], [1, 1, 2, 0]])
    for data in (masks, Samples(), counts):
        np.testing.assert_allclose(losses.median_frequency_weights(data, 4), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="class ids 0 to 2, expected 0 to 1"):
        losses.median_frequency_weights(masks, 2)
    assert losses.median_frequency_weights([masks[0] * 0 + 255], 2).tolist() == [0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["cross_entropy", "focal", "binary_cross_entropy", "dice", "lovasz_softmax"])
def test_what_stands_under_ignored_pixels_does_not_matter(name, bad):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((1, 4, 5, 1 if name == "binary_cross_entropy" else 3))
    target = rng.integers(0, 2, (1, 4, 5)).astype(np.int32)
    target[0, 1] = 255
    results = []
    for under in (0, bad):
        values[0, 1] = under
        x = ts.tensor(values, requires_grad=True)
        loss = getattr(ts.losses, name)(x, target)
        loss.backward()
        results.append((loss.item(), x.grad.numpy()))
    assert results[0][0] == results[1][0] and np.array_equal(results[0][1], results[1][1])
    assert not results[1][1][0, 1].any() and results[1][1].any()


@pytest.mark.parametrize("loss", PIXELS.values())
def test_auxiliary_logits_are_not_taken_for_a_batch(loss):
    y = ts.tensor(np.zeros((2, 4, 4, 2), np.float32))
    with pytest.raises(TypeError, match="got 2 logits: .*auxiliary heads.*cure"):
        loss((y, y), np.zeros((2, 4, 4), np.int32))
