"""torchvision's own networks and ours with the same weights: names map one to one, logits agree to 1e-4."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import interop, models, nn

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")


def state_of(theirs, seed=0):
    """The model's state, its running statistics drawn anew: at 0 and 1 they would hide a mistake."""
    rng = np.random.default_rng(seed)
    for name, value in theirs.state_dict().items():
        if name.endswith("running_mean"):
            value.copy_(torch.from_numpy(0.1 * rng.standard_normal(value.shape)))
        elif name.endswith("running_var"):
            value.copy_(torch.from_numpy(rng.uniform(0.8, 1.2, value.shape)))
    return theirs.eval().state_dict()


def images(n=1, h=65, w=50, seed=1):
    return np.random.default_rng(seed).standard_normal((n, h, w, 3)).astype(np.float32)


def first(x):
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def compare(ours, theirs, x):
    with ts.no_grad(), torch.no_grad():
        y, z = ours.eval()(ts.tensor(x)), theirs(first(x))
    z = z["out"] if isinstance(z, dict) else z
    close(y.numpy(), z.permute(0, 2, 3, 1).numpy() if z.ndim == 4 else z.numpy())


@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_resnet50", "fcn_resnet101", "deeplabv3_resnet101"])
def test_segmentation(name):
    make = getattr(torchvision.models.segmentation, name)
    theirs = make(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    state = state_of(theirs)
    with nn.no_init():
        ours = models.create(name, 21, aux=True)
        assert ours.parameter_count() == sum(p.numel() for p in theirs.parameters())
    assert interop.load_torch(ours, state, strict=True) == []
    compare(ours, theirs, images(h=33, w=26) if "101" in name else images())
    back = interop.to_torch(ours)
    assert all(np.array_equal(back[key], value.numpy()) for key, value in state.items() if key in back)
    assert set(state) - set(back) == {key for key in state if key.endswith("num_batches_tracked")}
    if name != "deeplabv3_resnet50":
        return

    # With the same weights and statistics also in training, both heads
    for module in ours.train().modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for module in theirs.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    x = images(2, 33, 41)
    y, z = ours(ts.tensor(x)), theirs(first(x))
    for a, b in zip(y, (z["out"], z["aux"]), strict=True):
        a, b = a.numpy(), b.detach().permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-3 * np.abs(b).max())  # fifty norms over few values

    # Another number of classes: all but the last layers, which are named
    with nn.no_init():
        other = models.create(name, 11, aux=True)
    skipped = interop.load_torch(other, state)
    assert len(skipped) == 4 and all(line.startswith("shape: ") and "classifier.4" in line for line in skipped)
    with pytest.raises(ValueError, match="classifier.4.weight is .*expected"):
        interop.load_torch(other, state, strict=True)


@pytest.mark.parametrize("depth", [18, 50])
def test_resnet_and_its_weights_as_a_backbone(depth, tmp_path):
    theirs = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    state = state_of(theirs)
    with nn.no_init():
        ours = models.ResNetClassifier(1000, depth)
    torch.save(state, tmp_path / "resnet.pth")
    assert interop.load_torch(ours, tmp_path / "resnet.pth", strict=True) == []
    compare(ours, theirs, images())
    if depth == 50:
        with nn.no_init():
            model = models.create("deeplabv3plus_resnet50", 11)
        skipped = interop.load_torch(model, state)
        trunk = {f"backbone.{key}" for key in state if not key.startswith("fc.") and "num_batches" not in key}
        mentioned = {line.split(": ")[1].split(" ")[0] for line in skipped}
        assert not mentioned & trunk and "backbone.fc.weight" in mentioned and "aspp.convs.0.0.weight" in mentioned
        assert np.array_equal(model.backbone.bn1.running_mean.numpy(), state["bn1.running_mean"].numpy())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg16(batch_norm):
    """Narrow: the full one has half a gigabyte of weights."""
    plan = [8, 8, "M", 16, 16, "M", 32, 32, 32, "M", 64, 64, 64, "M", 64, 64, 64, "M"]
    theirs = torchvision.models.VGG(torchvision.models.vgg.make_layers(plan, batch_norm), init_weights=False)
    linear = torch.nn.Linear
    theirs.classifier = torch.nn.Sequential(
        linear(64 * 49, 512), torch.nn.ReLU(), torch.nn.Dropout(), linear(512, 512), torch.nn.ReLU(),
        torch.nn.Dropout(), linear(512, 10),
    )  # fmt: skip
    state = state_of(theirs)
    with nn.no_init():
        ours = models.VGG16(10, width=8, batch_norm=batch_norm)
    assert interop.load_torch(ours, state, strict=True) == []
    compare(ours, theirs, images(h=224, w=224))
    if not batch_norm:  # the same weights are those of FCN, but for its scores
        fcn = models.create("fcn32s", 5, width=8)
        assert not any("missing: features" in line or "missing: fc" in line for line in interop.load_torch(fcn, state))
        np.testing.assert_array_equal(
            fcn.fc[0].weight.numpy(), state["classifier.0.weight"].numpy().reshape(512, 64, 7, 7).transpose(2, 3, 1, 0)
        )
