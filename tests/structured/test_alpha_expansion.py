import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.structured import alpha_expansion, grid_edges, labelling_energy

from ..strategies import seeds


@st.composite
def labellings(draw, max_nodes=7, labels=(1, 3)):
    """(unary, edges, weights, metric), some unaries infinite, but none of them where a node has no other label."""
    rng = np.random.default_rng(draw(seeds))
    N, L, E = draw(st.integers(1, max_nodes)), draw(st.integers(*labels)), draw(st.integers(0, 3 * max_nodes))
    unary = rng.normal(0, 2, (N, L))
    unary[rng.random((N, L)) < draw(st.sampled_from([0, 0.4]))] = np.inf
    unary[np.arange(N), rng.integers(0, L, N)] = rng.normal(0, 2, N)
    points = rng.random((L, 2))  # distances between points are a metric
    metric = draw(st.sampled_from([None, np.linalg.norm(points[:, None] - points, axis=-1)]))
    return unary, rng.integers(0, N, (E, 2)), rng.random(E), metric


def all_labellings(unary):
    return (np.array(y) for y in itertools.product(range(unary.shape[1]), repeat=len(unary)))


@given(labellings())
def test_energy(problem):
    unary, edges, weights, metric = problem
    V = 1 - np.eye(unary.shape[1]) if metric is None else metric
    for y in itertools.islice(all_labellings(unary), 20):
        expected = sum(unary[i, k] for i, k in enumerate(y)) + sum(
            w * V[y[i], y[j]] for (i, j), w in zip(edges, weights)
        )
        np.testing.assert_allclose(labelling_energy(y, *problem), expected)


@given(labellings(labels=(2, 2)))
def test_two_labels_are_solved_exactly(problem):
    y = alpha_expansion(*problem)
    best = min(labelling_energy(z, *problem) for z in all_labellings(problem[0]))
    np.testing.assert_allclose(labelling_energy(y, *problem), best, atol=1e-9)


@given(labellings(), seeds)
def test_no_expansion_lowers_the_energy_any_more(problem, seed):
    """What alpha-expansion promises: of all moves to one label, tried by brute force, none is better."""
    unary, rng = problem[0], np.random.default_rng(seed)
    start = np.array([rng.choice(np.flatnonzero(np.isfinite(u))) for u in unary])
    energies = []
    y = alpha_expansion(*problem, labels=start, energies=energies)
    assert energies[0] == labelling_energy(start, *problem) and (np.diff(energies) < 0).all()
    assert energies[-1] == labelling_energy(y, *problem)
    for new in range(unary.shape[1]):
        for takes in itertools.product([False, True], repeat=len(unary)):
            assert labelling_energy(np.where(takes, new, y), *problem) >= energies[-1] - 1e-9


@given(labellings(max_nodes=5))
def test_within_the_bound_of_the_optimum(problem):
    """E(y) <= 2 max V / min V E(y*), for unaries that are not negative."""
    unary, edges, weights, metric = problem
    unary = unary - unary.min()
    y = alpha_expansion(unary, edges, weights, metric)
    best = min(labelling_energy(z, unary, edges, weights, metric) for z in all_labellings(unary))
    apart = np.array([1.0]) if metric is None else metric[~np.eye(len(metric), dtype=bool)]
    factor = 2 * apart.max(initial=1e-9) / apart.min(initial=1)
    assert best - 1e-9 <= labelling_energy(y, unary, edges, weights, metric) <= max(factor, 1) * best + 1e-9


@given(labellings(max_nodes=40, labels=(2, 6)))
def test_forbidden_labels_are_never_taken(problem):
    y = alpha_expansion(*problem)
    assert y.dtype == np.int32 and np.isfinite(problem[0][np.arange(len(y)), y]).all()


def test_an_image_is_smoothed_and_seeds_hold():
    truth = np.zeros((12, 15), int)
    truth[3:9, 4:11] = 1
    truth[:, 12:] = 2
    seen = np.where(np.random.default_rng(0).random(truth.shape) < 0.15, 0, truth)
    unary = (seen[..., None] != np.arange(3)).astype(np.float32)
    labels = alpha_expansion(unary, grid_edges(*truth.shape), 0.45)
    assert labels.shape == truth.shape and (labels == truth).mean() > 0.97
    unary[5, 5] = np.inf, np.inf, 0
    assert alpha_expansion(unary, grid_edges(*truth.shape), 10.0)[5, 5] == 2


def test_errors():
    unary, edges = np.zeros((3, 2)), np.array([[0, 1], [1, 2]])
    nowhere = np.array([[0, 1], [np.inf, np.inf], [0, 0]])
    for arguments, message in [
        ((np.zeros(3), edges, 1.0), "expected floats \\(N,L\\)"),
        ((np.zeros((3, 0)), edges, 1.0), "expected floats"),
        ((unary * np.nan, edges, 1.0), "nan or -inf"),
        ((nowhere, edges, 1.0), "node 1: no label has a finite unary"),
        ((unary, edges + 2, 1.0), "name nodes"),
        ((unary, edges, np.ones(3)), "weights have shape"),
        ((unary, edges, -1.0), "negative"),
        ((unary, edges, np.inf), "inf"),
        ((unary, edges, 1.0, np.zeros((3, 3))), "expected \\(2, 2\\)"),
        ((unary, edges, 1.0, np.eye(2)), "no cut expresses"),
        ((unary, edges, 1.0, None, np.zeros(2, int)), "expected integers \\(3,\\)"),
        ((unary, edges, 1.0, None, np.full(3, 2)), "labels go from 2 to 2"),
        ((nowhere[:1], edges[:0], 1.0, None, np.array([5])), "labels go"),
        ((np.array([[0, np.inf]]), edges[:0], 1.0, None, np.array([1])), "node 0: label 1, where to begin"),
    ]:
        with pytest.raises(ValueError, match=message):
            alpha_expansion(*arguments)
