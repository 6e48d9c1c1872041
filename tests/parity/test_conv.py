"""conv2d and conv_transpose2d against PyTorch, values and gradients, over drawn geometry."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops.conv import conv2d, conv_transpose2d

from ..ops.conv.cases import LAYERS
from ..strategies import conv_geometries, float_dtypes, normal, seeds

torch = pytest.importorskip("torch")


def nchw(array, **options):
    """(N,H,W,C) -> PyTorch's (N,C,H,W)."""
    return torch.tensor(np.ascontiguousarray(array.transpose(0, 3, 1, 2)), **options)


def kcrs(w, **options):
    """(R,S,C,K) -> PyTorch's (K,C,R,S)."""
    return torch.tensor(np.ascontiguousarray(w.transpose(3, 2, 0, 1)), **options)


def assert_close(ours, theirs, channels_last):
    ours = ours.numpy()
    theirs = theirs.detach().numpy().transpose(channels_last)
    assert ours.shape == theirs.shape
    single = ours.dtype == np.float32
    scale = np.abs(theirs).max(initial=0)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=(2e-5 if single else 1e-12) * max(scale, 1))


@given(conv_geometries(max_side=12, max_channels=40), float_dtypes, seeds, st.booleans())
def test_conv2d(g, dtype, seed, with_bias):
    check_conv2d(g, dtype, seed, with_bias)


@pytest.mark.parametrize("g", LAYERS.values(), ids=LAYERS.keys())
def test_layers_of_the_networks(g):
    check_conv2d(g, np.float32, 0, True)


def check_conv2d(g, dtype, seed, with_bias):
    shapes = g.x_shape, g.w_shape, (g.k,), g.y_shape
    x, w, b, dy = (normal(shape, (seed, i), dtype) for i, shape in enumerate(shapes))
    ours = [ts.tensor(a, requires_grad=True) for a in (x, w, b)]
    theirs = [nchw(x, requires_grad=True), kcrs(w, requires_grad=True), torch.tensor(b, requires_grad=True)]
    inputs = slice(3 if with_bias else 2)
    y = conv2d(*ours[inputs], **g.options)
    expected = torch.nn.functional.conv2d(*theirs[inputs], **g.options)
    y.backward(dy)
    expected.backward(nchw(dy))
    assert_close(y, expected, (0, 2, 3, 1))
    for a, b, order in zip(ours[inputs], theirs, ((0, 2, 3, 1), (2, 3, 1, 0), (0,))):
        assert_close(a.grad, b.grad, order)


@given(conv_geometries(max_side=8, max_channels=40), float_dtypes, seeds, st.booleans(), st.data())
def test_conv_transpose2d(g, dtype, seed, with_bias, data):
    most = [max(step, dil) - 1 for step, dil in zip(g.stride, g.dilation)]
    output_padding = tuple(data.draw(st.integers(0, m)) for m in most)
    steps = zip((g.p, g.q), (g.r, g.s), g.stride, g.padding, g.dilation, output_padding)
    size = [(n - 1) * step - 2 * pad + dil * (taps - 1) + 1 + extra for n, taps, step, pad, dil, extra in steps]
    assume(min(size) >= 1)
    shapes = g.y_shape, g.w_shape, (g.c,), (g.n, *size, g.c)
    x, w, b, dy = (normal(shape, (seed, i), dtype) for i, shape in enumerate(shapes))
    options = g.options | dict(output_padding=output_padding)
    ours = [ts.tensor(a, requires_grad=True) for a in (x, w, b)]
    # PyTorch's filter is (channels in, channels out / groups, R, S): our (R,S,C/groups,K) with K first
    theirs = [nchw(x, requires_grad=True), kcrs(w, requires_grad=True), torch.tensor(b, requires_grad=True)]
    inputs = slice(3 if with_bias else 2)
    y = conv_transpose2d(*ours[inputs], **options)
    expected = torch.nn.functional.conv_transpose2d(*theirs[inputs], **options)
    y.backward(dy)
    expected.backward(nchw(dy))
    assert_close(y, expected, (0, 2, 3, 1))
    for a, b, order in zip(ours[inputs], theirs, ((0, 2, 3, 1), (2, 3, 1, 0), (0,))):
        assert_close(a.grad, b.grad, order)
