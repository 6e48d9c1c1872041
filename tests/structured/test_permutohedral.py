import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.structured import ExactGaussian, Lattice, lattice_filter, permutohedral

from ..ops.repeat import assert_bits_repeat, assert_single_near_double
from ..strategies import float_dtypes, normal, seeds

dimensions = st.integers(1, 6)


@st.composite
def points(draw, most=40):
    """Features: random ones, or on a coarse grid, where many fall on borders between simplices and on each other."""
    N, d, spread = draw(st.integers(1, most)), draw(dimensions), draw(st.sampled_from([0.1, 1.0, 30.0]))
    f = normal((N, d), draw(seeds)) * spread
    return np.round(f) if draw(st.booleans()) else f


def elevation(d):
    """E (d+1,d): from features to the plane of sum 0, with orthogonal columns, as in Adams et al. 2010, section 3.1."""
    E = np.zeros((d + 1, d))
    for j in range(d):
        E[: j + 1, j], E[j + 1, j] = 1, -(j + 1)
        E[:, j] *= np.sqrt(2 / 3) * (d + 1) / np.sqrt((j + 1) * (j + 2))
    return E


def vertices_of(lattice, f):
    """The integer coordinates (M,d+1) of the vertices, out of their keys."""
    d = f.shape[1]
    scale = np.sqrt(2 / 3) * (d + 1) / np.sqrt(np.arange(1, d + 1) * np.arange(2, d + 2))
    low, stride = permutohedral.key_space(f, scale)
    key, weight = np.empty((len(f), d + 1), np.int64), np.empty(len(f) * (d + 1))
    ts.get_device("cpu").launch(permutohedral.embed, key, weight, f, scale, low, stride, len(f), d)
    place, r = np.divmod(key, d + 1)
    m = np.empty((*key.shape, d), np.int64)
    for i in reversed(range(d)):
        m[..., i], place = np.divmod(place, stride[i])
    at = (m + low) * (d + 1) + r[..., None]
    at = np.concatenate([at, -at.sum(-1, keepdims=True)], -1)
    result = np.zeros((lattice.vertices, d + 1), np.int64)
    result[lattice.device.numpy(lattice.vertex)] = at.reshape(-1, d + 1)
    return result


@given(points())
def test_a_point_is_the_weighted_mean_of_the_vertices_of_its_simplex(device, f):
    lattice = Lattice(f, np.float64, device)
    N, d = f.shape
    vertex, weight = device.numpy(lattice.vertex).reshape(N, -1), device.numpy(lattice.weight).reshape(N, -1)
    at = vertices_of(lattice, f)
    assert len({tuple(v) for v in at.tolist()}) == lattice.vertices
    assert (at.sum(1) == 0).all() and (at % (d + 1) == at[:, :1] % (d + 1)).all()
    assert (weight >= -1e-9).all()
    np.testing.assert_allclose(weight.sum(1), 1, atol=1e-9)
    np.testing.assert_allclose((weight[..., None] * at[vertex]).sum(1), f @ elevation(d).T, atol=1e-7)
    span = at[vertex].max(1) - at[vertex].min(1)
    assert (span <= d + 1).all()  # a simplex, not just any d + 1 points around


@given(points())
def test_neighbours_lie_one_step_along_each_axis(device, f):
    lattice = Lattice(f, np.float64, device)
    at, d = vertices_of(lattice, f), f.shape[1]
    number = {tuple(v): i for i, v in enumerate(at.tolist())}
    neighbours = device.numpy(lattice.neighbours)
    for axis in range(d + 1):
        step = np.full(d + 1, -1)
        step[axis] = d
        for side, sign in ((0, 1), (1, -1)):
            expected = [number.get(tuple(v), lattice.vertices) for v in (at + sign * step).tolist()]
            assert neighbours[axis, :, side].tolist() == expected


@given(points(), st.integers(1, 40), st.booleans(), seeds)
def test_value(device, f, K, transposed, seed):
    """alpha S' B_d ... B_0 S x, with S and B_j as dense matrices."""
    lattice, x = Lattice(f, np.float64, device), normal((len(f), K), seed)
    N, d, M = len(f), f.shape[1], lattice.vertices
    S = np.zeros((M + 1, N))
    np.add.at(S, (device.numpy(lattice.vertex), np.repeat(np.arange(N), d + 1)), device.numpy(lattice.weight))
    y = S @ x
    for axis in range(d + 1)[:: -1 if transposed else 1]:
        B = np.eye(M + 1)
        for side in range(2):
            np.add.at(B, (np.arange(M), device.numpy(lattice.neighbours)[axis, :, side]), 0.5)
        B[:, M] = B[M] = 0
        y = B @ y
    y = S.T @ y / (1 + 2.0**-d)
    result = device.numpy(lattice.apply(device.array(x), transposed))
    np.testing.assert_allclose(result, y, atol=1e-10 * max(1, np.abs(y).max()))


@given(points(), st.integers(1, 5), seeds)
def test_adjoint(device, f, K, seed):
    lattice = Lattice(f, np.float64, device)
    ts.adjoint_check(lambda x: lattice_filter(x, lattice), normal((len(f), K), seed), device=device)


@given(points(most=12), st.integers(1, 3), seeds)
def test_exact_sums(device, f, K, seed):
    x = normal((len(f), K), seed)
    kernel = np.exp(-((f[:, None] - f) ** 2).sum(-1) / 2)
    exact = ExactGaussian(f, np.float64, device)
    np.testing.assert_allclose(lattice_filter(ts.tensor(x, device), exact).numpy(), kernel @ x, atol=1e-12)
    ts.adjoint_check(lambda x: lattice_filter(x, exact), x, device=device)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_near_the_gaussian_where_points_are_dense(device, d):
    """Normalised sums of a smooth function agree to some per cent."""
    rng = np.random.default_rng(0)
    f = rng.random((600, d)) * 4
    x = np.cos(f.sum(1))[:, None]
    ones = np.ones((600, 1))
    approximate, exact = (
        device.numpy(g.apply(device.array(x)) / g.apply(device.array(ones)))
        for g in (Lattice(f, np.float64, device), ExactGaussian(f, np.float64, device))
    )
    assert np.abs(approximate - exact).mean() < 0.02 * (x.max() - x.min())


def test_images_of_any_leading_shape(device):
    f = normal((12, 3), 0)
    lattice, x = Lattice(f, np.float32, device), normal((3, 4, 5), 1, np.float32)
    y = lattice_filter(ts.tensor(x, device), lattice)
    assert y.shape == (3, 4, 5)
    np.testing.assert_array_equal(
        y.numpy().reshape(12, 5), lattice_filter(ts.tensor(x.reshape(12, 5), device), lattice).numpy()
    )


@given(float_dtypes)
def test_threads_and_precision(device, dtype):
    f, x = normal((200, 4), 0), normal((200, 21), 1, np.float32)
    lattice = {t: Lattice(f, t, device) for t in (np.float32, np.float64)}
    assert_bits_repeat(lambda x: lattice_filter(x, lattice[dtype]), x.astype(dtype), device=device)
    assert_single_near_double(lambda x: lattice_filter(x, lattice[x.dtype.type]), x, device=device)


def test_a_hash_table_that_is_too_small_grows(monkeypatch):
    f = normal((300, 3), 0) * 50  # hardly two points share a vertex
    expected = Lattice(f)
    monkeypatch.setattr(permutohedral, "FIRST_TABLE", 1 / 256)
    lattice = Lattice(f)
    for name in ("vertex", "start", "entry", "neighbours"):
        np.testing.assert_array_equal(getattr(lattice, name), getattr(expected, name))


def test_errors(device):
    f = np.zeros((4, 2))
    for features, message in [
        (f[0], "expected floats \\(N,d\\)"),
        (f[:, :0], "d from 1 to 15"),
        (np.zeros((4, 16)), "d from 1 to 15"),
        (f * np.nan, "nan or inf"),
        (f.astype(str), "expected floats"),
        (np.array([[0.0, 0], [1e10, 1e10]]) * 1e3, "keys of 63 bits"),
        (np.array([[0.0], [1e30]]), "keys of 63 bits"),
    ]:
        with pytest.raises(ValueError, match=message):
            Lattice(features, device=device)
    with pytest.raises(ValueError, match="expected floats"):
        ExactGaussian(f[0], device=device)
    with pytest.raises(TypeError, match="expected float32 or float64"):
        Lattice(f, np.float16, device)
    lattice = Lattice(f, np.float32, device)
    with pytest.raises(ValueError, match="the lattice has 4 points"):
        lattice_filter(ts.tensor(np.zeros((5, 2), np.float32), device), lattice)
    with pytest.raises(TypeError, match="x is float64, the filter float32"):
        lattice_filter(ts.tensor(np.zeros((4, 2)), device), lattice)
