"""SegNet: what crosses are places alone; one by one the features of its three forms."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import nn
from tinyseg.models.segnet import SegNet, SegNetBasic, SegNetBayesian


def image(h, w, c=2, n=1):
    return ts.tensor(np.random.default_rng(0).standard_normal((n, h, w, c)).astype(np.float32))


@pytest.mark.parametrize("model", [SegNet, SegNetBasic, SegNetBayesian])
@pytest.mark.parametrize("h, w", [(1, 1), (33, 70), (45, 31)])
def test_any_size(model, h, w):
    with ts.no_grad():
        assert model(3, 2, width=2).eval()(image(h, w)).shape == (1, h, w, 3)


def test_360_by_480_unpools_to_the_sizes_of_the_release():
    """23x30 and 45x60, which doubling 12x15 and 23x30 would miss."""
    sizes, unpool = [], ts.ops.max_unpool2d

    def watched(x, at, output_size):
        sizes.append(tuple(output_size))
        return unpool(x, at, output_size)

    with pytest.MonkeyPatch.context() as patch, ts.no_grad():
        patch.setattr(ts.ops, "max_unpool2d", watched)
        SegNet(11, 3, width=1).eval()(image(360, 480, 3))
    assert sizes == [(23, 30), (45, 60), (90, 120), (180, 240), (360, 480)]


def test_unpooling_keeps_the_maxima_in_place():
    x = ts.tensor(np.random.default_rng(0).random((2, 7, 9, 3)).astype(np.float32) + 0.1)
    y, at = ts.ops.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    z = ts.ops.max_unpool2d(y, at, (7, 9))
    kept = z.numpy() != 0
    assert np.array_equal(z.numpy()[kept], x.numpy()[kept]) and kept.sum() == y.size
    assert np.array_equal(ts.ops.max_pool2d(z, 2, ceil_mode=True).numpy(), y.numpy())


def test_layers_of_the_release():
    model = SegNet(11, width=1)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [c.weight.shape[3] for c in convolutions[:13]] == [1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8]
    decoder = [c.weight.shape[3] for block in reversed(model.decoder) for c in block if isinstance(c, nn.Conv2d)]
    assert decoder == [8, 8, 8, 8, 8, 4, 4, 4, 2, 2, 1, 1, 11]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == 25  # not behind the classes
    basic = SegNetBasic(11, width=2)
    assert sum(isinstance(m, nn.ReLU) for m in basic.modules()) == 4  # decoders have none
    assert {c.weight.shape[:2] for c in basic.modules() if isinstance(c, nn.Conv2d)} == {(7, 7), (1, 1)}


def test_uncertainty_is_the_mean_and_the_variance_of_samples():
    model, x = SegNetBayesian(3, 2, width=2, seed=5), image(20, 21, n=2)
    with ts.no_grad():
        model(x)
    model.eval()
    logits, before = model(x).numpy(), model.random_state()
    mean, uncertain = model.uncertainty(x, samples=4, seed=3)
    assert mean.shape == (2, 20, 21, 3) and uncertain.shape == (2, 20, 21)
    np.testing.assert_allclose(mean.sum(-1), 1, rtol=1e-5)
    assert (uncertain >= 0).all() and uncertain.any() and not model.training
    again = model.uncertainty(x, samples=4, seed=3)
    assert np.array_equal(mean, again[0]) and np.array_equal(uncertain, again[1])
    assert not np.array_equal(mean, model.uncertainty(x, samples=4, seed=4)[0])
    assert model.random_state() == before and np.array_equal(logits, model(x).numpy())

    rng = np.random.default_rng(3)  # the same samples by hand
    for layer in model.dropout:
        layer.reset_parameters(rng)
        layer.training = True
    with ts.no_grad():
        samples = np.stack([ts.ops.softmax(model(x)).numpy() for _ in range(4)]).astype(np.float64)
    np.testing.assert_allclose(mean, samples.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(uncertain, samples.var(0).mean(-1), rtol=1e-3, atol=1e-8)
    assert not model.uncertainty(x, samples=1)[1].any()
    with pytest.raises(ValueError, match="samples is 0"):
        model.uncertainty(x, samples=0)
