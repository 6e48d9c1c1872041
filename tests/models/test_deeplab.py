"""DeepLab v1 to v3+ and PSPNet: what each paper says of rates, scales, strides and heads."""

import inspect

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import models, nn
from tinyseg.models.deeplab_v3 import ASPP
from tinyseg.models.xception import SeparableConv, Xception65


def images(h=33, w=40, n=1, c=3, seed=0):
    return ts.tensor(np.random.default_rng(seed).standard_normal((n, h, w, c)).astype(np.float32))


def predict(model, x):
    with ts.no_grad():
        return model.eval()(x).numpy()


def conv_options(module):
    return [(c.weight.shape[0], c.dilation) for c in module.modules() if isinstance(c, nn.Conv2d)]


@pytest.mark.parametrize(
    "name", [n for n in models.names() if any(p in n for p in ("deeplab", "psp", "refine", "fcn_"))]
)
@pytest.mark.parametrize("size", [(1, 1), (8, 30), (65, 17)])
def test_any_size_gives_logits_of_exactly_that_size(name, size):
    if any(depth in name for depth in ("101", "152")) and name != "deeplabv2_resnet101":
        return  # the same class with more blocks
    assert predict(models.create(name, 3, width=4), images(*size)).shape == (1, *size, 3)


def test_large_fov_sees_as_far_as_a_filter_of_25():
    """fc6 is 3x3 with rate 12: 25 pixels at stride 8; conv5 has rate 2; the last two poolings do not stride."""
    model = models.LargeFOV(3, width=2)
    assert conv_options(model.fc) == [(3, 12), (1, 1)]
    assert [rate for _, rate in conv_options(model.features)] == [1] * 10 + [2] * 3
    with ts.no_grad():
        shapes = [y.shape[1:3] for y in model.features.stages(images(321, 321))]
    assert shapes == [(161, 161), (81, 81), (41, 41), (41, 41), (41, 41)]


def test_msc_speaks_through_the_image_and_four_poolings():
    model = models.MultiScaleLargeFOV(3, width=2)
    assert len(model.sides) == 5 and model.classifier.weight.shape == (1, 1, 32 + 5 * 4, 3)


@pytest.mark.parametrize("cls", [models.DeepLabV2VGG16, models.DeepLabV2ResNet101])
def test_scales_are_fused_by_the_greatest(cls):
    scales = (1.0, 0.75, 0.5)
    fused, alone = cls(3, width=4, scales=scales), cls(3, width=4, scales=(1.0,))
    alone.load_state_dict(fused.state_dict())
    x = images(33, 41)
    with ts.no_grad():
        each = [fused.eval().scores(x)]
        for size in ((25, 31), (16, 20)):
            smaller = ts.ops.interpolate(x, size, align_corners=True)
            each.append(ts.ops.interpolate(fused.scores(smaller), each[0].shape[1:3], align_corners=True))
        greatest = ts.tensor(np.max([y.numpy() for y in each], axis=0))
        expected = ts.ops.interpolate(greatest, (33, 41), align_corners=True).numpy()
    np.testing.assert_allclose(predict(fused, x), expected, atol=1e-5)
    assert not np.allclose(predict(alone, x), expected)
    outputs = cls(3, width=4, scales=scales, aux=True)(images(33, 41, n=2))
    assert len(outputs) == 4 and all(y.shape == (2, 33, 41, 3) for y in outputs)
    for wrong in ((), (0.5,), (1.0, 2.0), (1.0, 0.0)):
        with pytest.raises(ValueError, match="expected 1.0 first"):
            cls(3, width=2, scales=wrong)


def test_small_and_large_rates():
    for rates in ((2, 4, 8, 12), (6, 12, 18, 24)):
        model = models.DeepLabV2VGG16(3, width=2, rates=rates)
        assert tuple(fc[0].dilation for fc in model.fc) == rates


@pytest.mark.parametrize("output_stride, rates", [(32, (3, 6, 9)), (16, (6, 12, 18)), (8, (12, 24, 36))])
def test_rates_follow_the_output_stride(output_stride, rates):
    for name in ("deeplabv3_resnet50", "deeplabv3plus_resnet50", "deeplabv3plus_xception65"):
        model = models.create(name, 3, width=4, output_stride=output_stride)
        aspp = next(m for m in model.modules() if isinstance(m, ASPP))
        found = [next(rate for taps, rate in conv_options(branch) if taps == 3) for branch in aspp.convs[1:4]]
        assert tuple(found) == rates


def test_the_two_forms_of_v3():
    torchvision, paper = models.DeepLabV3ResNet50(3, width=2), models.DeepLabV3PaperResNet50(3, width=2)
    assert torchvision.backbone.strides[-1] == 8 and paper.backbone.strides[-1] == 16
    assert [block.conv2.dilation for block in torchvision.backbone.layer4] == [2, 4, 4]
    assert [block.conv2.dilation for block in paper.backbone.layer4] == [2, 4, 8]
    assert len(torchvision.classifier) == 5 and len(paper.classifier) == 2


def test_frozen_batch_norm_and_a_finer_stride_take_the_same_weights():
    """The paper's second stage: output stride 8, batch norm frozen."""
    coarse = models.DeepLabV3PaperResNet50(3, width=4)
    fine = models.DeepLabV3PaperResNet50(3, width=4, output_stride=8)
    fine.load_state_dict(coarse.state_dict())
    nn.freeze_batch_norm(fine)(images()).sum().backward()  # one image is enough then
    assert {name.rsplit(".", 2)[-2] for name, p in fine.named_parameters() if p.grad is None} >= {"bn1", "bn2", "bn3"}
    assert all(p.grad is not None for p in fine.parameters() if p.ndim == 4)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_xception_gives_an_early_and_a_late_map(output_stride):
    model = Xception65(width=4, output_stride=output_stride)
    with ts.no_grad():
        early, late = model.eval()(images(37, 53))
    assert early.shape == (1, 10, 14, 16)
    assert late.shape == (1, -(-37 // output_stride), -(-53 // output_stride), 128)
    rates = [block.convs[0].depthwise.dilation for block in model.blocks] + [
        conv.depthwise.dilation for conv in model.exit
    ]
    assert rates == {32: [1] * 23, 16: [1] * 20 + [2] * 3, 8: [1] * 3 + [2] * 17 + [4] * 3}[output_stride]
    assert len([m for m in model.modules() if isinstance(m, SeparableConv)]) == 3 * 20 + 3


def test_xception_as_the_paper_writes_and_as_its_code_does():
    paper, code = Xception65(width=4), Xception65(width=4, inner_relu=False)
    assert paper.blocks[0].convs[0].inner_relu and not code.blocks[0].convs[0].inner_relu
    assert all(conv.inner_relu and conv.outer_relu for conv in code.exit)
    code.load_state_dict(paper.state_dict())
    assert not np.allclose(predict_late(paper), predict_late(code))
    with pytest.raises(ValueError, match="output_stride is 4"):
        Xception65(output_stride=4)


def predict_late(model):
    with ts.no_grad():
        return model.eval()(images())[1].numpy()


@pytest.mark.parametrize("pools", [2, 4])
@pytest.mark.parametrize("cascade", [1, 2, 4])
def test_cascades_and_chains_of_refinenet(cascade, pools):
    model = models.RefineNet50(3, width=4, pools=pools, cascade=cascade)
    assert len(model.blocks) == cascade and all(len(block.pooling) == pools for block in model.blocks)
    assert models.build(model.config).config == model.config
    y = model(images(33, 50, n=2))
    y.sum().backward()
    assert y.shape == (2, 33, 50, 3) and all(p.grad.numpy().any() for p in model.parameters())


def test_refinenet_knows_three_cascades():
    with pytest.raises(ValueError, match="cascade is 3, expected 1, 2 or 4"):
        models.RefineNet50(3, width=2, cascade=3)


@pytest.mark.parametrize("name", [n for n in models.names() if hasattr(models.MODELS[n], "recipe")])
def test_the_rates_of_recipes_are_those_of_layers_that_are_there(name):
    """x10 for the new layers, x0.1 for a backbone: every prefix of lr_factors begins the name of a parameter."""
    recipe = models.recipe(name)
    options = {"aux": True} if "aux" in inspect.signature(models.MODELS[name]).parameters else {}
    with nn.no_init():
        model = models.create(name, 3, **options)
    parameters = [key for key, _ in model.named_parameters()]
    for prefix, factor in recipe.lr_factors:
        assert any(key.startswith(prefix) for key in parameters) and factor > 0, prefix
    rates = {group["lr"] for group in recipe.groups(model)}
    assert len(rates) >= len({factor for _, factor in recipe.lr_factors})
