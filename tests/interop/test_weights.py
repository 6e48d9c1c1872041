"""Layouts there and back, what is skipped, and a linear layer behind a flattened map."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import interop, nn


class Small(nn.Module):
    flattened = {"fc.weight": (3, 2, 4)}

    def __init__(self, num_classes=5):
        self.conv = nn.Conv2d(2, 3, 3, seed=0)
        self.up = nn.ConvTranspose2d(3, 2, 2, seed=1)
        self.bn = nn.BatchNorm2d(3)
        self.fc = nn.Linear(2 * 4 * 3, 6, seed=2)
        self.head = nn.Linear(6, num_classes, seed=3)


def test_there_and_back():
    model, other = Small(), Small()
    state = interop.to_torch(model)
    assert state["conv.weight"].shape == (3, 2, 3, 3) and state["up.weight"].shape == (3, 2, 2, 2)
    assert state["fc.weight"].shape == (6, 24) and state["head.weight"].shape == (5, 6)
    other.reset_parameters(9)
    given = {f"module.{name}": value for name, value in state.items()} | {"module.bn.num_batches_tracked": np.array(3)}
    assert interop.load_torch(other, given, strict=True) == []
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, other.state_dict()[name])


def test_a_flattened_map_means_the_same_numbers():
    """PyTorch flattens (C,H,W): its weight times that is ours times our (H,W,C)."""
    model = Small()
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 3)).astype(np.float32)
    theirs = x.transpose(0, 3, 1, 2).reshape(1, -1) @ interop.to_torch(model)["fc.weight"].T
    ours = ts.ops.matmul(ts.ops.flatten(ts.tensor(x), 1), model.fc.weight).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_another_head_is_skipped_and_named():
    skipped = interop.load_torch(Small(7), interop.to_torch(Small(5)))
    assert [line.split(" is ")[0] for line in skipped] == ["shape: head.weight", "shape: head.bias"]


def test_a_state_that_has_nothing_in_common_is_an_error():
    with pytest.raises(ValueError, match="not one of 1 entries .elsewhere, .* fits Small .*cure"):
        interop.load_torch(Small(), {"elsewhere": np.zeros((3, 3))})
    with pytest.raises(ValueError, match="missing: up.weight"):
        interop.load_torch(Small(), {"conv.weight": np.zeros((3, 2, 3, 3))}, strict=True)


def test_the_state_of_a_backbone_or_of_a_whole_network():
    trunk = ts.models.ResNet(18, width=4, seed=5)
    state = interop.to_torch(trunk)

    class Whole(nn.Module):
        def __init__(self):
            self.backbone = ts.models.ResNet(18, width=4)

    whole = Whole()
    assert interop.load_torch(whole, state, strict=True) == []
    other = ts.models.ResNet(18, width=4)
    assert interop.load_torch(other, interop.to_torch(whole), strict=True) == []
    np.testing.assert_array_equal(other.conv1.weight.numpy(), trunk.conv1.weight.numpy())
