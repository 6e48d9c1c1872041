"""conv_transpose2d: value, gradient, the adjoint of conv2d with the same filters, interpolation, errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops.conv import conv2d, conv_transpose2d

from ...strategies import conv_geometries, float_dtypes, normal, seeds
from . import oracle
from .cases import CORNERS, DEPTHWISE, case
from .test_conv2d import assert_near, zeros


def output_padding(g):
    """What makes conv_transpose2d return the size that conv2d started from: the pixels that no window reached."""
    sizes = zip((g.h, g.w), (g.p, g.q), (g.r, g.s), g.stride, g.padding, g.dilation)
    return tuple(n - ((p - 1) * step - 2 * pad + dil * (taps - 1) + 1) for n, p, taps, step, pad, dil in sizes)


def options(g):
    return g.options | dict(output_padding=output_padding(g))


def draw(g, seed=0, dtype=np.float64):
    """x, w, b and dy; x has the shape of the result of the conv2d that g describes."""
    shapes = g.y_shape, g.w_shape, (g.c,), g.x_shape
    return [normal(shape, (seed, i), dtype) for i, shape in enumerate(shapes)]


def check_value_and_gradients(g, dtype, seed, device):
    x, w, b, dy = draw(g, seed, dtype)
    absolute = [np.abs(a) for a in (x, w, b, dy)]
    inputs = [ts.tensor(a, device, requires_grad=True) for a in (x, w, b)]
    y = conv_transpose2d(*inputs, **options(g))
    y.backward(dy)
    assert y.dtype == dtype
    assert_near(y.numpy(), oracle.conv_transpose2d(x, w, b, g), oracle.conv_transpose2d(*absolute[:3], g))
    dx, dw, db = (t.grad.numpy() for t in inputs)
    assert_near(dx, oracle.conv2d(dy, w, None, g), oracle.conv2d(absolute[3], absolute[1], None, g))
    assert_near(dw, oracle.conv2d_backward_w(x, dy, g), oracle.conv2d_backward_w(absolute[0], absolute[3], g))
    assert_near(db, dy.sum(axis=(0, 1, 2), dtype=np.float64), absolute[3].sum(axis=(0, 1, 2), dtype=np.float64))


@given(conv_geometries(), float_dtypes, seeds)
def test_value_and_gradients_are_those_of_the_equation(device, g, dtype, seed):
    check_value_and_gradients(g, dtype, seed, device)


@pytest.mark.parametrize("g", (CORNERS | DEPTHWISE).values(), ids=(CORNERS | DEPTHWISE).keys())
def test_corners(device, g):
    check_value_and_gradients(g, np.float32, 1, device)


@given(conv_geometries(max_side=6), seeds)
def test_gradient_in_float64(device, g, seed):
    x, w, b, _ = draw(g, seed)
    ts.gradcheck(lambda x, w, b: conv_transpose2d(x, w, b, **options(g)), x, w, b, device=device)


@given(conv_geometries(), seeds)
def test_adjoint_in_x_and_in_w(device, g, seed):
    x, w, _, _ = draw(g, seed)
    ts.adjoint_check(lambda x: conv_transpose2d(x, ts.tensor(w, device), **options(g)), x, device=device)
    ts.adjoint_check(lambda w: conv_transpose2d(ts.tensor(x, device), w, **options(g)), w, device=device)


@given(conv_geometries(max_channels=40), float_dtypes, seeds)
def test_it_is_the_adjoint_of_conv2d_with_the_same_filters(device, g, dtype, seed):
    """<A x, y> = <x, A^T y>"""
    y, w, _, x = draw(g, seed, dtype)
    Ax = conv2d(ts.tensor(x, device), w, **g.options).numpy()
    Aty = conv_transpose2d(ts.tensor(y, device), w, **options(g)).numpy()
    left, right = (np.vdot(a.astype(np.float64), b.astype(np.float64)) for a, b in ((Ax, y), (x, Aty)))
    scale = np.linalg.norm(Ax) * np.linalg.norm(y) + np.linalg.norm(x) * np.linalg.norm(Aty)
    assert abs(left - right) <= (1e-5 if dtype == np.float32 else 1e-13) * scale


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.data())
def test_the_size_of_the_result(size, taps, stride, padding, data):
    """H = (P-1) stride - 2 padding + dilation (R-1) + 1 + output_padding"""
    dilation = data.draw(st.integers(1, 3))
    extra = data.draw(st.integers(0, max(stride, dilation) - 1))
    expected = (size - 1) * stride - 2 * padding + dilation * (taps - 1) + 1 + extra
    x, w = zeros(1, size, size, 2), zeros(taps, taps, 3, 2)
    call = dict(stride=stride, padding=padding, dilation=dilation, output_padding=extra)
    if expected < 1:
        with pytest.raises(ValueError, match="the result would have size"):
            conv_transpose2d(x, w, **call)
    else:
        assert conv_transpose2d(x, w, **call).shape == (1, expected, expected, 3)


def test_output_padding_beyond_every_tap_holds_the_bias():
    x, w, b = np.ones((1, 3, 3, 2), np.float32), np.ones((1, 1, 4, 2), np.float32), np.arange(4, dtype=np.float32)
    y = conv_transpose2d(x, w, b, stride=3, output_padding=2).numpy()
    assert y.shape == (1, 9, 9, 4)
    touched = np.zeros((9, 9), bool)
    touched[::3, ::3] = True
    assert np.array_equal(y[0, ~touched], np.broadcast_to(b, (72, 4)))
    assert np.array_equal(y[0, touched], np.broadcast_to(b + 2, (9, 4)))


@pytest.mark.parametrize("groups", [1, 3], ids=["all channels", "depth-wise"])
@pytest.mark.parametrize("stride", [2, 3, 8])
def test_bilinear_filters_keep_a_constant_image_constant(stride, groups):
    """Filters of 2s x 2s taps (1 - |t| / s) at stride s are bilinear interpolation: a pixel's weights add up to 1."""
    taps = np.arange(2 * stride)
    line = 1 - np.abs((taps + 0.5) / stride - 1)
    w = np.zeros((2 * stride, 2 * stride, 3 // groups, 3), np.float32)
    for k in range(3):
        w[:, :, k % (3 // groups), k] = np.outer(line, line)
    x = np.broadcast_to(np.array([1, -2, 0.25], np.float32), (1, 4, 5, 3))
    pad = stride // 2
    y = conv_transpose2d(x, w, stride=stride, padding=pad, groups=groups).numpy()
    interior = y[0, stride:-stride, stride:-stride]
    assert interior.size
    np.testing.assert_allclose(interior, np.broadcast_to([1, -2, 0.25], interior.shape), rtol=1e-6)


def test_nearest_neighbour_filters_repeat_each_pixel():
    x = normal((1, 3, 4, 1), 0, np.float32)
    y = conv_transpose2d(x, np.ones((2, 2, 1, 1), np.float32), stride=2).numpy()
    assert np.array_equal(y, x.repeat(2, axis=1).repeat(2, axis=2))


X, W = zeros(2, 5, 6, 4), zeros(3, 3, 6, 4)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((zeros(2, 5, 6, 3), W), {}, r"x has 3 channels but w \(R,S,C,K\) takes 4"),
        ((X, W), dict(groups=3), "4 channels do not divide into 3 groups"),
        ((X[0], W), {}, r"expected x \(N,P,Q,K\) and w \(R,S,C,K\), got x \(5, 6, 4\)"),
        ((X, W[0]), {}, r"expected x \(N,P,Q,K\) and w \(R,S,C,K\), got x .* w \(3, 6, 4\)"),
        ((zeros(2, 0, 6, 4), W), {}, "an image without pixels"),
        ((X, zeros(3, 0, 6, 4)), {}, "a filter without taps or channels"),
        ((X, W), dict(output_padding=1), "output_padding 1 must be less than stride 1 or dilation 1"),
        ((X, W), dict(output_padding=(0, 2), stride=2), "output_padding 2 must be less than stride 2 or dilation 1"),
        ((X, W), dict(output_padding=-1), "output_padding is -1, expected an integer >= 0 or two of them"),
        ((X, W), dict(padding=4), r"the result would have size \(-1, 0\); cure: less padding"),
        ((X, W, zeros(4)), {}, r"b has shape \(4,\), expected \(6,\)"),
        ((X, W), dict(stride=0), "stride is 0, expected an integer >= 1"),
        ((X, W), dict(padding=(1, -1)), r"padding is \(1, -1\), expected an integer >= 0"),
        ((X, W), dict(dilation=0), "dilation is 0, expected an integer >= 1"),
        ((X, W), dict(groups=0), "groups is 0, expected an integer >= 1"),
    ],
)
def test_raises_where_shapes_or_options_do_not_fit(arguments, options, message):
    with pytest.raises(ValueError, match=f"^conv_transpose2d: .*{message}"):
        conv_transpose2d(*arguments, **options)


@pytest.mark.parametrize("dtypes", [("f4", "f8", "f4"), ("f8", "f8", "f4"), ("i4", "i4", "i4")])
def test_raises_for_mixed_and_integer_dtypes(dtypes):
    arrays = [zeros(*shape, dtype=d) for shape, d in zip((X.shape, W.shape, (6,)), dtypes)]
    with pytest.raises(TypeError, match="conv_transpose2d: expected x, w and b of one dtype"):
        conv_transpose2d(*arrays)


def test_empty_batch(device):
    g = case(0, 8, 8, 5, 6, 2, stride=2)
    x, w, b, dy = (ts.tensor(a, device, requires_grad=True) for a in draw(g))
    y = conv_transpose2d(x, w, b, **options(g))
    assert y.shape == (0, 8, 8, 5)
    y.backward(dy.numpy())
    assert x.grad.shape == x.shape and not w.grad.numpy().any() and not b.grad.numpy().any()
