"""Convolutions as products on tensor cores: the three maps in every type, cut sums, the epilogue, orders of threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyseg.device import Emulated
from tinyseg.ops.conv import tensorcore
from tinyseg.ops.conv.conv2d import backward_w
from tinyseg.ops.conv.geometry import Options
from tinyseg.ops.conv.tensorcore import (
    _padded,
    gather_product,
    product_backward_to_parts,
    product_backward_w,
    product_backward_x,
    product_forward,
)
from tinyseg.ops.statistics import RUN

from ...strategies import conv_geometries, normal, seeds
from . import oracle
from .cases import CORNERS, THIN, case

TENSOR_CASES = {
    name: CORNERS[name] for name in ("padding > image", "empty batch", "odd sizes", "21 classes", "2 groups")
}
TENSOR_CASES |= {name: THIN[name] for name in ("3 channels, 7x7 stride 2", "7 channels, 3x3 dilated")}
TENSOR_CASES |= {
    "two tiles in every direction": case(2, 9, 9, 72, 136, 3, padding=1),
    "a phase without taps": case(1, 9, 8, 8, 24, 1, stride=2),
    "transposed 4x4 stride 2": case(1, 12, 9, 21, 16, 4, stride=2, padding=1),
    "dilated, stride 2: taps of every second phase": case(1, 11, 12, 16, 8, 3, stride=2, padding=2, dilation=2),
}


# ---------------------------------------------------------------------- operands as the tensor cores see them


def bits(a):
    return np.ascontiguousarray(a, np.float32).view(np.uint32)


def to_bfloat16(a):
    """The bits of the nearest bfloat16, ties to even, in uint16."""
    return ((bits(a) + 0x7FFF + (bits(a) >> 16 & 1)) >> 16).astype(np.uint16)


def to_tf32(a):
    """The nearest tf32, ties away from zero, as float32."""
    return ((bits(a) + 0x1000) & 0xFFFFE000).view(np.float32)


KINDS = {  # what lies in memory, and which numbers that means
    "half": (lambda a: a.astype(np.float16), lambda a: a.astype(np.float16)),
    "bfloat16": (to_bfloat16, lambda a: (to_bfloat16(a).astype(np.uint32) << 16).view(np.float32)),
    "tf32": (lambda a: a, to_tf32),
    "exact": (lambda a: a, lambda a: a),
}


def check(device, g, kind, seed=0, dtype=np.float32):
    """The three maps against the equation on the same rounded numbers; what is left is the sum's own rounding."""
    stored, means = KINDS[kind]
    arrays = [normal(shape, (seed, i), np.float32) for i, shape in enumerate((g.x_shape, g.w_shape, g.y_shape))]
    (x, w, dy), (X, W, DY) = [stored(a) for a in arrays], [means(a).astype(np.float64) for a in arrays]
    b, exact = normal((g.k,), (seed, 3), np.float32), kind == "exact"
    x, w, dy, put_b = map(device.array, (x, w, dy, b))
    geometry = Options.of("conv2d", **g.options).geometry(g.x_shape, g.w_shape)
    y = product_forward(device, geometry, x, w, put_b, exact=exact, dtype=dtype)[0]
    dx = product_backward_x(device, geometry, dy, w, exact=exact, dtype=dtype)
    dw = product_backward_w(device, geometry, dy, x, exact=exact)
    y, dx, dw = map(device.numpy, (y, dx, dw))
    assert y.dtype == dx.dtype == dtype and dw.dtype == np.float32
    near(y, oracle.conv2d(X, W, b, g), oracle.conv2d(abs(X), abs(W), abs(b), g))
    near(dx, oracle.conv_transpose2d(DY, W, None, g), oracle.conv_transpose2d(abs(DY), abs(W), None, g))
    near(dw, oracle.conv2d_backward_w(DY, X, g), oracle.conv2d_backward_w(abs(DY), abs(X), g))
    return y, dx, dw


def near(got, expected, terms):
    assert got.shape == expected.shape
    rounding = np.abs(expected) * (2.0**-11 if got.dtype == np.float16 else 0)
    assert (np.abs(got - expected) <= 1e-6 * terms.max(initial=0) + rounding).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("g", TENSOR_CASES.values(), ids=TENSOR_CASES.keys())
def test_the_three_maps_in_every_type(capable, g, kind):
    check(capable, g, kind)


@given(conv_geometries(max_channels=40, max_stride=3), st.sampled_from(["bfloat16", "tf32", "exact"]), seeds)
def test_any_geometry(device, g, kind, seed):
    if device.has(gather_product):  # the CPU has other ways
        check(device, g, kind, seed)


def test_results_in_half(capable):
    check(capable, TENSOR_CASES["odd sizes"], "half", dtype=np.float16)


# --------------------------------------------------------------------------------------- sums cut into shares


def with_threads(device, threads):
    """The device as one that wants so many blocks."""
    twin = type("Wider", (type(device),), {"threads": threads, "__init__": lambda self: None})()
    vars(twin).update(vars(device))
    return twin


@pytest.mark.parametrize("kind", ["tf32", "exact"])
@pytest.mark.parametrize("threads", [4, 1000])
def test_sums_cut_into_shares(capable, threads, kind):
    for g in (case(2, 11, 10, 80, 24, 3, padding=1), case(2, 10, 12, 64, 72, 4, stride=2, padding=1)):
        cut = check(with_threads(capable, threads), g, kind)
        whole = check(with_threads(capable, 1), g, kind)
        assert not all(np.array_equal(a, b) for a, b in zip(cut, whole))  # they were added up in another order
        assert all(np.array_equal(a, b) for a, b in zip(cut, check(with_threads(capable, threads), g, kind)))


# ------------------------------------------------------------------------------------------ x and dx in two arrays


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 64])
def test_parts_give_the_bits_of_the_whole_without_a_copy(capable, kind, threads, monkeypatch):
    device, exact = with_threads(capable, threads), kind == "exact"
    for first, g in ((8, case(2, 5, 6, 72, 24, 3, padding=1)), (64, case(1, 9, 8, 80, 72, 4, stride=2, padding=1))):
        geometry = Options.of("conv2d", **g.options).geometry(g.x_shape, g.w_shape)
        shapes = g.x_shape, g.w_shape, g.y_shape
        x, w, dy = (KINDS[kind][0](normal(shape, i, np.float32)) for i, shape in enumerate(shapes))
        xs = tuple(map(device.array, (x[..., :first], x[..., first:])))
        x, w, dy = map(device.array, (x, w, dy))
        expected_y, _ = product_forward(device, geometry, x, w, exact=exact)
        expected_dw = product_backward_w(device, geometry, dy, x, exact)
        dx = product_backward_x(device, geometry, dy, w, exact=exact)
        with monkeypatch.context() as patch:
            patch.setattr(tensorcore, "whole", lambda device, xs: xs[0] if len(xs) == 1 else pytest.fail("a copy"))
            y = product_forward(device, geometry, xs, w, exact=exact)[0]
            dw = product_backward_w(device, geometry, dy, xs, exact)
        dxs = product_backward_to_parts(device, geometry, dy, w, [first, g.c - first], exact=exact)
        for got, expected in zip((y, dw, *dxs), (expected_y, expected_dw, dx[..., :first], dx[..., first:])):
            assert np.array_equal(device.numpy(got), device.numpy(expected))
        assert threads > 1 or all(part.flags.c_contiguous for part in dxs)


@pytest.mark.parametrize("channels", [(3, 8), (8, 8, 8)])
def test_parts_that_the_kernels_do_not_take_are_brought_together(capable, channels):
    xs = tuple(capable.array(normal((1, 4, 5, c), (c, i), np.float32)) for i, c in enumerate(channels))
    w = capable.array(normal((3, 3, sum(channels), 8), 9, np.float32))
    geometry = Options.of("conv2d", 1, 1, 1, 1).geometry((1, 4, 5, sum(channels)), w.shape)
    y = capable.array(normal((1, 4, 5, 8), 10, np.float32))
    for work in (lambda x: product_forward(capable, geometry, x, w)[0],
                 lambda x: product_backward_w(capable, geometry, y, x)):  # fmt: skip
        assert np.array_equal(*(capable.numpy(work(x)) for x in (xs, tensorcore.whole(capable, xs))))
    dx = product_backward_x(capable, geometry, y, w)
    dxs = product_backward_to_parts(capable, geometry, y, w, channels)
    assert np.array_equal(capable.numpy(dx), np.concatenate([capable.numpy(a) for a in dxs], 3))


def test_many_shares_of_filters_gradients_are_added_up_in_two_steps(capable):
    g = case(2, 170, 3, 8, 8, 3, padding=1, groups=8)
    geometry = Options.of("conv2d", **g.options).geometry(g.x_shape, g.w_shape)
    x, dy = normal(g.x_shape, 0, np.float32), normal(g.y_shape, 1, np.float32)
    device = with_threads(capable, 330)
    dw = device.numpy(backward_w(device, geometry, device.array(dy), device.array(x)))
    expected = oracle.conv2d_backward_w(dy.astype(np.float64), x.astype(np.float64), g)
    assert np.allclose(dw, expected, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------ the epilogue


@settings(max_examples=10)
@given(st.integers(1, 300), st.sampled_from([3, 21, 24, 130]), st.booleans(), seeds)
def test_statistics_of_the_rounded_result(capable, pixels, channels, relu, seed):
    x, w, b = (
        normal(s, (seed, i), np.float32) for i, s in enumerate(((1, 1, pixels, 8), (1, 1, 8, channels), (channels,)))
    )
    geometry = Options.of("conv2d", 1, 0, 1, 1).geometry(x.shape, w.shape)
    x, w, b = (capable.array(a) for a in (x.astype(np.float16), w.astype(np.float16), b))
    y, runs = product_forward(capable, geometry, x, w, b, relu=relu, statistics=True)
    plain, none = product_forward(capable, geometry, x, w, b)
    assert none is None and runs.counts.sum() == pixels
    y, plain, means, deviations = (capable.numpy(a) for a in (y, plain, *runs[:2]))
    assert y.dtype == np.float16 and np.array_equal(y, np.maximum(plain, 0) if relu else plain)
    for i, rows in enumerate(np.split(y[0, 0].astype(np.float64), range(RUN, pixels, RUN))):
        assert np.allclose(means[i], rows.mean(0), rtol=1e-5, atol=1e-6)
        assert np.allclose(deviations[i], ((rows - rows.mean(0)) ** 2).sum(0), rtol=1e-4, atol=1e-5)


def test_bias_and_relu_behind_a_cut_sum(capable):
    g = case(1, 5, 4, 200, 10, 3, padding=1)
    geometry = Options.of("conv2d", **g.options).geometry(g.x_shape, g.w_shape)
    shapes, device = (g.x_shape, g.w_shape, (g.k,)), with_threads(capable, 64)
    x, w, b = (device.array(normal(s, (1, i), np.float32)) for i, s in enumerate(shapes))
    y, clipped = (
        device.numpy(product_forward(device, geometry, x, w, b, relu, exact=True)[0]) for relu in (False, True)
    )
    assert (y < 0).any() and np.array_equal(clipped, np.maximum(y, 0))


# ------------------------------------------------------------------------------------------- threads and addresses


def test_any_order_of_threads_gives_the_same_bits():
    g, results = case(1, 6, 7, 12, 21, 3, padding=1), []
    try:
        for order in ("sequential", "reversed", "random"):
            results.append(check(with_threads(Emulated(order), 4), g, "tf32"))
    except RuntimeError as reason:
        pytest.skip(str(reason))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


def test_nothing_beside_the_image_is_read(capable):
    """NaN lies before and behind x and w in memory; the padding is zeros in shared memory."""
    g = case(1, 6, 5, 16, 24, 3, padding=2, dilation=2)
    geometry = Options.of("conv2d", **g.options).geometry(g.x_shape, g.w_shape)
    x, w, dy = (normal(s, (2, i), np.float32) for i, s in enumerate((g.x_shape, g.w_shape, g.y_shape)))

    def amid_nan(a):
        around = np.full((3, *a.shape), np.nan, np.float32)
        around[1] = a
        return capable.array(around)[1]

    x, w, dy = map(amid_nan, (x, w, dy))
    y, _ = product_forward(capable, geometry, x, w)
    dx, dw = product_backward_x(capable, geometry, dy, w), product_backward_w(capable, geometry, dy, x)
    assert all(np.isfinite(capable.numpy(a)).all() for a in (y, dx, dw))


@pytest.mark.parametrize("kind", ["half", "bfloat16", "tf32"])
def test_channels_put_behind_the_others_are_zeros(capable, kind):
    x = KINDS[kind][0](normal((2, 3, 5, 3), 0, np.float32))
    padded = capable.numpy(_padded(capable, capable.array(x), 8))
    assert np.array_equal(padded[..., :3], x) and not padded[..., 3:].any() and padded.shape == (2, 3, 5, 8)
