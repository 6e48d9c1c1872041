"""What Module finds by walking attributes, and its state."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import nn


class Block(nn.Module):
    def __init__(self, seed):
        self.scale = nn.Parameter(np.full(3, float(seed)))
        self.seen = nn.Buffer(np.zeros(2))

    def forward(self, x):
        return x * self.scale


class Model(nn.Module):
    """Modules in every place an attribute can hold them."""

    def __init__(self):
        self.config = {"name": "model", "width": 3}
        self.one = Block(1)
        self.many = [Block(2), (Block(3), nn.Dropout(0.5, seed=1))]
        self.named = {"left": Block(4), "numbers": [1, 2.5, None]}
        self.bare = nn.Parameter([1.0])
        self.again = self.one  # shared: counted once

    def forward(self, x):
        return self.one(x)


NAMES = ["one.scale", "many.0.scale", "many.1.0.scale", "named.left.scale", "bare"]


def test_the_walk_finds_everything_once_in_order():
    model = Model()
    assert [name for name, _ in model.named_parameters()] == NAMES
    assert [name for name, _ in model.named_buffers()] == [n.replace("scale", "seen") for n in NAMES[:-1]]
    assert [name for name, _ in model.named_modules()] == [
        "", "one", "many.0", "many.1.0", "many.1.1", "named.left",
    ]  # fmt: skip
    assert model.parameter_count() == 13 and len(model.parameters()) == 5 and len(model.buffers()) == 4
    assert all(p.requires_grad for p in model.parameters()) and not any(b.requires_grad for b in model.buffers())


def test_a_tensor_that_wants_a_gradient_but_is_no_parameter_is_pointed_out():
    model = Block(1)
    model.w = ts.tensor([1.0], requires_grad=True)
    with pytest.raises(TypeError, match=r"'w' requires a gradient but is no Parameter; cure: nn.Parameter"):
        model.parameters()


def test_state_goes_round():
    a, b = Model(), Model()
    for t in a.parameters() + a.buffers():
        t.assign(np.random.default_rng(0).standard_normal(t.shape))
    identity = [id(p) for p in b.parameters()]
    assert b.load_state_dict(a.state_dict()) == []
    assert [id(p) for p in b.parameters()] == identity  # an optimiser made before still holds them
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items()):
        assert np.array_equal(x, y) and isinstance(x, np.ndarray), name
    a.state_dict()["bare"][...] = 7  # a copy
    assert a.bare.item() != 7


def test_a_state_that_does_not_fit_is_refused_with_everything_that_is_wrong():
    model = Model()
    state = model.state_dict()
    del state["bare"]
    state["stray"], state["one.scale"], state["one.seen"] = np.zeros(1), np.zeros((5, 4)), np.ones(2)
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    for line in (r"missing: bare (1,)", "unexpected: stray (1,)", "shape: one.scale is (5, 4), expected (3,)"):
        assert line in str(error.value)
    assert not model.one.seen.numpy().any()  # nothing was changed
    assert len(model.load_state_dict(state, strict=False)) == 3
    assert model.one.seen.numpy().all() and model.one.scale.numpy()[0] == 1


def test_train_and_eval_reach_every_module():
    model = Model()
    assert model.training and model.eval() is model
    assert not any(m.training for m in model.modules())
    assert all(m.training for m in model.train().modules())


def test_to_moves_and_keeps_identity():
    model = Model()
    before, p = model.state_dict(), model.one.scale
    model.bare.grad = ts.tensor([1.0])
    assert model.to("cpu").bare.grad is not None  # nothing moved
    model.to("cpu", np.float64)
    assert model.one.scale is p and p.dtype == np.float64 and model.bare.grad is None
    assert all(np.array_equal(before[name], a) for name, a in model.state_dict().items())


def test_zero_grad_forgets():
    model = Model()
    model.bare.grad = ts.tensor([1.0])
    model.zero_grad()
    assert model.bare.grad is None


def test_random_state_continues():
    a, b = Model(), Model()
    a.many[1][1].generator.random(5)
    b.set_random_state(a.random_state())
    assert a.many[1][1].generator.random() == b.many[1][1].generator.random()
    with pytest.raises(ValueError, match=r"expected those of \['many.1.1'\]"):
        a.set_random_state({})


def test_repr_shows_the_tree():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
    assert repr(model) == (
        "Sequential(\n  0: Conv2d(3, 8, kernel_size=3, padding=1, bias=False)\n"
        "  1: BatchNorm2d(8)\n  2: ReLU()\n  3: Dropout(0.2)\n)"
    )
    assert "many.1.0: Block()" in repr(Model())


def test_parameters_are_float32_and_keep_their_shape():
    p = nn.Parameter(np.arange(3))
    assert p.dtype == np.float32 and p.requires_grad
    with pytest.raises(ValueError, match=r"got shape \(2,\), expected \(3,\)"):
        p.assign([1, 2])
