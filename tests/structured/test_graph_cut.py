import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.structured import grid_edges, max_flow

from ..strategies import seeds


@st.composite
def networks(draw, max_nodes=7, whole=False):
    """(source, sink, edges, capacity, reverse_capacity); loops, double edges and nodes without edges among them."""
    rng = np.random.default_rng(draw(seeds))
    N, E = draw(st.integers(1, max_nodes)), draw(st.integers(0, 3 * max_nodes))

    def capacities(n):
        return rng.integers(0, 6, n) if whole else rng.random(n) * (rng.random(n) < 0.7)

    return capacities(N), capacities(N), rng.integers(0, N, (E, 2)), capacities(E), capacities(E)


def cut_value(side, source, sink, edges, capacity, reverse):
    """What a cut costs; side: True on the sink's side."""
    i, j = side[edges[:, 0]], side[edges[:, 1]]
    return source[side].sum() + sink[~side].sum() + capacity[~i & j].sum() + reverse[i & ~j].sum()


@given(networks())
def test_the_flow_is_the_smallest_of_all_cuts(network):
    flow, side = max_flow(*network)
    sides = (np.array(bits, bool) for bits in itertools.product([False, True], repeat=len(network[0])))
    np.testing.assert_allclose(flow, min(cut_value(s, *network) for s in sides), atol=1e-12)
    np.testing.assert_allclose(flow, cut_value(side, *network), atol=1e-12)


@given(networks(max_nodes=60, whole=True))
def test_integers_are_exact_and_the_cut_proves_the_flow(network):
    flow, side = max_flow(*network)
    assert type(flow) is int and flow == cut_value(side, *network)


@given(st.integers(2, 9), st.integers(2, 9), seeds)
def test_grids_as_scipy(height, width, seed):
    graph = pytest.importorskip("scipy.sparse.csgraph")
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(seed)
    source, sink = rng.integers(0, 9, (2, height, width))
    edges = grid_edges(height, width, 8)
    there, back = rng.integers(0, 9, (2, len(edges)))
    flow, side = max_flow(source, sink, edges, there, back)
    assert side.shape == (height, width) and side.dtype == bool

    pixels = np.arange(height * width)
    s, t = np.full_like(pixels, len(pixels)), np.full_like(pixels, len(pixels) + 1)
    rows, columns = np.concatenate([np.stack([s, pixels]), edges.T, edges.T[::-1], np.stack([pixels, t])], 1)
    values = np.concatenate([source.ravel(), there, back, sink.ravel()])
    matrix = sparse.csr_matrix((values.astype(np.int32), (rows, columns)), shape=(len(pixels) + 2,) * 2)
    assert flow == graph.maximum_flow(matrix, len(pixels), len(pixels) + 1).flow_value


@given(networks(max_nodes=200))
def test_as_pymaxflow(network):
    maxflow = pytest.importorskip("maxflow")
    source, sink, edges, capacity, reverse = network
    graph = maxflow.Graph[float](len(source), len(edges))
    nodes = graph.add_nodes(len(source))
    for (i, j), there, back in zip(edges.tolist(), capacity, reverse):
        graph.add_edge(i, j, there, back)
    graph.add_grid_tedges(nodes, source, sink)
    np.testing.assert_allclose(max_flow(*network)[0], graph.maxflow(), rtol=1e-9)


def test_a_number_stands_for_all_capacities_and_reverse_may_be_left_out():
    chain = np.array([[0, 1], [1, 2]])
    assert max_flow(np.array([5, 0, 0]), np.array([0, 0, 5]), chain, 3)[0] == 3
    flow, side = max_flow(np.array([0.0, 0, 5]), np.array([5.0, 0, 0]), chain, 3)
    assert flow == 0 and type(flow) is float and not side[2]


def test_infinite_capacities():
    """Seeds tied to a terminal stay on its side whatever it costs."""
    source, sink = np.array([np.inf, 0, 0, 0]), np.array([0, 1.0, 0, np.inf])
    flow, side = max_flow(source, sink, np.array([[0, 1], [1, 2], [2, 3]]), np.array([np.inf, 7.0, 2.0]))
    assert flow == 3 and side.tolist() == [False, False, False, True]


def test_no_nodes_and_no_edges():
    nothing = np.zeros((0, 2), int)
    flow, side = max_flow(np.zeros(0), np.zeros(0), nothing, 1.0)
    assert flow == 0 and side.shape == (0,)
    assert max_flow(np.array([2.0, 1.0]), np.array([1.0, 3.0]), nothing, 1.0)[0] == 2


@pytest.mark.parametrize("neighbours", [4, 8])
def test_grid_edges(neighbours):
    edges = {tuple(e) for e in grid_edges(3, 4, neighbours).tolist()}
    at = [(y, x) for y in range(3) for x in range(4)]
    near = 1 if neighbours == 4 else 2
    expected = {
        frozenset((i, j))
        for (i, a), (j, b) in itertools.combinations(enumerate(at), 2)
        if max(abs(a[0] - b[0]), abs(a[1] - b[1])) == 1 and abs(a[0] - b[0]) + abs(a[1] - b[1]) <= near
    }
    assert len(edges) == len(expected) and {frozenset(e) for e in edges} == expected


def test_errors():
    ones, edge = np.ones(2), np.array([[0, 1]])
    for arguments, message in [
        ((ones, np.ones(3), edge, 1.0), "expected the same"),
        ((ones, ones, np.array([0, 1]), 1.0), "expected \\(E,2\\)"),
        ((ones, ones, edge.astype(float), 1.0), "expected \\(E,2\\)"),
        ((ones, ones, np.array([[0, 2]]), 1.0), "name nodes 0 to 2"),
        ((ones, ones, np.array([[-1, 1]]), 1.0), "name nodes -1"),
        ((ones, ones, edge, np.ones(2)), "capacity has shape \\(2,\\)"),
        ((ones, ones, edge, 1.0, np.ones(2)), "reverse_capacity has shape"),
        ((ones, ones, edge, -1.0), "capacity\\[0\\] is -1.0"),
        ((ones, np.array([0, np.nan]), edge, 1.0), "sink\\[1\\] is nan"),
        ((ones, ones, edge, np.array(["a"])), "expected numbers"),
        ((np.array([np.inf, 0]), np.array([np.inf, 0]), edge, 1.0), "node 0 is tied"),
        ((np.array([np.inf, 0]), np.array([0, np.inf]), edge, np.inf), "has no limit"),
        ((np.full(2, 2**52), ones.astype(int), edge, 1), "2\\^53"),
    ]:
        with pytest.raises(ValueError, match=message):
            max_flow(*arguments)
    with pytest.raises(ValueError, match="expected 4 or 8"):
        grid_edges(3, 3, 6)
    with pytest.raises(ValueError, match="expected at least one"):
        grid_edges(0, 3)
    assert ts.structured.max_flow is max_flow
