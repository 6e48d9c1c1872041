"""What every model must do, whichever it is; a new line in MODELS is tested by itself.

All are built narrow, to be quick. A model that takes no odd sizes, or is another's twin but for its depth, says so in
the tables.
"""

import inspect
import os

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import models, nn

WIDTH = {"fcn32s_alexnet": 24}  # others: 4
SEED = {"unet_paper": 1, "dilated_frontend": 3}  # of their few channels fewer are born dead than at 0
SIZES = {"unet_paper": (188, 204)}  # others: (37, 53)
TWINS = {  # the same class with more blocks or another constant: what it learns is tested on the first of them
    *(name for name in models.names() if any(depth in name for depth in ("101", "152")) and "deeplabv2" not in name),
    *("fcn16s", "fcn8s_atonce", "segnet_bayesian", "dilation7", "dilation8", "dilation10"),
}


def create(name, seed=0, num_classes=3, in_channels=2, aux=None):
    aux = aux if "aux" in inspect.signature(models.MODELS[name]).parameters else None
    return models.create(name, num_classes, in_channels, width=WIDTH.get(name, 4), aux=aux, seed=seed)


def batch(name, n=2, channels=2):
    return np.random.default_rng(0).standard_normal((n, *SIZES.get(name, (37, 53)), channels)).astype(np.float32)


def shake(model, seed=0):
    """Small values for parameters that begin at zero (scores), behind which no gradient would pass."""
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        if p.ndim > 1 and not p.numpy().any():
            p.assign(0.1 * rng.standard_normal(p.shape))
    return model


def outputs(model, x):
    """The logits, and auxiliary ones behind them."""
    y = model(x)
    return y if isinstance(y, tuple) else (y,)


SEMANTIC = [n for n in models.names() if getattr(models.MODELS[n], "task", "semantic") == "semantic"]


@pytest.fixture(params=SEMANTIC)
def name(request):
    return request.param


def test_logits_for_an_odd_size_and_a_gradient_at_every_parameter(name):
    model, x = shake(create(name)), ts.tensor(batch(name), requires_grad=True)
    total = 0.0
    for i, y in enumerate(outputs(model, x)):
        assert y.shape[0] == 2 and y.shape[3] == 3 and y.dtype == np.float32
        if name not in SIZES:
            assert y.shape[1:3] == (37, 53)
        total = total + (y * np.random.default_rng(i).standard_normal(y.shape).astype(np.float32)).sum()
    total.backward()
    for parameter, p in model.named_parameters():
        assert p.grad is not None and np.isfinite(p.grad.numpy()).all() and p.grad.numpy().any(), parameter
    assert x.grad.numpy().any()


def test_evaluation_repeats_to_the_bit_and_state_goes_round(name):
    model, x = shake(create(name)), ts.tensor(batch(name))
    with ts.no_grad():
        model(x)  # batch statistics move the running ones
        y = model.eval()(x).numpy()
        assert np.array_equal(y, model(x).numpy()) and y.any()
        with nn.no_init():
            other = models.build(model.config)
        other.load_state_dict(model.state_dict())
        assert np.array_equal(y, other.eval()(x).numpy())


def test_the_seed_decides_all_weights(name):
    a, b, c = (create(name, seed).state_dict() for seed in (0, 0, 1))
    assert all(np.array_equal(a[key], b[key]) for key in a)
    assert not all(np.array_equal(a[key], c[key]) for key in a)


@pytest.mark.parametrize(
    "name", [name for name in SEMANTIC if name not in TWINS or os.environ.get("HYPOTHESIS_PROFILE") == "deep"]
)
def test_overfits_one_batch(name):
    """One image half of one class and half of another, left and right; and one above and below."""
    model, x = shake(create(name, SEED.get(name, 0), aux=False)), batch(name)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # which would keep it from learning by heart
    h, w = model(ts.tensor(x)).shape[1:3]
    target = np.zeros((2, h, w), np.int32)
    target[0, :, w // 2 :] = target[1, h // 2 :] = 2
    x = ts.tensor(x + np.array([-1, 1], np.float32)[:, None, None, None])  # one dark, one bright
    optimizer, right = ts.optim.Adam(model.parameters(), lr=0.003), 0.0
    for step in range(120):
        y = model(x)
        if step % 5 == 4 and (right := (y.numpy().argmax(-1) == target).mean()) > 0.99:
            break
        optimizer.zero_grad()
        ts.losses.cross_entropy(y, target).backward()
        optimizer.step()
    assert right > 0.99, f"{100 * right:.1f} % right after {step + 1} steps"


def test_a_wrong_name_or_option_is_answered_with_the_right_ones(name):
    assert name in models.names() and models.MODELS[name]
    with pytest.raises(ValueError, match=f"did you mean .*'{name}'"):
        models.create(name[:-1] + "_", 2)
    takes = inspect.signature(models.MODELS[name]).parameters
    for option, value in {"aux": True, "output_stride": 8}.items():
        if option not in takes:
            with pytest.raises(ValueError, match=f"{name} has no option {option}; it has"):
                models.create(name, 2, **{option: value})
    with pytest.raises(ValueError, match="expected at least 1"):
        models.create(name, 0)
    with nn.no_init():
        assert models.create(name, 3, output_stride=None, aux=None).config == models.MODELS[name](3).config
        assert create(name, aux=False).config["name"] == name
        assert models.build(create(name).config).config == create(name).config


def test_what_create_does_not_know_is_kept_all_the_same():
    model = models.UNet(3, width=2, depth=2)
    assert models.build(model.config).config == model.config and model.config["depth"] == 2
    with pytest.raises(TypeError):
        models.create("unet", 3, depth=2)
