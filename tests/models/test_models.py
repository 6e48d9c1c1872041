"""What every model must do, whichever it is; a new line in MODELS is tested by itself.

A model that is too large, or takes no odd sizes, says so in the two tables.
"""

import inspect

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import models

OPTIONS = {"unet": {"width": 4}, "unet_paper": {"width": 2}}  # narrow, to be quick
SIZES = {"unet_paper": (188, 204)}  # others: (37, 53)


def create(name, seed=0, num_classes=3, in_channels=2, **options):
    return models.create(name, num_classes, in_channels, seed=seed, **OPTIONS.get(name, {}), **options)


def batch(name, n=2, channels=2):
    return np.random.default_rng(0).standard_normal((n, *SIZES.get(name, (37, 53)), channels)).astype(np.float32)


@pytest.fixture(params=models.names())
def name(request):
    return request.param


def test_logits_for_an_odd_size_and_a_gradient_at_every_parameter(name):
    model, x = create(name), ts.tensor(batch(name), requires_grad=True)
    y = model(x)
    assert y.shape[0] == 2 and y.shape[3] == 3 and y.dtype == np.float32
    if name not in SIZES:
        assert y.shape[1:3] == (37, 53)
    y.backward(np.random.default_rng(1).standard_normal(y.shape).astype(np.float32))
    for parameter, p in model.named_parameters():
        assert p.grad is not None and np.isfinite(p.grad.numpy()).all() and p.grad.numpy().any(), parameter
    assert x.grad.numpy().any()


def test_evaluation_repeats_to_the_bit_and_state_goes_round(name):
    model, x = create(name), ts.tensor(batch(name))
    with ts.no_grad():
        model(x)  # batch statistics move the running ones
        y = model.eval()(x).numpy()
        assert np.array_equal(y, model(x).numpy())
        other = models.build(model.config, seed=7)
        other.load_state_dict(model.state_dict())
        assert np.array_equal(y, other.eval()(x).numpy())


def test_the_seed_decides_all_weights(name):
    a, b, c = (create(name, seed).state_dict() for seed in (0, 0, 1))
    assert all(np.array_equal(a[key], b[key]) for key in a)
    assert not all(np.array_equal(a[key], c[key]) for key in a)


def test_overfits_one_batch(name):
    model, x = create(name), ts.tensor(batch(name, n=1))
    h, w = model(x).shape[1:3]
    target = ((np.arange(h)[:, None] // 3 + np.arange(w) // 5) % 3)[None].astype(np.int32)
    optimizer = ts.optim.Adam(model.parameters(), lr=0.02)
    model.eval() if name == "unet_paper" else model.train()  # dropout would keep it from learning by heart
    first = None
    for _ in range(40):
        loss = ts.losses.cross_entropy(model(x), target)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first


def test_a_wrong_name_or_option_is_answered_with_the_right_ones(name):
    assert name in models.names() and models.MODELS[name]
    with pytest.raises(ValueError, match=f"did you mean '{name}'"):
        models.create(name[:-1] + "_", 2)
    takes = inspect.signature(models.MODELS[name]).parameters
    for option, value in {"aux": True, "output_stride": 8}.items():
        if option not in takes:
            with pytest.raises(ValueError, match=f"{name} has no option {option}; it has"):
                models.create(name, 2, **{option: value})
    assert create(name, aux=False, output_stride=None).config == create(name).config
    with pytest.raises(ValueError, match="expected at least 1"):
        models.create(name, 0)
    assert create(name).config["name"] == name


def test_what_create_does_not_know_is_kept_all_the_same():
    model = models.UNet(3, width=2, depth=2)
    assert models.build(model.config).config == model.config and model.config["depth"] == 2
    with pytest.raises(TypeError):
        models.create("unet", 3, depth=2)
