"""The networks of the papers, narrow, against independent PyTorch implementations (bench/twins.py) with their weights.

Logits in evaluation and in training, auxiliary ones too, and gradients of the first and the last layer.
"""

import numpy as np
import pytest

import tinyseg as ts
from tests.models.test_models import shake
from tinyseg import nn

torch = pytest.importorskip("torch")
twins = pytest.importorskip("bench.twins", reason="bench/ is not beside the tests")

SIZES = {"unet": (48, 32), "unet_paper": (188, 204)}  # others: (49, 34)
NAMES = [
    "unet",
    "unet_paper",
    "fcn32s",
    "fcn16s",
    "fcn8s",
    "fcn8s_atonce",
    "fcn32s_alexnet",
    "segnet",
    "segnet_basic",
    "segnet_bayesian",
    "dilated_frontend",
    "dilation7",
    "dilation8",
    "dilation10",
    "refinenet50",
    "pspnet50",
    "deeplabv1_largefov",
    "deeplabv1_msc",
    "deeplabv2_vgg16",
    "deeplabv2_resnet101",
    "deeplabv3_resnet50_paper",
    "deeplabv3plus_resnet50",
    "deeplabv3plus_xception65",
]


def tensors(state):
    return {name: torch.from_numpy(value) for name, value in state.items()}


def without_dropout(ours, theirs):
    for module in ours.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0


def close(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-3))


def first(x):
    """(N,H,W,C) -> PyTorch's (N,C,H,W)."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def last(t):
    return t.detach().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_equal_logits_and_gradients(name):
    width = 24 if name == "fcn32s_alexnet" else 8
    ours = shake(ts.models.create(name, 5, width=width, seed=3))
    theirs = twins.twin(name, 5, width=width)
    missing, unexpected = theirs.load_state_dict(tensors(ts.interop.to_torch(ours)), strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    without_dropout(ours, theirs)
    x = np.random.default_rng(0).standard_normal((2, *SIZES.get(name, (49, 34)), 3)).astype(np.float32)
    with ts.no_grad(), torch.no_grad():
        close(ours.eval()(ts.tensor(x)).numpy(), last(theirs.eval()(first(x))), 1e-4)

    # In training a hundred batch norms of few values pass on every rounding: there in float64
    ours.to("cpu", np.float64).train(), theirs.double().train()
    x = x.astype(np.float64)
    y, z = ours(ts.tensor(x)), theirs(first(x))
    y, z = (a if isinstance(a, tuple) else (a,) for a in (y, z))
    assert len(y) == len(z)
    rng = np.random.default_rng(1)
    total, expected = 0.0, 0.0
    for a, b in zip(y, z):
        close(a.numpy(), last(b), 1e-9)
        dy = rng.standard_normal(a.shape)
        total, expected = total + (a * dy).sum(), expected + (b * first(dy)).sum()
    total.backward(), expected.backward()
    gradients = {key: p.grad.numpy() for key, p in theirs.named_parameters()}
    for key, p in ours.named_parameters():
        close(p.grad.numpy() if p.ndim < 4 else p.grad.numpy().transpose(3, 2, 0, 1), gradients[key], 1e-7)
