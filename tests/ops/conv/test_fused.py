"""What rides on a convolution: parts of x, ReLU, batch norm; all against the operators one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg import ops
from tinyseg.ops.conv.conv2d import Conv2d
from tinyseg.ops.conv.geometry import Options
from tinyseg.ops.conv.simd import COLUMNS
from tinyseg.ops.statistics import Runs, merge

from ...strategies import normal, seeds
from .cases import case

# Winograd in both orders of work, the direct way, and the definition's loops
GEOMETRIES = {
    "3x3": case(2, 17, 19, COLUMNS, 2 * COLUMNS, 3, padding=1),
    "3x3, sides of whole tiles": case(1, 8, 12, COLUMNS, COLUMNS, 3, padding=1),
    "3x3, dilation 3": case(1, 26, 13, COLUMNS, COLUMNS, 3, padding=3, dilation=3),
    "3x3, many channels, few pixels": case(2, 7, 9, 256, 256, 3, padding=1),
    "3x3 of 3 channels, stride 2": case(2, 14, 19, 3, 20, 3, padding=1, stride=2),
    "1x1": case(2, 12, 13, 64, COLUMNS, 1),
    "depth-wise": case(2, 9, 11, 19, 19, 3, padding=1, groups=19),
}
each_geometry = pytest.mark.parametrize("g", GEOMETRIES.values(), ids=GEOMETRIES.keys())


def run(fn, arrays, dy):
    """fn's value and gradients."""
    tensors = [ts.tensor(a, requires_grad=True) for a in arrays]
    y = fn(*tensors)
    y.backward(dy)
    return [y.numpy(), *(t.grad.numpy() for t in tensors)]


def assert_close(got, expected, tolerance=3e-5):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * max(np.abs(b).max(), 1), rtol=0)


def draw(g, seed=0, dtype=np.float32):
    return [normal(shape, (seed, i), dtype) for i, shape in enumerate((g.x_shape, g.w_shape, (g.k,), g.y_shape))]


@each_geometry
def test_relu(g):
    x, w, b, dy = draw(g)

    def plain(x, w, b):
        return ops.relu(ops.conv2d(x, w, b, **g.options))

    fused = run(lambda x, w, b: ops.conv2d_relu(x, w, b, **g.options), (x, w, b), dy)
    assert_close(fused, run(plain, (x, w, b), dy))
    assert (fused[0] >= 0).all()


def test_relu_lets_nan_pass():
    g = GEOMETRIES["3x3, sides of whole tiles"]
    x, w, b, _ = draw(g)
    x[0, 3, 3, 1] = np.nan
    assert np.isnan(ops.conv2d_relu(x, w, b, **g.options).numpy()[0, 3, 3]).all()


@each_geometry
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_batch_norm_in_training(g, bias, relu):
    x, w, b, dy = draw(g)
    b = b if bias else None
    arrays = [x, w, *normal((2, g.k), 1, np.float32)]
    running = [[ts.tensor(a) for a in (np.zeros(g.k, np.float32), np.ones(g.k, np.float32))] for _ in "ab"]

    def fused(x, w, weight, shift):
        return ops.conv2d_batch_norm(x, w, b, *running[0], weight, shift, True, relu=relu, **g.options)

    def plain(x, w, weight, shift):
        norm = ops.batch_norm_relu if relu else ops.batch_norm
        return norm(ops.conv2d(x, w, b, **g.options), *running[1], weight, shift, True)

    assert_close(run(fused, arrays, dy), run(plain, arrays, dy), 2e-4)
    assert_close([t.numpy() for t in running[0]], [t.numpy() for t in running[1]])


@each_geometry
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_batch_norm_with_running_statistics(g, wanted, relu):
    x, w, b, dy = draw(g)
    mean, var, weight, shift = normal((4, g.k), 1, np.float32)
    norm = mean, np.abs(var) + np.float32(0.5), weight, shift

    def fused(x, w):
        return ops.conv2d_batch_norm(x, w, b, *norm, False, relu=relu, **g.options)

    def plain(x, w):
        y = ops.batch_norm(ops.conv2d(x, w, b, **g.options), *norm, False)
        return ops.relu(y) if relu else y

    if wanted:
        assert_close(run(fused, (x, w), dy), run(plain, (x, w), dy))
    else:
        assert_close([fused(x, w).numpy()], [plain(x, w).numpy()])


def test_batch_norm_without_running_statistics_outside_training():
    with pytest.raises(ValueError, match="needs running_mean and running_var"):
        ops.conv2d_batch_norm(np.ones((1, 2, 2, 1)), np.ones((1, 1, 1, 1)), None, None, None, None, None, False)


@pytest.mark.parametrize("exact", [False, True])
@each_geometry
def test_statistics_are_those_of_the_result(g, exact):
    x, w, _, _ = draw(g)
    x += 30  # a mean of many deviations
    function = Conv2d(Options.of("conv2d", **g.options), statistics=True)
    with ts.precision("exact" if exact else "fast"):
        y = function(x, w).numpy().astype(np.float64)
    if function.runs is None:
        return
    mean, var = merge(function.runs)
    assert function.runs.counts.sum() == y[..., 0].size
    np.testing.assert_allclose(mean, y.mean((0, 1, 2)), rtol=0, atol=1e-6 * np.abs(y).max())
    np.testing.assert_allclose(var, y.var((0, 1, 2)), rtol=1e-4)


def test_an_empty_run_does_not_count():
    runs = Runs(np.float32([[2], [np.pi]]), np.float32([[4], [0]]), np.array([4, 0]))
    assert merge(runs) == (2, 1)


# ---------------------------------------------------------------------------------------------- several parts of x


@given(st.lists(st.sampled_from([3, COLUMNS, 2 * COLUMNS]), min_size=1, max_size=3), st.booleans(), seeds)
def test_parts_count_as_one_image(device, channels, bias, seed):
    parts = [normal((2, 9, 6, c), (seed, i), np.float32) for i, c in enumerate(channels)]
    w = normal((3, 3, sum(channels), COLUMNS), (seed, 9), np.float32)
    b = normal((COLUMNS,), (seed, 10), np.float32) if bias else None
    dy = normal((2, 9, 6, COLUMNS), (seed, 11), np.float32)
    xs, whole = [[ts.tensor(a, device, requires_grad=True) for a in parts] for _ in "ab"]
    filters = [ts.tensor(w, device, requires_grad=True) for _ in "ab"]
    y = ops.conv2d(xs, filters[0], b, padding=1)
    expected = ops.conv2d(ops.concat(whole, axis=3), filters[1], b, padding=1)
    for result in (y, expected):
        result.backward(dy)
    got, wanted = ([t.numpy(), *(x.grad.numpy() for x in (*inputs, f))] for t, inputs, f in (
        (y, xs, filters[0]), (expected, whole, filters[1])))  # fmt: skip
    for a, b in zip(got, wanted, strict=True):
        assert np.array_equal(a, b)


def test_parts_that_do_not_fit_are_refused():
    w = np.ones((1, 1, 5, 2), np.float32)
    a, b = np.ones((1, 4, 4, 2), np.float32), np.ones((1, 4, 5, 3), np.float32)
    with pytest.raises(ValueError, match=r"conv2d: the parts of x have shapes \(1, 4, 4, 2\), \(1, 4, 5, 3\).*cure"):
        ops.conv2d([a, b], w)
    with pytest.raises(ValueError, match="conv2d: x has 4 channels but w expects 5"):
        ops.conv2d([a, a], w)
    with pytest.raises(TypeError, match="conv2d: expected x, w and b of one dtype"):
        ops.conv2d([a, np.ones((1, 4, 4, 3))], w)


@each_geometry
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_batch_norm_with_a_shortcut(g, training, wanted):
    x, w, b, dy = draw(g)
    mean, var, weight, shift = normal((4, g.k), 1, np.float32)
    norm = mean, np.abs(var) + np.float32(0.5), weight, shift
    arrays = x, w, normal(dy.shape, 2, np.float32)

    def fused(x, w, add):
        return ops.conv2d_batch_norm(x, w, b, *map(np.copy, norm), training, relu=True, **g.options, add=add)

    def plain(x, w, add):
        return ops.relu(ops.batch_norm(ops.conv2d(x, w, b, **g.options), *map(np.copy, norm), training) + add)

    if wanted:
        assert_close(run(fused, arrays, dy), run(plain, arrays, dy), 2e-4)
    else:
        arrays = [ts.tensor(a) for a in arrays]
        assert_close([fused(*arrays).numpy()], [plain(*arrays).numpy()], 2e-4)


@pytest.mark.parametrize("form", ["array", "one number a channel"])
def test_a_shortcut_of_another_form(form):
    g = GEOMETRIES["1x1"]
    x, w, _, dy = draw(g)
    norm = np.zeros(g.k, np.float32), np.ones(g.k, np.float32), None, None
    shortcut = ts.tensor(dy[0, 0, 0]) if form == "one number a channel" else dy
    y = ops.conv2d_batch_norm(x, w, None, *norm, False, eps=0.0, relu=True, add=shortcut, **g.options)
    assert_close([y.numpy()], [ops.relu(ops.conv2d(x, w, **g.options) + shortcut).numpy()])


def test_a_shortcut_without_relu_is_refused():
    x, one = np.ones((1, 2, 2, 1), np.float32), np.ones(1, np.float32)
    with pytest.raises(ValueError, match="conv2d_batch_norm: add is given without relu=True; cure: . it behind"):
        ops.conv2d_batch_norm(x, np.ones((1, 1, 1, 1), np.float32), None, one, one, one, one, False, add=x)
