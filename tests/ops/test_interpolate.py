import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops import interpolate

from ..strategies import float_dtypes, normal, seeds
from .repeat import assert_bits_repeat, assert_single_near_double

sides = st.integers(1, 9)
shapes = st.tuples(st.integers(0, 2), sides, sides, st.sampled_from([1, 3, 8, 21]))
modes = st.sampled_from([("nearest", False), ("bilinear", False), ("bilinear", True)])


def weights(inputs, outputs, mode, align_corners, ratio=None):
    """Row p: how output p weighs the inputs."""
    A = np.zeros((outputs, inputs))
    for p in range(outputs):
        if mode == "nearest":
            A[p, min(p * inputs // outputs if ratio is None else math.floor(p * ratio), inputs - 1)] = 1
            continue
        if align_corners:
            source = p * (inputs - 1) / (outputs - 1) if outputs > 1 else 0
        else:
            source = max((p + 0.5) * (ratio or inputs / outputs) - 0.5, 0)
        low = min(int(source), inputs - 1)
        high = min(low + 1, inputs - 1)
        A[p, low] += 1 - (source - low)
        A[p, high] += source - low
    return A


def oracle(x, P, Q, mode, align_corners, ratio=None):
    A, B = weights(x.shape[1], P, mode, align_corners, ratio), weights(x.shape[2], Q, mode, align_corners, ratio)
    return np.einsum("ph,qw,nhwc->npqc", A, B, x)


@given(shapes, sides, sides, modes, float_dtypes, seeds)
def test_value(device, shape, P, Q, mode, dtype, seed):
    x = normal(shape, seed, dtype)
    y = interpolate(ts.tensor(x, device), (P, Q), None, *mode)
    assert y.shape == (shape[0], P, Q, shape[3]) and y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), oracle(x, P, Q, *mode), atol=2e-6 if dtype == np.float32 else 1e-13)


@given(shapes, sides, sides, modes, seeds)
def test_adjoint(device, shape, P, Q, mode, seed):
    if shape[0]:
        ts.adjoint_check(lambda x: interpolate(x, (P, Q), None, *mode), normal(shape, seed), device=device)


@given(shapes, st.floats(1, 4), modes, seeds)
def test_scale_factor(device, shape, factor, mode, seed):
    x = normal(shape, seed)
    P, Q = math.floor(shape[1] * factor), math.floor(shape[2] * factor)
    y = interpolate(ts.tensor(x, device), None, factor, *mode)
    np.testing.assert_allclose(y.numpy(), oracle(x, P, Q, *mode, ratio=1 / factor), atol=1e-12)


def test_long_rows(device):
    """More values in a row than the kernel takes at a time."""
    x = normal((1, 3, 50, 60), 0)
    y = interpolate(ts.tensor(x, device), (5, 99))
    np.testing.assert_allclose(y.numpy(), oracle(x, 5, 99, "bilinear", False), atol=1e-13)


def test_same_size_copies_and_constants_stay(device):
    x = normal((1, 5, 6, 3), 0, np.float32)
    for mode in ("nearest", "bilinear"):
        np.testing.assert_array_equal(interpolate(ts.tensor(x, device), (5, 6), mode=mode).numpy(), x)
    ones = ts.tensor(np.ones((1, 5, 6, 3), np.float32), device)
    np.testing.assert_allclose(interpolate(ones, (17, 13)).numpy(), 1, atol=1e-6)


def test_threads_and_precision(device):
    x = normal((2, 7, 5, 21), 0)
    for size in ((56, 40), (3, 4)):
        assert_bits_repeat(lambda x: interpolate(x, size), x.astype(np.float32), device=device)  # noqa: B023
        assert_single_near_double(lambda x: interpolate(x, size), x, device=device)  # noqa: B023


def test_errors(device):
    x = ts.tensor(np.zeros((1, 4, 4, 2), np.float32), device)
    for arguments, message in [
        ((x,), "exactly one"),
        ((x, 3, 2), "exactly one"),
        ((x, 3, None, "cubic"), "mode is 'cubic'"),
        ((x, 3, None, "nearest", True), "align_corners has no meaning"),
        ((x, 0), "size is 0"),
        ((x, None, -1), "positive"),
        ((x, None, 0.1), "cannot make 0 x 0 pixels"),
        ((x[0], 3), "expected \\(N,H,W,C\\)"),
        ((x[:, :0], 3), "cannot make"),
    ]:
        with pytest.raises(ValueError, match=message):
            interpolate(*arguments)


@pytest.mark.parametrize("shape, size", [((1, 512, 64, 2), (64, 512)), ((1, 64, 512, 2), (512, 64))])
def test_the_map_between_the_passes_is_the_smaller_one(shape, size, monkeypatch):
    module = sys.modules["tinyseg.ops.interpolate"]
    real, between = module._resample, []

    def resample(device, x, runs):
        between.append(x.size)
        return real(device, x, runs)

    monkeypatch.setattr(module, "_resample", resample)
    x = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_allclose(interpolate(x, size).numpy(), oracle(x, *size, "bilinear", False), atol=1e-12)
    assert between == [x.size, 64 * 64 * 2]
