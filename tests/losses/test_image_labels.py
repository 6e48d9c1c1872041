"""Losses from image tags: the equations on arrays of a few pixels, shares that hold, gradients that are Q - P."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tests.strategies import seeds
from tinyseg import losses
from tinyseg.losses.constraints import Constraints, project
from tinyseg.losses.image_labels import adapt

K = 4
EVERY = {name: getattr(losses, name) for name in ("cam", "mil", "em_fixed", "em_adapt", "ccnn")}


def drawn(seed, shape=(2, 4, 5), classes=K):
    """Logits (N,H,W,K) and tags (N,K), the background among them."""
    rng = np.random.default_rng(seed)
    tags = rng.random((shape[0], classes)) < 0.5
    tags[:, 0] = tags[:, 1] = True
    return 3 * rng.standard_normal((*shape, classes)), tags


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gradient_of(loss, logits, device="cpu"):
    x = ts.tensor(logits, device, requires_grad=True)
    loss(x).backward()
    return x.grad.numpy()


@given(seeds)
def test_mil_is_the_best_pixel_of_each_class(device, seed):
    x, tags = drawn(seed)
    expected = 0.0
    for n, present in enumerate(tags):
        log_p = np.log(softmax(x[n])).reshape(-1, K)
        expected -= np.mean([log_p[:, k].max() for k in np.flatnonzero(present)]) / len(tags)
    assert losses.mil(ts.tensor(x, device), tags).item() == pytest.approx(expected)


@given(seeds, st.sampled_from([0, 2, None]))
def test_cam_is_binary_cross_entropy_of_mean_scores(device, seed, background):
    x, tags = drawn(seed)
    tags[1] = False  # an image without tags says nothing
    values = []
    for k in set(range(K)) - {background}:
        z = x[0, :, :, k].mean() - (0 if background is None else x[0, :, :, background].mean())
        p = 1 / (1 + np.exp(-z))
        values.append(-np.log(p if tags[0, k] else 1 - p))
    loss = losses.cam(ts.tensor(x, device), tags, background=background)
    assert loss.item() == pytest.approx(np.mean(values))
    ts.gradcheck(lambda t: losses.cam(t, tags, background=background), x, device=device)


@given(seeds)
def test_em_fixed_is_cross_entropy_against_biased_scores(device, seed):
    x, tags = drawn(seed)
    y = (x + (np.array([1.0, 2, 2, 2]) * tags)[:, None, None]).argmax(-1)
    expected = ts.ops.cross_entropy(ts.tensor(x), y).item()
    assert losses.em_fixed(ts.tensor(x, device), tags).item() == pytest.approx(expected)


@given(seeds, st.floats(0.05, 0.6), st.floats(0.05, 0.3))
def test_em_adapt_gives_each_class_its_share(seed, background, foreground):
    x, tags = drawn(seed, (1, 6, 7))
    present = np.flatnonzero(tags[0])
    one = np.zeros_like(tags)
    one[0, [0, present[-1]]] = True
    # with one class beside the background its share is the last to be given, so it holds at the end
    s = adapt(np, x, one, background, foreground, iterations=1)[0].reshape(-1, K)
    assert (s.argmax(1) == present[-1]).sum() >= int(foreground * 42)
    # absent classes win nowhere, and the mean of the largest score is what it was
    s = adapt(np, x, tags, background, foreground, seed=seed)[0].reshape(-1, K)
    assert set(s.argmax(1)) <= set(present.tolist())
    assert s[:, present].max(1).mean() == pytest.approx(x[0].reshape(-1, K)[:, present].max(1).mean())


def test_em_adapt_by_hand():
    """Four pixels, two classes of which the second never wins: with a share of a half it wins where it is nearest."""
    x = np.array([[5.0, 0], [4, 1], [3, 2.5], [2, 1]]).reshape(1, 1, 4, 2)
    s = adapt(np, x, np.array([[True, True]]), 0.0, 0.5, iterations=1)
    assert s.argmax(-1).tolist() == [[[0, 0, 1, 1]]]
    loss = losses.em_adapt(ts.tensor(x), np.array([[1, 1]]), background_share=0.0, foreground_share=0.5)
    assert loss.item() == pytest.approx(ts.ops.cross_entropy(ts.tensor(x), np.array([[[0, 0, 1, 1]]])).item())


@given(seeds, st.integers(1, 40), st.floats(0, 0.3), st.floats(0.3, 1))
def test_constraints_hold_after_the_dual(seed, pixels, low, high):
    rng = np.random.default_rng(seed)
    f, present = 4 * rng.standard_normal((pixels, K)), np.array([True, True, False, True])
    bounds = Constraints()
    bounds.at_least(1, low)
    bounds.at_least(3, low)
    bounds.at_most(0, high)
    P, m = project(np, f, present, bounds)
    assert np.allclose(P.sum(1), 1) and not P[:, 2].any() and (m >= 0).all()
    shares = P.mean(0)
    assert shares[1] >= low - 1e-4 and shares[3] >= low - 1e-4 and shares[0] <= high + 1e-4
    # complementary slackness: a price is paid only where the bound is met
    gaps = np.array([shares[1] - low, shares[3] - low, high - shares[0]])
    assert np.all((m < 1e-3) | (gaps < 1e-3))


@given(seeds)
def test_no_distribution_that_keeps_the_bounds_is_nearer(seed):
    rng = np.random.default_rng(seed)
    f, bounds = 2 * rng.standard_normal((6, 3)), Constraints()
    bounds.at_least(2, 0.5)
    P, _ = project(np, f, np.ones(3, bool), bounds, tolerance=1e-9)
    Q = softmax(f)
    best = (P * np.log(P / Q)).sum()
    for _ in range(20):
        other = softmax(np.log(P) + 0.3 * rng.standard_normal(P.shape))
        if other[:, 2].mean() >= 0.5:
            assert (other * np.log(other / Q)).sum() >= best - 1e-6


def test_slack_limits_the_rise_of_a_logit():
    f, bounds = np.zeros((5, 2)) + [20.0, 0], Constraints()
    bounds.at_least(1, 0.5, slack=2.0)
    P, m = project(np, f, np.ones(2, bool), bounds)
    assert m == pytest.approx([2]) and np.allclose(P, softmax(f + [0, 2.0]))


def test_without_an_active_constraint_p_is_q():
    f = np.zeros((8, 2))
    bounds = Constraints()
    bounds.at_least(0, 0.3)
    bounds.at_most(0, 0.7)
    P, m = project(np, f, np.ones(2, bool), bounds)
    assert not m.any() and np.allclose(P, softmax(f))
    tags = np.ones((1, 2), bool)
    assert losses.ccnn(ts.tensor(f.reshape(1, 2, 4, 2)), tags).item() == pytest.approx(0, abs=1e-12)


@given(seeds, st.booleans())
def test_ccnn_is_kl_and_its_gradient_q_minus_p(device, seed, sized):
    x, tags = drawn(seed)
    large = tags.copy() if sized else None
    hard = 1000.0 if sized else 1.0
    expected, gradient = 0.0, np.zeros_like(x)
    for n in range(len(x)):
        bounds = Constraints()
        for k in np.flatnonzero(tags[n])[1:]:
            bounds.at_least(k, 0.1 if sized else 0.05, 1e10 if sized else 2.0)
        bounds.at_least(0, 0.2 if sized else 0.3)
        bounds.at_most(0, 0.7)
        P = project(np, x[n].reshape(-1, K), tags[n], bounds, hard)[0].reshape(x[n].shape)
        Q = softmax(x[n])
        expected += (np.where(P > 0, P * np.log(np.maximum(P, 1e-300) / Q), 0)).sum() / (len(x) * 20)
        gradient[n] = (Q - P) / (len(x) * 20)
        assert sized or not (P[..., ~tags[n]]).any()
    assert losses.ccnn(ts.tensor(x, device), tags, large=large).item() == pytest.approx(expected)
    found = gradient_of(lambda t: losses.ccnn(t, tags, large=large), x, device)
    np.testing.assert_allclose(found, gradient, atol=1e-12)


def test_size_bounds(device):
    """With the bit of size a small class gets at most a hundredth, a large one at least a tenth."""
    x, tags, large = np.zeros((1, 10, 20, 3)), np.ones((1, 3), bool), np.array([[False, True, False]])
    x += np.random.default_rng(0).standard_normal(x.shape) + [3.0, 0, 2]
    g = gradient_of(lambda t: losses.ccnn(t, tags, large=large), x, device)
    shares = (softmax(x) - 200 * g)[0].reshape(-1, 3).mean(0)
    assert shares[1] >= 0.1 - 1e-2 and shares[2] <= 0.01 + 1e-2 and 0.2 - 1e-2 <= shares[0] <= 0.9


def test_pooled(device):
    """pool=2 is the loss of the pooled logits."""
    x, tags = drawn(3, (2, 6, 7))
    pooled = ts.ops.avg_pool2d(ts.tensor(x, device), 2, ceil_mode=True, count_include_pad=False)
    a, b = losses.ccnn(ts.tensor(x, device), tags, pool=2), losses.ccnn(pooled, tags)
    assert a.item() == pytest.approx(b.item())


@pytest.mark.parametrize("name", EVERY)
def test_what_all_share(device, name):
    x, tags = drawn(0)
    tags[1] = False  # an image without tags counts nothing
    g = gradient_of(lambda t: EVERY[name](t, tags), x, device)
    assert np.abs(g[0]).max() > 0 and not g[1].any()
    assert EVERY[name](ts.tensor(x.astype(np.float32), device), ts.tensor(tags.astype(np.int32))).dtype == np.float32
    with pytest.raises(ValueError, match=f"{name}: tags are .2, 3., expected .2, 4."):
        EVERY[name](ts.tensor(x, device), tags[:, :3])
    with pytest.raises(TypeError, match=f"{name}: tags are int64 beyond 0 and 1"):
        EVERY[name](ts.tensor(x, device), np.full((2, K), 7))
    with pytest.raises(ValueError, match=f"{name}: logits have shape"):
        EVERY[name](ts.tensor(x[0], device), tags)


def test_mil_gradient(device):
    x, tags = drawn(1)
    ts.gradcheck(lambda t: losses.mil(t, tags), x, device=device)


def test_bounds_that_nothing_keeps():
    x, tags = drawn(0)
    with pytest.raises(ValueError, match="ccnn: no shares of the classes"):
        losses.ccnn(ts.tensor(x), tags, background_share=(0.8, 0.7))
    with pytest.raises(ValueError, match="expected a share in .0, 1., a slack >= 0"):
        losses.ccnn(ts.tensor(x), tags, foreground_share=2.0)
    with pytest.raises(ValueError, match="em_adapt: a share is 1.5"):
        losses.em_adapt(ts.tensor(x), tags, foreground_share=1.5)
