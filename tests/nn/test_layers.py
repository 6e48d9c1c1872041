"""Layers: that each calls its operator with its own options, and how Sequential fuses."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import nn, ops

rng = np.random.default_rng(0)
X = rng.standard_normal((2, 8, 10, 4)).astype(np.float32)


def same(a, b):
    np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_conv2d():
    x, layer = ts.tensor(X), nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 2), dilation=(1, 2), groups=2, seed=0)
    assert layer.weight.shape == (3, 2, 2, 6) and layer.bias.shape == (6,)
    expected = ops.conv2d(x, layer.weight, layer.bias, stride=2, padding=(1, 2), dilation=(1, 2), groups=2)
    same(layer(x), expected)
    assert repr(layer) == "Conv2d(4, 6, kernel_size=(3, 2), stride=2, padding=(1, 2), dilation=(1, 2), groups=2)"
    assert nn.Conv2d(4, 6, 3, bias=False).bias is None


def test_conv_transpose2d_takes_its_filter_from_the_convolution_that_goes_back():
    x, layer = ts.tensor(X), nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, seed=0)
    assert layer.weight.shape == (3, 3, 3, 4) and layer(x).shape == (2, 16, 20, 6)
    back = nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2, bias=False)
    back.weight = layer.weight
    assert back(layer(x)).shape == x.shape
    same(layer(x), ops.conv_transpose2d(x, layer.weight, layer.bias, 2, 1, 1, 1, 2))


def test_groups_must_divide():
    for layer in (nn.Conv2d, nn.ConvTranspose2d):
        with pytest.raises(ValueError, match="4 and 6 channels do not divide into 4 groups"):
            layer(4, 6, 3, groups=4)


def test_linear():
    layer = nn.Linear(4, 5, seed=0)
    np.testing.assert_allclose(
        layer(ts.tensor(X)).numpy(), X @ layer.weight.numpy() + layer.bias.numpy(), rtol=1e-5, atol=1e-6
    )
    assert nn.Linear(4, 5, bias=False)(ts.tensor(X)).shape == (2, 8, 10, 5)


def test_layers_start_as_pytorchs_and_repeat_by_seed():
    a, b, c = (nn.Conv2d(64, 64, 3, seed=seed) for seed in (1, 1, 2))
    assert np.abs(a.weight.numpy()).max() == pytest.approx((9 * 64) ** -0.5, rel=1e-3)
    assert np.abs(a.bias.numpy()).max() <= (9 * 64) ** -0.5
    same(a.weight, b.weight)
    assert not np.array_equal(a.weight.numpy(), c.weight.numpy())
    assert not np.array_equal(nn.Conv2d(4, 4, 3).weight.numpy(), nn.Conv2d(4, 4, 3).weight.numpy())
    models = [nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)) for _ in range(2)]
    for model in models:
        model.reset_parameters(seed=5)
    same(models[0][1].weight, models[1][1].weight)
    assert not np.array_equal(models[0][0].weight.numpy(), models[0][1].weight.numpy())


def test_batch_norm_in_training_evaluation_and_frozen():
    x, layer = ts.tensor(X), nn.BatchNorm2d(4)
    y = layer(x).numpy()
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * X.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.9 + 0.1 * X.var((0, 1, 2), ddof=1), rtol=1e-4)
    before = layer.state_dict()
    layer.eval()
    expected = (X - before["running_mean"]) / np.sqrt(before["running_var"] + 1e-5)
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-4, atol=1e-5)
    layer.train().freeze()
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert all(np.array_equal(before[name], a) for name, a in layer.state_dict().items())
    assert not layer.weight.requires_grad and "frozen" in repr(layer)
    assert nn.BatchNorm2d(4).freeze(affine=False).weight.requires_grad
    layer.reset_parameters()
    assert not layer.running_mean.numpy().any()
    plain = nn.BatchNorm2d(4, affine=False)
    assert plain.parameters() == [] and len(plain.buffers()) == 2
    same(plain(x), nn.BatchNorm2d(4)(x))
    plain.reset_parameters()


@pytest.mark.parametrize("training", [True, False])
def test_sequential_runs_neighbours_as_one(training, monkeypatch):
    layers = [nn.Conv2d(4, 6, 3, seed=0), nn.BatchNorm2d(6), nn.ReLU(), nn.BatchNorm2d(6), nn.Identity(), nn.ReLU()]
    layers += [nn.Conv2d(6, 5, 1, seed=1), nn.ReLU(), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 3, 1, seed=2)]
    layers += [nn.BatchNorm2d(3)]
    model = nn.Sequential(*layers).train(training)
    calls, names = [], ["conv2d", "conv2d_relu", "conv2d_batch_norm", "batch_norm", "batch_norm_relu", "relu"]
    for name in names:
        function = getattr(ops, name)
        monkeypatch.setattr(ops, name, lambda *args, f=function, name=name: calls.append(name) or f(*args))
    y = model(ts.tensor(X))
    # the second ReLU does not stand right behind its norm
    assert calls == ["conv2d_batch_norm", "batch_norm", "relu", "conv2d_relu", "batch_norm_relu", "conv2d_batch_norm"]
    model.reset_parameters(0)
    for i, seed in ((0, 0), (6, 1), (10, 2)):
        layers[i].reset_parameters(seed)
    expected = ts.tensor(X)
    for layer in layers:
        expected = layer(expected)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
    assert len(model) == 12 and model[2] is layers[2] and list(model) == layers


def test_pooling_and_resizing():
    x = ts.tensor(X)
    same(nn.MaxPool2d(2)(x), ops.max_pool2d(x, 2))
    pooled, at = nn.MaxPool2d(3, 2, 1, ceil_mode=True, return_indices=True)(x)
    same(pooled, ops.max_pool2d(x, 3, 2, 1, ceil_mode=True))
    assert nn.MaxUnpool2d()(pooled, at, (8, 10)).shape == X.shape
    same(nn.AvgPool2d(3, 2, 1, count_include_pad=False)(x), ops.avg_pool2d(x, 3, 2, 1, count_include_pad=False))
    same(nn.AdaptiveAvgPool2d((3, 2))(x), ops.adaptive_avg_pool2d(x, (3, 2)))
    same(nn.Upsample(scale_factor=2)(x), ops.interpolate(x, size=(16, 20), mode="nearest"))
    up = nn.Upsample(size=(5, 7), mode="bilinear", align_corners=True)
    same(up(x), ops.interpolate(x, size=(5, 7), mode="bilinear", align_corners=True))
    same(nn.Identity()(x), x)
    same(nn.ReLU()(x), ops.relu(x))
    with pytest.raises(ValueError, match="one of the two"):
        nn.Upsample()
    shown = repr(
        nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(3, 2), nn.AdaptiveAvgPool2d(1), nn.Upsample(scale_factor=2))
    )
    assert (
        "MaxPool2d(2, stride=2)" in shown and "AvgPool2d(3, stride=2)" in shown and "Upsample(x2, 'nearest')" in shown
    )


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d])
def test_dropout_is_off_in_evaluation_and_continues_from_its_state(kind):
    x, layer = ts.tensor(X), kind(0.4, seed=3)
    state = layer.generator.bit_generator.state
    first, second = layer(x), layer(x)
    kept = first.numpy() != 0
    np.testing.assert_allclose(first.numpy()[kept], X[kept] / 0.6, rtol=1e-6)
    assert not kept.all() and not np.array_equal(first.numpy(), second.numpy())
    if kind is nn.Dropout2d:
        assert (kept.all((1, 2)) | ~kept.any((1, 2))).all()
    layer.generator.bit_generator.state = state
    same(layer(x), first)
    same(layer.eval()(x), x)
    with pytest.raises(ValueError, match="p is 1"):
        kind(1)


@pytest.mark.parametrize("factor", [2, 0.5, 1.5, (2, 0.5)])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsample_by_any_factor(factor, mode):
    y = nn.Upsample(scale_factor=factor, mode=mode)(ts.tensor(X))
    assert np.array_equal(y.numpy(), ts.ops.interpolate(X, scale_factor=factor, mode=mode).numpy())


def test_a_forward_may_take_several_tensors():
    class Difference(nn.Module):
        def forward(self, a, b):
            return a - b

    assert Difference()(ts.tensor(X), ts.tensor(X)).shape == X.shape
    assert "__call__" not in vars(nn.MaxUnpool2d)
