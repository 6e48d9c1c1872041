"""Optimisers and schedules. Their agreement with PyTorch is in tests/parity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tests.strategies import seeds
from tinyseg import optim
from tinyseg.nn import Parameter

SHAPES = [(3, 3, 2, 5), (5,), (1,), (0,), (70, 70)]
MAKERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def parameters(rng, device="cpu"):
    return [Parameter(rng.standard_normal(shape), device) for shape in SHAPES]


def give_gradients(params, rng):
    for p in params:
        p.grad = ts.tensor(rng.standard_normal(p.shape).astype(np.float32), p.device)


def sgd_oracle(w, gradients, lr=0.1, momentum=0.9, decay=0.01, nesterov=False):
    v = np.zeros_like(w)
    for g in gradients:
        d = g + decay * w
        v = momentum * v + d
        w = w - lr * (d + momentum * v if nesterov else v)
    return w


def adam_oracle(w, gradients, lr=0.01, b1=0.9, b2=0.999, eps=1e-8, decay=0.1, decoupled=False):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        if decoupled:
            w = w * (1 - lr * decay)
        d = g if decoupled else g + decay * w
        m, v = b1 * m + (1 - b1) * d, b2 * v + (1 - b2) * d * d
        w = w - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return w


ORACLES = {
    "sgd": lambda w, g: sgd_oracle(w, g, momentum=0, decay=0),
    "momentum": sgd_oracle,
    "nesterov": lambda w, g: sgd_oracle(w, g, nesterov=True),
    "adam": adam_oracle,
    "adamw": lambda w, g: adam_oracle(w, g, decoupled=True),
}


@pytest.mark.parametrize("name", MAKERS)
def test_updates_follow_their_equations(name, device):
    rng = np.random.default_rng(0)
    params = parameters(rng, device)
    optimizer = MAKERS[name](params)
    before, gradients = [p.numpy().astype(float) for p in params], []
    for _ in range(4):
        give_gradients(params, rng)
        gradients.append([p.grad.numpy().astype(float) for p in params])
        optimizer.step()
    for i, p in enumerate(params):
        np.testing.assert_allclose(p.numpy(), ORACLES[name](before[i], [g[i] for g in gradients]), rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_resuming_is_exact_to_the_bit(name):
    def run(interrupt):
        rng = np.random.default_rng(1)
        params = parameters(rng)
        optimizer = MAKERS[name](params)
        for i in range(6):
            if i == interrupt:  # another process: same weights, a fresh optimiser
                saved = {name: np.copy(a) for name, a in optimizer.state_dict().items()}
                params = [Parameter(p.numpy()) for p in params]
                optimizer = MAKERS[name](params)
                optimizer.load_state_dict(saved)
            give_gradients(params, rng)
            optimizer.step(0.9**i)
        return [p.numpy() for p in params]

    for a, b in zip(run(None), run(3)):
        assert np.array_equal(a, b)


def test_a_parameter_without_gradient_is_left_alone_with_its_state():
    params = parameters(np.random.default_rng(2))
    optimizer = optim.AdamW(params, lr=0.1)
    params[0].grad = ts.tensor(np.ones(SHAPES[0], np.float32))
    before = [p.numpy() for p in params]
    optimizer.step()
    assert not np.array_equal(before[0], params[0].numpy())
    assert all(np.array_equal(b, p.numpy()) for b, p in zip(before[1:], params[1:]))
    assert {name.split(".")[0] for name in optimizer.state_dict()} == {"0"}


def test_groups_have_their_own_options_and_the_others_the_common_ones():
    a, b = Parameter([1.0]), Parameter([1.0])
    optimizer = optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.5, "weight_decay": 1.0}], lr=0.1)
    a.grad, b.grad = ts.tensor([1.0]), ts.tensor([1.0])
    optimizer.step(factor=0.5)
    np.testing.assert_allclose([a.item(), b.item()], [1 - 0.05 * 1, 1 - 0.25 * 2], rtol=1e-6)
    optimizer.zero_grad()
    assert a.grad is None and b.grad is None


def test_wrong_use_is_refused():
    p = Parameter([1.0])
    with pytest.raises(ValueError, match="got no parameters"):
        optim.SGD([], lr=0.1)
    with pytest.raises(ValueError, match="lr is -1"):
        optim.SGD([p], lr=-1)
    with pytest.raises(ValueError, match=r"unknown options \['rate'\]"):
        optim.SGD([{"params": [p], "rate": 1}], lr=0.1)
    with pytest.raises(ValueError, match="given twice"):
        optim.SGD([{"params": [p]}, {"params": [p]}], lr=0.1)
    with pytest.raises(TypeError, match="parameter 0 is a ndarray"):
        optim.SGD([np.ones(3)], lr=0.1)
    with pytest.raises(ValueError, match="needs a momentum"):
        optim.SGD([p], lr=0.1, nesterov=True)
    with pytest.raises(ValueError, match=r"0.velocity: got \(2,\), expected \(1,\)"):
        optim.SGD([p], 0.1, 0.9).load_state_dict({"0.velocity": np.zeros(2), "0.steps": np.array(1)})
    with pytest.raises(ValueError, match="3.steps: got .*, expected nothing"):
        optim.SGD([p], lr=0.1).load_state_dict({"3.velocity": np.zeros(1), "3.steps": np.array(1)})
    with pytest.raises(ValueError, match="do not fit Adam.*0.m: got nothing"):
        optim.Adam([p]).load_state_dict({"0.velocity": np.zeros(1), "0.steps": np.array(1)})


# Gradients


@pytest.mark.parametrize("length", [0, -1, float("nan")])
def test_gradients_are_not_turned_around(length):
    p = Parameter(np.ones(2))
    p.grad = ts.tensor(np.ones(2, np.float32))
    with pytest.raises(ValueError, match="expected a length above 0"):
        ts.optim.clip_grad_norm([p], length)


@given(seeds, st.floats(0.1, 1000))
def test_clipping(seed, max_norm):
    params = parameters(np.random.default_rng(seed))
    give_gradients(params, np.random.default_rng(seed + 1))
    before = [p.grad.numpy().astype(float) for p in params]
    norm = np.sqrt(sum((g**2).sum() for g in before))
    np.testing.assert_allclose(optim.clip_grad_norm(params, max_norm), norm, rtol=1e-5)
    scale = min(1, max_norm / norm)
    for b, p in zip(before, params):
        np.testing.assert_allclose(p.grad.numpy(), b * scale, rtol=1e-5)


def test_gradients_that_are_not_finite():
    params = parameters(np.random.default_rng(0))
    give_gradients(params, np.random.default_rng(1))
    params[1].grad.data[2] = np.nan
    with pytest.raises(FloatingPointError, match=r"gradient of 1 of 5 parameters \(1 \(5,\)\)"):
        optim.clip_grad_norm(params, 1.0)
    before = params[0].grad.numpy()
    assert np.isnan(optim.clip_grad_norm(params, 1.0, error_if_nonfinite=False))
    assert np.array_equal(before, params[0].grad.numpy())


# Schedules


def test_schedules():
    poly, cosine, step = optim.poly(100), optim.cosine(100, floor=0.1), optim.step([10, 20], gamma=0.5)
    assert poly(0) == 1 and poly(100) == 0 and poly(1000) == 0 and poly(50) == 0.5**0.9
    assert cosine(0) == 1 and cosine(50) == pytest.approx(0.55) and cosine(100) == cosine(500) == pytest.approx(0.1)
    assert [step(i) for i in (0, 9, 10, 19, 20, 99)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    warm = optim.warm_up(optim.constant(), 4, start=0.2)
    assert [warm(i) for i in range(6)] == pytest.approx([0.4, 0.6, 0.8, 1, 1, 1])
    for maker in (optim.poly, optim.cosine, lambda n: optim.warm_up(optim.constant(), n)):
        with pytest.raises(ValueError, match="expected at least 1"):
            maker(0)


def test_without_momentum_nothing_is_kept():
    p = Parameter(np.ones(3))
    optimizer = optim.SGD([p], lr=0.5)
    p.grad = ts.tensor(np.ones(3, np.float32))
    optimizer.step()
    assert optimizer.state_dict().keys() == {"0.steps"} and p.numpy().tolist() == [0.5] * 3
    other = optim.SGD([p], lr=0.5)
    other.load_state_dict(optimizer.state_dict())
    optimizer.groups[0]["momentum"] = 0.9  # groups may change between steps
    optimizer.step()
    assert optimizer.state_dict().keys() == {"0.steps", "0.velocity"} and p.numpy().tolist() == [0] * 3
