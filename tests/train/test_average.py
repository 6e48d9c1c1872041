"""The running average of the weights; resuming with it is tested in cli/test_cli.py."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.train.average import Average, averaged


def drift(model, seed):
    """New values for every parameter and running statistic, as a step of training leaves them."""
    rng = np.random.default_rng(seed)
    model.load_state_dict({name: rng.standard_normal(a.shape) for name, a in model.state_dict().items()})


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_the_equation(decay):
    model = ts.models.create("unet", 2, width=2, seed=0)
    average, expected = Average(model, decay), model.state_dict()
    for t in range(12):
        drift(model, t)
        average.update(t)
        d = min(decay, (1 + t) / (10 + t))
        expected = {name: d * a + (1 - d) * model.state_dict()[name] for name, a in expected.items()}
    raw = model.state_dict()
    with averaged(average):
        found = model.state_dict()
    assert found.keys() == expected.keys() and any("running_var" in name for name in found)
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(model.state_dict()[name], raw[name])
        assert not np.array_equal(found[name], raw[name])


def test_one_launch_for_all_is_the_same(capable):
    models = [ts.models.create("unet", 2, width=2, seed=0).to(device) for device in ("cpu", capable)]
    averages = [Average(model, 0.9) for model in models]
    for t in range(3):
        for model, average in zip(models, averages):
            drift(model, t)
            average.update(t)
    with averaged(averages[0]), averaged(averages[1]):
        for name, value in models[0].state_dict().items():
            np.testing.assert_allclose(models[1].state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert averages[0].tables is None and averages[1].tables is not None


def test_the_average_goes_on_from_where_it_was_taken_up():
    a, b = (ts.models.create("unet", 2, width=2, seed=seed) for seed in (1, 2))
    first = Average(a, 0.9)
    for t in range(3):
        drift(a, t)
        first.update(t)
    with averaged(first):
        kept = a.state_dict()
    second = Average(b, 0.9)
    b.load_state_dict(kept)
    second.restart()
    for model, average in ((a, first), (b, second)):
        drift(model, 7)
        average.update(3)
    with averaged(first), averaged(second):
        assert all(np.array_equal(v, b.state_dict()[name]) for name, v in a.state_dict().items())


def test_the_weights_come_back_after_an_error():
    model = ts.models.create("unet", 2, width=2, seed=1)
    average, before = Average(model, 0.9), model.state_dict()
    drift(model, 0)
    after = model.state_dict()
    with pytest.raises(KeyError), averaged(average):
        assert all(np.array_equal(before[name], v) for name, v in model.state_dict().items())
        raise KeyError
    assert all(np.array_equal(after[name], v) for name, v in model.state_dict().items())
    with averaged(None):
        assert all(np.array_equal(after[name], v) for name, v in model.state_dict().items())
