"""Dilated convolutions against the paper: sizes, the identity, what one pixel sees, the mirrored border."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.models.dilated import MARGIN, Context, DilatedFrontend, Dilation7, Dilation8, Dilation10, mirror

BASIC = (1,) * 7


def image(h, w, c=2):
    return ts.tensor(np.random.default_rng(0).standard_normal((1, h, w, c)).astype(np.float32))


def test_sizes_of_the_release():
    """900 pixels with the margin, 528 without, 66 scores."""
    model, n = DilatedFrontend(2, 1, width=1).eval(), 900
    for conv in (layer for layer in (*model.features, *model.fc) if hasattr(layer, "dilation")):
        if hasattr(conv, "ceil_mode"):
            assert n % 2 == 0
            n //= 2
        else:
            n -= conv.dilation * (conv.weight.shape[0] - 1)
    assert n == 66 and 8 * n == 900 - 2 * MARGIN
    with ts.no_grad():
        assert model.scores(image(64, 40, 1)).shape == (1, 8, 5, 2)
        assert model.scores(image(65, 33, 1)).shape == (1, 9, 5, 2)


@pytest.mark.parametrize("padding", ["layers", "once"])
@pytest.mark.parametrize("widths", [BASIC, (2, 2, 4, 8, 16, 32, 32)], ids=["basic", "large"])
def test_the_context_module_begins_as_the_identity(padding, widths):
    context = Context(2, (1, 1, 2, 4, 8, 16, 1), widths, padding)
    context.noise = 0.0
    context.reset_parameters()
    x = ts.tensor(np.abs(image(9, 11).numpy()))
    with ts.no_grad():
        np.testing.assert_allclose(context(x).numpy(), x.numpy(), rtol=1e-5, atol=1e-5)
        assert np.abs(context(ts.tensor(-x.numpy())).numpy()).max() < 1e-5


@pytest.mark.parametrize("dilations, sees", [((1, 1, 2, 4, 8, 16, 1), 67), ((1, 1, 2, 4, 8, 1), 35)])
def test_receptive_field_measured_by_the_gradient(dilations, sees):
    context = Context(1, dilations, (1,) * len(dilations))
    for p in context.parameters():
        p.assign(np.full(p.shape, 0.1))
    x = ts.tensor(np.ones((1, 81, 83, 1), np.float32), requires_grad=True)
    dy = np.zeros((1, 81, 83, 1), np.float32)
    dy[0, 40, 41] = 1
    context(x).backward(dy)
    rows, columns = np.nonzero(x.grad.numpy()[0, :, :, 0])
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (sees, sees) and (rows.min() + rows.max()) / 2 == 40


def test_layers_of_the_front_end():
    model = DilatedFrontend(3, width=1)
    kinds = [type(layer).__name__ for layer in model.features]
    assert kinds.count("MaxPool2d") == 3 and kinds.count("Identity") == 2
    assert [c.dilation for c in model.features if hasattr(c, "dilation") and hasattr(c, "weight")] == [1] * 10 + [2] * 3
    assert model.fc[0].dilation == 4 and all(c.padding == 0 for c in model.features if hasattr(c, "weight"))
    assert model.final.weight.numpy().std() < 0.002
    assert not any(p is model.upsample.weight for p in model.parameters())
    dilations = {Dilation7: (8,), Dilation8: (8, 16), Dilation10: (8, 16, 32, 64)}
    for kind, tail in dilations.items():
        assert tuple(c.dilation for c in kind(2, width=1).context if hasattr(c, "weight")) == (1, 1, 2, 4, *tail, 1, 1)


@pytest.mark.parametrize("h, w", [(1, 5), (2, 3), (7, 20)])
def test_mirror_is_numpys_reflection_at_any_width(h, w):
    x = image(h, w)
    y = mirror(x, (13, 21), (8, 0)).numpy()
    mode = "edge" if h == 1 else "reflect"
    expected = np.pad(
        np.pad(x.numpy(), ((0, 0), (13, 21), (0, 0), (0, 0)), mode), ((0, 0), (0, 0), (8, 0), (0, 0)), "reflect"
    )
    np.testing.assert_array_equal(y, expected)


def test_inside_the_image_the_logits_do_not_depend_on_where_its_border_is():
    """Valid convolutions and a margin as wide as the receptive field: a crop's scores are the image's."""
    model, x = DilatedFrontend(2, 1, width=1, seed=1).eval(), image(32, 416, 1)
    with ts.no_grad():
        whole = model.scores(x).numpy()
        right = model.scores(ts.tensor(x.numpy()[:, :, 8:])).numpy()
    np.testing.assert_allclose(whole[:, :, 26:], right[:, :, 25:], rtol=1e-4, atol=1e-7)


def test_any_size_and_what_cannot_be():
    with ts.no_grad():
        for h, w in ((1, 1), (37, 53)):
            model = Dilation8(3, 2, width=1, context="large", padding="once").eval()
            assert model(image(h, w)).shape == (1, h, w, 3)
    with pytest.raises(ValueError, match="context is 'huge'"):
        Dilation8(3, width=1, context="huge")
    with pytest.raises(ValueError, match="padding is 'none'"):
        Dilation10(3, width=1, padding="none")
