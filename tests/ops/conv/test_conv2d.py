"""conv2d: value, gradient, its three linear maps in every algorithm, bits, threads, errors."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops.conv import conv2d
from tinyseg.ops.conv.conv2d import ALGORITHMS, algorithm, backward_w, backward_x, forward
from tinyseg.ops.conv.geometry import Options
from tinyseg.ops.conv.simd import COLUMNS

from ...strategies import conv_geometries, float_dtypes, normal, seeds
from . import oracle
from .cases import ALL, CORNERS, DEPTHWISE, LAYERS, THIN, case

CPU = ts.get_device("cpu")
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}  # of the sum of the absolute values of all terms
each_case = pytest.mark.parametrize("g", ALL.values(), ids=ALL.keys())


def draw(g, seed=0, dtype=np.float64):
    """x, w, b and dy for a ConvGeometry."""
    shapes = g.x_shape, g.w_shape, (g.k,), g.y_shape
    return [normal(shape, (seed, i), dtype) for i, shape in enumerate(shapes)]


def geometry(g):
    return Options.of("conv2d", **g.options).geometry(g.x_shape, g.w_shape)


def assert_near(got, expected, terms):
    """got = expected up to the rounding of got's dtype; `terms`: the same sum over absolute values."""
    assert got.shape == expected.shape
    worst = np.abs(got - expected).max(initial=0)
    assert worst <= TOLERANCE[got.dtype.type] * terms.max(initial=0) * np.sqrt(got.dtype.itemsize / 4)


# ------------------------------------------------------------------------------------------ value and gradient


def check_value_and_gradients(g, dtype, seed, device):
    x, w, b, dy = draw(g, seed, dtype)
    absolute = [np.abs(a) for a in (x, w, b, dy)]
    inputs = [ts.tensor(a, device, requires_grad=True) for a in (x, w, b)]
    y = conv2d(*inputs, **g.options)
    y.backward(dy)
    assert y.dtype == dtype
    assert_near(y.numpy(), oracle.conv2d(x, w, b, g), oracle.conv2d(*absolute[:3], g))
    dx, dw, db = (t.grad.numpy() for t in inputs)
    assert_near(dx, oracle.conv_transpose2d(dy, w, None, g), oracle.conv_transpose2d(absolute[3], absolute[1], None, g))
    assert_near(dw, oracle.conv2d_backward_w(dy, x, g), oracle.conv2d_backward_w(absolute[3], absolute[0], g))
    assert_near(db, dy.sum(axis=(0, 1, 2), dtype=np.float64), absolute[3].sum(axis=(0, 1, 2), dtype=np.float64))


@given(conv_geometries(), float_dtypes, seeds)
def test_value_and_gradients_are_those_of_the_equation(device, g, dtype, seed):
    check_value_and_gradients(g, dtype, seed, device)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("g", (CORNERS | DEPTHWISE).values(), ids=(CORNERS | DEPTHWISE).keys())
def test_corners(device, g, dtype):
    check_value_and_gradients(g, dtype, 1, device)


@given(conv_geometries(max_side=6), seeds)
def test_gradient_in_float64(device, g, seed):
    x, w, b, _ = draw(g, seed)
    ts.gradcheck(lambda x, w, b: conv2d(x, w, b, **g.options), x, w, b, device=device)


@given(conv_geometries(), seeds)
def test_adjoint_in_x_and_in_w(device, g, seed):
    x, w, _, _ = draw(g, seed)
    ts.adjoint_check(lambda x: conv2d(x, ts.tensor(w, device), **g.options), x, device=device)
    ts.adjoint_check(lambda w: conv2d(ts.tensor(x, device), w, **g.options), w, device=device)


def test_without_a_bias_and_with_one_of_zeros(device):
    g = LAYERS["3x3"]
    x, w, b, _ = draw(g, dtype=np.float32)
    y = conv2d(ts.tensor(x, device), w, **g.options).numpy()
    assert np.array_equal(y, conv2d(ts.tensor(x, device), w, 0 * b, **g.options).numpy())


@pytest.mark.parametrize("needs", [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)])
def test_only_the_gradients_that_are_needed(device, needs):
    g = case(2, 7, 8, 12, 10, 3, padding=1)
    inputs = [ts.tensor(a, device, requires_grad=bool(need)) for a, need in zip(draw(g), needs)]
    y = conv2d(*inputs, **g.options)
    assert y.requires_grad == any(needs)
    if any(needs):
        y.backward(draw(g)[3])
    assert [t.grad is not None for t in inputs] == list(map(bool, needs))


def test_an_input_that_was_not_contiguous(device):
    g = LAYERS["3x3, stride 2"]
    x, w, _, _ = draw(g, dtype=np.float32)
    wide = np.repeat(x.transpose(0, 3, 1, 2), 2, axis=3)[..., ::2]  # channels first, every second column
    views = wide.transpose(0, 2, 3, 1), np.asfortranarray(w)
    assert not any(a.flags.c_contiguous for a in views)
    assert np.array_equal(views[0], x)
    y = conv2d(*(ts.tensor(a, device) for a in views), **g.options).numpy()
    assert np.array_equal(y, conv2d(*(ts.tensor(a, device) for a in (x, w)), **g.options).numpy())


# ------------------------------------------------------------------------------------- algorithms and the definition


def test_every_algorithm_has_a_case():
    on_cpu = {name for name, (_, kernels) in ALGORITHMS.items() if all(map(CPU.has, kernels))}
    assert on_cpu >= {"direct", "plain", "depthwise"}
    assert {algorithm(CPU, geometry(g), np.float32) for g in ALL.values()} == on_cpu


def test_a_device_takes_what_it_has_kernels_for():
    class Bare(type(CPU)):
        def has(self, kernel):
            return kernel.name in names

    g = geometry(ALL["3x3"])
    names = {kernel.name for _, kernels in ALGORITHMS.values() for kernel in kernels if CPU.has(kernel)}
    assert algorithm(Bare(), g, np.float32) == algorithm(CPU, g, np.float32) != "plain"
    names = {kernel.name for kernel in ALGORITHMS["plain"][1]}
    assert algorithm(Bare(), g, np.float32) == "plain"
    names = set()
    with pytest.raises(RuntimeError, match="conv2d: device 'cpu' has no kernels for it"):
        algorithm(Bare(), g, np.float32)


@each_case
def test_float32_bodies_agree_with_the_definition_in_float64(g):
    check_float32_bodies(g)


@st.composite
def three_by_three(draw):
    """3x3 filters of stride 1 over channels that fill vectors: what Winograd takes, and what is too small for it."""
    dilation, padding = draw(st.integers(1, 4)), draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    size = [draw(st.integers(max(1, 2 * dilation + 1 - 2 * pad), 24)) for pad in padding]
    c, k = (draw(st.sampled_from([COLUMNS, 2 * COLUMNS, 3 * COLUMNS])) for _ in "ck")
    return case(draw(st.integers(0, 2)), *size, c, k, 3, padding=padding, dilation=dilation)


@given(three_by_three())
def test_3x3_filters_of_any_size_padding_and_dilation(g):
    check_float32_bodies(g)


def check_float32_bodies(g):
    """All three maps against the plain body in float64, which the oracle has vouched for."""
    cpu, (x, w, b, dy) = ts.get_device("cpu"), draw(g, dtype=np.float32)
    g = geometry(g)
    for body, left, right, *bias in ((forward, x, w, b), (backward_x, dy, w), (backward_w, dy, x)):
        wide = [a.astype(np.float64) for a in (left, right, *bias)]
        expected = plain(body, g, *wide)
        terms = plain(body, g, *(np.abs(a) for a in wide))
        assert_near(body(cpu, g, left, right, *bias), expected, terms)


def plain(body, g, *arrays):
    """One of the three maps by its definition."""
    from tinyseg.ops.conv import plain

    cpu = ts.get_device("cpu")
    kernel, shape, channels = {
        forward: (plain.plain_forward, g.y_shape, g.K),
        backward_x: (plain.plain_backward_x, g.x_shape, g.C),
        backward_w: (plain.plain_backward_w, g.w_shape, None),
    }[body]
    out = cpu.empty(shape, np.float64)
    if channels and len(arrays) == 2:
        arrays = *arrays, np.zeros(channels)
    numbers = (g.N, g.H, g.W, g.C, g.P, g.Q, g.K, g.R, g.S, *g.stride, *g.padding, *g.dilation, g.groups)
    cpu.launch(kernel, out, *arrays, *numbers)
    return out


def test_nan_beyond_the_border_is_not_read():
    """The fast bodies read rows of zeros for the padding, never what lies beside the image in memory."""
    g = case(1, 6, 5, 12, 34, 3, padding=2, dilation=2)
    x, w, b, _ = draw(g, dtype=np.float32)
    cpu = ts.get_device("cpu")
    around = np.full((3, *g.x_shape[1:]), np.nan, np.float32)
    around[1] = x
    y = forward(cpu, geometry(g), around[1:2], w, b)
    assert np.array_equal(y, forward(cpu, geometry(g), x, w, b))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_are_seen_where_they_are_and_nowhere_else(value):
    g = case(1, 9, 9, 16, 32, 3, padding=1)
    x, w, b, _ = draw(g, dtype=np.float32)
    x[0, 4, 4, 3] = value
    broken = ~np.isfinite(conv2d(ts.tensor(x), w, b, **g.options).numpy()).any(axis=3)[0]
    near = np.zeros((9, 9), bool)
    near[3:6, 3:6] = True
    if algorithm(CPU, geometry(g), np.float32) == "winograd":  # a tile of 4x4 results shares one transform
        assert broken[near].any() and not broken[:, 8].all()
    else:
        assert np.array_equal(broken, near)


# --------------------------------------------------------------------------------------------- bits and threads

SOME = {name: ALL[name] for name in ("odd sizes", "2 groups", "3 channels, 3x3", "depth-wise 3x3", *LAYERS)}


def three_maps(g):
    cpu, (x, w, b, dy) = ts.get_device("cpu"), draw(g, dtype=np.float32)
    g = geometry(g)
    return forward(cpu, g, x, w, b), backward_x(cpu, g, dy, w), backward_w(cpu, g, dy, x)


def assert_same_bits(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert np.array_equal(a.view(np.int32), b.view(np.int32))


@pytest.fixture
def threads():
    """numba.set_num_threads, undone at the end."""
    before = numba.get_num_threads()
    if before < 2:
        pytest.skip("needs two threads (NUMBA_NUM_THREADS)")
    yield numba.set_num_threads
    numba.set_num_threads(before)


@pytest.mark.parametrize("g", SOME.values(), ids=SOME.keys())
def test_one_thread_or_two(threads, g):
    """y and dx are equal to the bit; dw is a sum of one part a thread and may differ by rounding."""
    threads(2)
    y, dx, dw = three_maps(g)
    threads(1)
    y1, dx1, dw1 = three_maps(g)
    assert_same_bits((y1, dx1), (y, dx))
    assert_near(dw1, dw, np.abs(dw).max() * np.sqrt(g.n * g.p * g.q) * np.ones(1))


@pytest.mark.parametrize("g", SOME.values(), ids=SOME.keys())
def test_repeated_runs_are_equal_to_the_bit(g):
    assert_same_bits(three_maps(g), three_maps(g))


def test_several_python_threads():
    jobs = [g for g in SOME.values() for _ in range(3)]
    alone = {id(g): three_maps(g) for g in SOME.values()}
    with ThreadPoolExecutor(4) as pool:
        for g, result in zip(jobs, pool.map(three_maps, jobs)):
            assert_same_bits(result, alone[id(g)])


# ------------------------------------------------------------------------------------------------------- errors


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


X, W = zeros(2, 9, 8, 4), zeros(3, 3, 4, 6)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((zeros(2, 9, 8, 3), zeros(3, 3, 4, 4)), {}, r"conv2d: x has 3 channels but w expects 4 \(x \(2, 9, 8, 3\)"),
        ((X, W), dict(groups=2), r"x has 4 channels but w expects 8 \(4 in each of 2 groups\)"),
        ((X, zeros(3, 3, 2, 5)), dict(groups=2), "5 output channels do not divide into 2 groups"),
        ((X[0], W), {}, r"expected x \(N,H,W,C\) and w \(R,S,C,K\), got x \(9, 8, 4\)"),
        ((X, W[0]), {}, r"expected x \(N,H,W,C\) and w \(R,S,C,K\), got x .* w \(3, 4, 6\)"),
        ((X, zeros(3, 0, 4, 6)), {}, "a filter without taps or channels"),
        ((X, zeros(3, 3, 4, 0)), {}, "a filter without taps or channels"),
        ((X, zeros(10, 3, 4, 6)), {}, r"spans \(10, 3\) pixels but the padded image has only \(9, 8\); cure"),
        ((X, W), dict(dilation=4), r"spans \(9, 9\) pixels"),
        ((X, W, zeros(5)), {}, r"b has shape \(5,\), expected \(6,\)"),
        ((X, W, zeros(6, 1)), {}, r"b has shape \(6, 1\), expected \(6,\)"),
        ((X, W), dict(stride=0), "stride is 0, expected an integer >= 1 or two of them"),
        ((X, W), dict(stride=(1, 2, 3)), r"stride is \(1, 2, 3\)"),
        ((X, W), dict(stride=1.5), "stride is 1.5"),
        ((X, W), dict(padding=-1), "padding is -1, expected an integer >= 0 or two of them"),
        ((X, W), dict(padding="same"), "padding is 'same'"),
        ((X, W), dict(dilation=(1, 0)), r"dilation is \(1, 0\), expected an integer >= 1"),
        ((X, W), dict(groups=0), "groups is 0, expected an integer >= 1"),
        ((X, W), dict(groups=2.0), "groups is 2.0"),
    ],
)
def test_raises_where_shapes_or_options_do_not_fit(arguments, options, message):
    with pytest.raises(ValueError, match=f"^conv2d: .*{message.removeprefix('conv2d: ')}"):
        conv2d(*arguments, **options)


@pytest.mark.parametrize("dtypes", [("f4", "f8", "f4"), ("f8", "f8", "f4"), ("i4", "i4", "i4"), ("u1", "f4", "f4")])
def test_raises_for_mixed_and_integer_dtypes(dtypes):
    arrays = [zeros(*shape, dtype=d) for shape, d in zip((X.shape, W.shape, (6,)), dtypes)]
    with pytest.raises(TypeError, match="conv2d: expected x, w and b of one dtype, float32 or float64, got x .*; cure"):
        conv2d(*arrays)


def test_options_in_pairs():
    g = THIN["3 channels, 3x3 dilated"]
    x, w, _, _ = draw(g, dtype=np.float32)
    y = conv2d(x, w, stride=[1, 1], padding=(2, 2), dilation=[2, 2]).numpy()
    assert np.array_equal(y, conv2d(x, w, padding=2, dilation=2).numpy())


def test_norms_that_do_not_fit_are_refused_in_evaluation_too():
    x, w = np.ones((1, 5, 5, 2), np.float32), np.ones((3, 3, 2, 4), np.float32)
    one, four = np.ones(1, np.float32), np.ones(4, np.float32)
    with pytest.raises(ValueError, match="running_mean .1,.*expected .4,. each"):
        ts.ops.conv2d_batch_norm(x, w, None, one, four, None, None, training=False)
    with pytest.raises(ValueError, match="one is None"):
        ts.ops.conv2d_batch_norm(x, w, None, None, four, None, None, training=False)
