"""ResNet against its paper and torchvision's layout: parameter counts, sizes, dilations, what freezing does."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import nn
from tinyseg.models.resnet import BLOCKS, ResNet, ResNetClassifier

TRUNK = {18: 11_176_512, 34: 21_284_672, 50: 23_508_032, 101: 42_500_160, 152: 58_143_808}


def images(h=37, w=53, n=2, channels=3):
    return ts.tensor(np.random.default_rng(0).standard_normal((n, h, w, channels)).astype(np.float32))


@pytest.fixture
def nothing_drawn(monkeypatch):
    """Layers keep the zeros they were allocated with, whose pages the system never hands out: a count costs nothing."""
    monkeypatch.setattr(nn.Conv2d, "reset_parameters", lambda self, seed=0: None)
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self, seed=0: None)
    monkeypatch.setattr(ResNet, "reset_parameters", lambda self, seed=0: None)


@pytest.mark.parametrize("depth", BLOCKS)
def test_parameters_of_the_trunk(depth, nothing_drawn):
    assert ResNet(depth).parameter_count() == TRUNK[depth]


@pytest.mark.parametrize("depth, expected", [(50, 25_557_032), (101, 44_549_160), (152, 60_192_808)])
def test_parameters_of_the_classifier(depth, expected, nothing_drawn):
    assert ResNetClassifier(1000, depth).parameter_count() == expected


@pytest.mark.parametrize("depth, expected", [(50, 23_631_808), (101, 42_623_936)])
def test_parameters_with_the_deep_stem(depth, expected, nothing_drawn):
    assert ResNet(depth, deep_stem=True).parameter_count() == expected


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("depth, deep_stem", [(18, False), (50, True)])
def test_four_maps_by_stride(depth, deep_stem, output_stride):
    model = ResNet(depth, width=4, output_stride=output_stride, deep_stem=deep_stem)
    maps = model(images())
    assert model.strides == [min(s, output_stride) for s in (4, 8, 16, 32)]
    for y, channels, stride in zip(maps, model.channels, model.strides, strict=True):
        assert y.shape == (2, -(-37 // stride), -(-53 // stride), channels)
    assert model.channels == [w * BLOCKS[depth][0].expansion for w in (4, 8, 16, 32)]


def rates(blocks):
    return [block.conv2.dilation for block in blocks]


def test_both_conventions_of_dilation_and_multi_grid():
    torchvision = ResNet(50, width=2, output_stride=8)
    assert rates(torchvision.layer3) == [1, 2, 2, 2, 2, 2] and rates(torchvision.layer4) == [2, 4, 4]
    deeplab = ResNet(50, width=2, output_stride=8, whole_stage=True)
    assert rates(deeplab.layer3) == [2] * 6 and rates(deeplab.layer4) == [4] * 3
    grid = ResNet(50, width=2, output_stride=16, whole_stage=True, multi_grid=(1, 2, 4))
    assert rates(grid.layer3) == [1] * 6 and rates(grid.layer4) == [2, 4, 8]
    assert all(block.conv2.stride == 1 for block in deeplab.layer3 + deeplab.layer4)


def test_dilation_computes_what_striding_left_out():
    """Every other pixel of the dilated map is the strided one: same weights, no training, same receptive field."""
    x = images(64, 64, n=1)
    strided = ResNet(50, width=4, output_stride=16).eval()
    dilated = ResNet(50, width=4, output_stride=8).eval()
    dilated.load_state_dict(strided.state_dict())
    with ts.no_grad():
        coarse, fine = strided(x)[2].numpy(), dilated(x)[2].numpy()
    np.testing.assert_allclose(fine[:, ::2, ::2], coarse, atol=1e-5 * np.abs(coarse).max())


def test_frozen_batch_norm_stays_as_it_is_in_training():
    model = nn.freeze_batch_norm(ResNet(18, width=4))
    x = images()
    before = model.state_dict()
    model(x)[-1].sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {
        name for name, _ in model.named_parameters() if "conv" in name or name.endswith("downsample.0.weight")
    }
    assert all(np.array_equal(before[name], value) for name, value in model.state_dict().items())
    only_statistics = nn.freeze_batch_norm(ResNet(18, width=4), affine=False)
    only_statistics(x)[-1].sum().backward()
    assert all(p.grad is not None for p in only_statistics.parameters())


def test_the_classifier_gives_one_score_a_class_and_a_gradient_everywhere():
    model = ResNetClassifier(5, 18, width=4)
    y = model(images())
    assert y.shape == (2, 5)
    y.backward(np.ones((2, 5), np.float32))
    assert all(p.grad.numpy().any() for p in model.parameters())


def test_wrong_depth_and_stride():
    with pytest.raises(ValueError, match="depth is 51, expected one of 18, 34, 50"):
        ResNet(51)
    with pytest.raises(ValueError, match="output_stride is 4, expected 8, 16 or 32"):
        ResNet(output_stride=4)
