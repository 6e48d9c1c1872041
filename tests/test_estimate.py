"""The estimate before a run against what the pool measures in the run; the dry run's arrays against NumPy's."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import models, nn
from tinyseg.dryrun import DryRun, Ghost
from tinyseg.estimate import estimate

SMALL = [("unet", 8, (37, 53)), ("segnet", 4, (37, 53)), ("fcn8s", 2, (37, 53)), ("segnet_basic", 8, (64, 48))]


def measured(name, width, size, optimizer):
    """(peak bytes of a prediction, of a training step) that the CPU's pool counts, above what was in use before."""
    pool = ts.get_device("cpu").pool
    before = pool.in_use
    model = models.create(name, 3, 3, width=width)
    rng = np.random.default_rng(0)
    x, target = rng.random((2, *size, 3), np.float32), rng.integers(0, 3, (2, *size)).astype(np.int32)
    pool.trim()
    with ts.no_grad():
        model.eval()(ts.tensor(x))
    prediction = pool.peak - before
    model.train()
    learner = optimizer(model.parameters())
    pool.trim()
    for _ in range(2):
        loss = ts.losses.cross_entropy(model(ts.tensor(x)), target)
        learner.zero_grad()
        loss.backward()
        learner.step()
    return prediction, pool.peak - before


@pytest.mark.parametrize("name, width, size", SMALL)
def test_peak_memory_is_what_the_pool_measures(name, width, size):
    adam = lambda parameters, lr=1e-4: ts.optim.Adam(parameters, lr)  # noqa: E731
    found = estimate(lambda: models.create(name, 3, 3, width=width), size, 2, optimizer=adam)
    prediction, training = measured(name, width, size, adam)
    assert found.prediction == pytest.approx(prediction, rel=0.02)
    assert found.training == pytest.approx(training, rel=0.02)
    assert 0 < found.activations < found.training


def test_multiply_adds_and_parameters_of_layers_counted_by_hand():
    def build():
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 2, 2, stride=2))

    found = estimate(build, (10, 12), batch=2)
    assert found.parameters == 3 * 8 * 9 + 8 + 8 * 2 * 4 + 2
    assert found.multiply_adds == 2 * 10 * 12 * (9 * 3 * 8 + 4 * 8 * 2)
    assert "290 parameters" in str(found) and "MiB for a training step" in str(found)


def test_a_model_of_gigabytes_is_estimated_in_none_of_them():
    pool = ts.get_device("cpu").pool
    pool.trim()
    before = pool.peak
    found = estimate(lambda: models.create("fcn8s", 21), (512, 512), batch=64)
    assert found.training > 20 * 2**30 and found.parameters == 134_376_863
    assert pool.peak - before < 2**20


@pytest.mark.parametrize(
    "name", [n for n in models.names() if getattr(models.MODELS[n], "task", "semantic") == "semantic"]
)
def test_every_model_can_be_estimated(name):
    size = (188, 204) if name == "unet_paper" else (37, 53)
    found = estimate(lambda: models.create(name, 21), size, batch=2)
    assert found.training > found.prediction > 4 * found.parameters and found.multiply_adds > 2 * found.parameters / 100
    less = estimate(lambda: models.create(name, 21), size, batch=2, recompute=True)
    assert less.activations < found.activations and less.multiply_adds == found.multiply_adds


def test_a_ghost_has_the_shapes_and_dtypes_that_numpy_has():
    device, a = DryRun(), np.ones((3, 4, 5), np.float32)
    g = device.array(a)
    for f in (
        lambda x: x + 1, lambda x: x > 0, lambda x: np.float64(2) * x, lambda x: x[1:, ::2], lambda x: x[..., None, 0],
        lambda x: x.reshape(4, -1), lambda x: x.T, lambda x: x.sum(axis=1), lambda x: x.sum((0, 2), keepdims=True),
        lambda x: np.where(x > 0, x, 0), lambda x: np.moveaxis(x, 0, 2), lambda x: x[[0, 2]], lambda x: x.astype(int),
        lambda x: x.transpose(2, 0, 1).reshape(15, 4), lambda x: np.concatenate([x, x], 1), lambda x: x @ x[0].T,
        lambda x: x.max(), lambda x: np.sum(x, axis=0), lambda x: np.divmod(x, 2)[1], lambda x: x.any(axis=0),
    ):  # fmt: skip
        found, expected = f(g), f(a)
        assert np.shape(found) == np.shape(expected) and found.dtype == expected.dtype
        if isinstance(found, Ghost):
            assert found.flags.c_contiguous == expected.flags.c_contiguous
    assert float(g.max()) == 0 and len(g) == 3


def test_memory_is_counted_while_a_view_lives():
    device = DryRun()
    a = device.empty((1024, 1024))
    view = a[1:].reshape(-1)
    assert device.in_use == device.peak == 4 << 20
    del a
    assert device.in_use == 4 << 20
    del view
    assert device.in_use == 0 and device.peak == 4 << 20
    small = device.empty((3,))
    assert device.in_use == 0 and small.shape == (3,)


@pytest.mark.parametrize("name", ["segnet", "fcn8s", "unet", "fcn_resnet50", "deeplabv3plus_xception65"])
def test_recomputation_keeps_less(name):
    build = lambda: models.create(name, 21)  # noqa: E731
    plain, less = (estimate(build, (128, 160), batch=2, recompute=how) for how in (False, True))
    assert less.activations < 0.62 * plain.activations and less.training < plain.training
    assert (less.multiply_adds, less.parameters, less.prediction) == (
        plain.multiply_adds,
        plain.parameters,
        plain.prediction,
    )
