"""FCN against its paper and its release: counts, crops, zero scores, scales of at-once, warm start."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import models, nn
from tinyseg.models.fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s, FCN32sAlexNet, Upscore

NARROW = {FCN32s: 1, FCN16s: 1, FCN8s: 1, FCN8sAtOnce: 1, FCN32sAlexNet: 12}


def image(h, w, c=2, seed=0):
    return ts.tensor(np.random.default_rng(seed).standard_normal((1, h, w, c)).astype(np.float32))


def random_weights(model, seed=0):
    """Values for the layers that begin at zero, so that every path shows."""
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        if not p.numpy().any():
            p.assign(0.1 * rng.standard_normal(p.shape))
    return model.eval()


@pytest.mark.parametrize("model", NARROW)
@pytest.mark.parametrize("h, w", [(1, 2), (25, 32), (33, 70), (96, 41)])
def test_logits_have_the_size_of_the_image(model, h, w):
    with ts.no_grad():
        assert model(3, 2, width=NARROW[model]).eval()(image(h, w)).shape == (1, h, w, 3)


def crops(sizes, offset):
    return slice(offset, offset + sizes[0]), slice(offset, offset + sizes[1])


def test_the_crops_are_those_of_the_release():
    """FCN-8s step by step as Caffe does it: whole transposed convolutions, then crops by 5, 9 and 31."""
    model, x = random_weights(FCN8s(3, 2, width=1, upsampling="dense")), image(45, 70)
    with ts.no_grad():
        pool3, pool4, pool5 = model.features.stages(x, first=2)
        up = lambda x, layer: ts.ops.conv_transpose2d(x, layer.weight, stride=layer.stride)  # noqa: E731
        score = up(model.score_fr(model.fc(pool5)), model.upscore2).numpy()
        score = score + model.score_pool4(pool4).numpy()[:, *crops(score.shape[1:3], 5)]
        score = up(ts.tensor(score), model.upscore_pool4).numpy()
        score = score + model.score_pool3(pool3).numpy()[:, *crops(score.shape[1:3], 9)]
        expected = up(ts.tensor(score), model.upscore8).numpy()[:, *crops((45, 70), 31)]
        np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model, layer, offset", [(FCN32s, "upscore", 19), (FCN32sAlexNet, "upscore", 18)])
def test_32s_crops_by(model, layer, offset):
    model = random_weights(model(3, 2, width=NARROW[model], upsampling="depthwise"))
    x, up = image(25, 58), getattr(model, layer)
    with ts.no_grad():
        score = model.score_fr(model.fc(model.features(x)))
        whole = ts.ops.conv_transpose2d(score, up.weight, stride=32, groups=3).numpy()
        np.testing.assert_allclose(model(x).numpy(), whole[:, *crops((25, 58), offset)], rtol=1e-5, atol=1e-6)
    assert model.features[0].padding == 100


@pytest.mark.parametrize("model", NARROW)
def test_first_loss_is_log_of_the_classes_and_only_the_scores_learn(model):
    model, target = model(4, 2, width=NARROW[model]).eval(), np.zeros((1, 33, 40), np.int32)
    target[0, ::2] = 3
    loss = ts.losses.cross_entropy(model(image(33, 40)), target)
    assert loss.item() == pytest.approx(np.log(4), rel=1e-5)
    loss.backward()
    for name, p in model.named_parameters():
        if name.endswith("bias") and name.startswith("score"):
            assert p.grad.numpy().any(), name
        elif not name.startswith("score"):
            assert not p.grad.numpy().any(), name
    assert model.score_fr.weight.grad.numpy().any()


def test_at_once_scales_pool4_and_pool3():
    state = random_weights(FCN8s(3, 2, width=1)).state_dict()
    once, plain = FCN8sAtOnce(3, 2, width=1).eval(), FCN8s(3, 2, width=1).eval()
    once.load_state_dict(state)
    for layer, factor in (("score_pool4", 0.01), ("score_pool3", 0.0001)):
        state[f"{layer}.weight"] = state[f"{layer}.weight"] * np.float32(factor)
    plain.load_state_dict(state)
    x, dy = image(33, 40), np.random.default_rng(0).standard_normal((1, 33, 40, 3)).astype(np.float32)
    a, b = once(x), plain(x)
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-7)
    a.backward(dy), b.backward(dy)
    for layer, factor in (("score_pool4", 0.01), ("score_pool3", 0.0001)):
        ours, theirs = getattr(once, layer).weight.grad.numpy(), getattr(plain, layer).weight.grad.numpy()
        np.testing.assert_allclose(ours, factor * theirs, rtol=1e-4, atol=1e-6 * factor)


def test_warm_start_from_32s_to_16s_to_8s():
    """Each begins where the one before stood: the new score is zero and the upsamplings interpolate."""
    first = random_weights(FCN32s(3, 2, width=1), seed=1)
    second, third = FCN16s(3, 2, width=1, seed=2).eval(), FCN8s(3, 2, width=1, seed=3).eval()
    missing = second.load_state_dict(first.state_dict(), strict=False)
    assert {line.split()[1].split(".")[0] for line in missing} == {"upscore", "upscore2", "score_pool4", "upscore16"}
    third.load_state_dict(second.state_dict(), strict=False)
    x = image(64, 96)
    with ts.no_grad():
        a, b, c = (m(x).numpy() for m in (first, second, third))
    scale = np.abs(a).max()
    assert np.abs(b - a).max() < 0.2 * scale and np.abs(c - b).max() < 0.1 * scale and np.abs(c - a).max() > 0
    assert [models.recipe(name).warm_start for name in ("fcn32s", "fcn16s", "fcn8s")] == [None, "fcn32s", "fcn16s"]


@pytest.mark.parametrize("how", ["fixed", "depthwise", "dense"])
@pytest.mark.parametrize("stride", [2, 8, 32])
def test_upscore_of_a_constant_is_constant_and_inside_it_is_interpolation(how, stride):
    up = Upscore(2, 2 * stride, stride, how)
    x = image(5, 6, 2)
    with ts.no_grad():
        inside = slice(stride // 2 * 3, -stride // 2 * 3)
        y = up(x).numpy()[:, inside, inside]
        half = stride // 2
        z = ts.ops.interpolate(x, (5 * stride, 6 * stride)).numpy()
        z = np.pad(z, ((0, 0), (half, half), (half, half), (0, 0)))[:, inside, inside]
        np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-5)
        ones = up(ts.tensor(np.ones((1, 5, 6, 2), np.float32))).numpy()
        np.testing.assert_allclose(ones[:, half:-half, half:-half][:, half:-half, half:-half], 1, rtol=1e-6)
    assert isinstance(up.weight, nn.Buffer if how == "fixed" else nn.Parameter)


def test_what_cannot_be():
    for model in NARROW:
        with pytest.raises(ValueError, match="upsampling is 'cubic', expected 'paper'"):
            model(3, width=NARROW[model], upsampling="cubic")
