"""Recomputed blocks: equal to the bit, less memory, and nothing else changes."""

import gc

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import nn, ops

from ..strategies import normal


class Block(nn.Module):
    """A bit of everything that a second pass could get wrong."""

    def __init__(self):
        self.body = nn.Sequential(
            nn.Conv2d(8, 32, 3, padding=1, seed=0),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Dropout(0.3, seed=1),
            nn.Conv2d(32, 32, 3, padding=1, seed=2),
            nn.BatchNorm2d(32),
        )

    def forward(self, x):
        return self.body(x)


def gradients(recompute, training=True, level="fast", steps=2):
    """Outputs, gradients, running statistics and the generators after some steps."""
    block, rest = Block().train(training), nn.Conv2d(32, 3, 1, seed=3)
    block.recompute = recompute
    x = ts.tensor(normal((2, 9, 10, 8), 0, np.float32), requires_grad=True)
    results = []
    for step in range(steps):  # gradients gather over the steps
        with ts.precision(level):
            y = rest(block(x))
        y.backward(normal(y.shape, step, np.float32))
        results.append(y.numpy())
    results += [t.grad.numpy() for t in (x, *block.parameters(), *rest.parameters())]
    return [*results, *(b.numpy() for b in block.buffers())], block.random_state()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("level", ["fast", "exact"])
def test_values_gradients_and_state_are_equal_to_the_bit(training, level):
    plain, state = gradients(False, training, level)
    again, state_again = gradients(True, training, level)
    assert state == state_again
    for a, b in zip(again, plain, strict=True):
        assert np.array_equal(a.view(np.int32), b.view(np.int32))


def test_names_stay_and_nothing_is_recomputed_without_a_gradient(monkeypatch):
    block = Block()
    names = block.state_dict().keys()
    block.recompute = True
    assert block.state_dict().keys() == names
    calls = []
    monkeypatch.setattr(Block, "forward", lambda self, x: calls.append(1) or self.body(x))
    with ts.no_grad():
        assert not block(np.zeros((1, 4, 4, 8), np.float32)).requires_grad
    y = block(np.zeros((1, 4, 4, 8), np.float32))
    assert y.requires_grad and len(calls) == 2
    with ts.no_grad():  # backward may be called in such a block
        y.backward(np.ones(y.shape))
    assert len(calls) == 3 and all(p.grad is not None for p in block.parameters())


def test_a_list_of_inputs_and_frozen_parameters():
    merge = nn.Sequential(nn.Conv2d(6, 4, 3, padding=1, seed=0), nn.ReLU())
    merge[0].bias.requires_grad = False
    merge.recompute = True
    a, b = (ts.tensor(normal((1, 5, 5, 3), i, np.float32), requires_grad=not i) for i in range(2))
    y = merge([a, b])
    y.backward(np.ones(y.shape))
    assert a.grad is not None and b.grad is None and merge[0].bias.grad is None
    expected = ops.relu(ops.conv2d(ops.concat([a, b], 3), merge[0].weight, merge[0].bias, padding=1))
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-5)


def test_memory_between_the_passes():
    pool = ts.get_device("cpu").pool

    def held(recompute):
        blocks = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, seed=0), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(6)]
        x = ts.tensor(np.ones((1, 64, 64, 4), np.float32))
        gc.collect()
        before = pool.in_use
        for block in blocks:
            block.recompute = recompute
            x = block(x)
        return pool.in_use - before

    assert held(True) < 0.7 * held(False)


def test_what_returns_several_tensors_is_refused():
    class Two(nn.Module):
        def __init__(self):
            self.scale = nn.Parameter(np.ones(1))

        def forward(self, x):
            return x, x * self.scale

    two = Two()
    two.recompute = True
    with pytest.raises(TypeError, match="recompute: Two returns tuple, expected one tensor; cure"):
        two(np.ones((1, 2, 2, 1), np.float32))


@pytest.mark.parametrize("name", ["segnet", "fcn8s", "fcn_resnet50"])
def test_all_blocks_of_a_model(name):
    """Gradients and running statistics to the bit, dropout included."""
    x = np.random.default_rng(0).standard_normal((2, 33, 20, 3)).astype(np.float32)
    found = []
    for recompute in (False, True):
        model = ts.models.create(name, 2, width=4)
        if recompute:
            assert nn.recompute_blocks(model) > 5
        y = model(ts.tensor(x))
        y = y[0] + y[1] if isinstance(y, tuple) else y
        y.backward(np.random.default_rng(1).standard_normal(y.shape).astype(np.float32))
        found.append([y.numpy(), *(p.grad.numpy() for p in model.parameters()), *(b.numpy() for b in model.buffers())])
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)
