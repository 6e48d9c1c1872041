"""ScribbleSup's energy against sums written from its equation, and its labels against all labels there are."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given

from tests.strategies import seeds
from tinyseg.losses import ScribbleGraph
from tinyseg.losses.scribblesup import histograms

SIDE, CELLS = 12, 3


def drawn(seed, classes=3, scribbles=4):
    """An image of 3 x 3 superpixels, scribbles in some of them, and probabilities."""
    rng = np.random.default_rng(seed)
    superpixels = np.add.outer(CELLS * (np.arange(SIDE) * CELLS // SIDE), np.arange(SIDE) * CELLS // SIDE)
    colours = rng.integers(0, 256, (CELLS * CELLS, 3))
    image = np.clip(colours[superpixels] + rng.integers(-9, 10, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    drawn_on = np.full((SIDE, SIDE), 255, np.int32)
    for i in range(scribbles):
        y, x = rng.integers(0, SIDE, 2)
        drawn_on[y, x : x + 2] = i % classes
    p = rng.random((SIDE, SIDE, classes + 1)) + 0.05
    return image, drawn_on, superpixels, p / p.sum(-1, keepdims=True)


def energy(graph, image, drawn_on, superpixels, labels, p):
    """E(y) from the equation, superpixel by superpixel, pair by pair."""
    classes = sorted(set(drawn_on[drawn_on != 255].tolist()))
    total = 0.0
    for i in range(CELLS * CELLS):
        inside, k = superpixels == i, classes[labels[i]]
        crossing = set(drawn_on[inside].tolist()) - {255}
        total += 0 if k in crossing else math.inf if crossing else math.log(len(classes))
        if p is not None:
            total += -np.log(p[inside, k]).sum()
    c, t = histograms(image, superpixels, CELLS * CELLS)
    for i, j in itertools.combinations(range(CELLS * CELLS), 2):
        apart = abs(i // CELLS - j // CELLS) + abs(i % CELLS - j % CELLS)
        if apart == 1 and labels[i] != labels[j]:
            total += math.exp(-((c[i] - c[j]) ** 2).sum() / 25 - ((t[i] - t[j]) ** 2).sum() / 100)
    return total


@given(seeds)
def test_energy_by_its_equation(seed):
    image, drawn_on, superpixels, p = drawn(seed)
    graph = ScribbleGraph(image, drawn_on, superpixels)
    for network in (None, p):
        labels, found = graph.label(network)
        assert found.total == pytest.approx(energy(graph, image, drawn_on, superpixels, labels, network))
        assert math.isfinite(found.total)
        painted = graph.paint(labels)
        crossings = [set(drawn_on[superpixels == i].tolist()) - {255} for i in range(9)]
        assert all(painted[superpixels == i][0] in c for i, c in enumerate(crossings) if c)
        assert set(np.unique(painted)) <= set(graph.classes.tolist())


@given(seeds)
def test_two_classes_are_solved_exactly(seed):
    """One expansion is then a minimal cut: no labelling of the nine superpixels is better."""
    image, drawn_on, superpixels, p = drawn(seed, classes=2)
    graph = ScribbleGraph(image, drawn_on, superpixels)
    _, found = graph.label(p)
    every = itertools.product(range(len(graph.classes)), repeat=9)
    assert found.total == pytest.approx(
        min(energy(graph, image, drawn_on, superpixels, labels, p) for labels in every if _allowed(graph, labels)),
    )


def _allowed(graph, labels):
    return np.isfinite(graph.scribbled[np.arange(9), list(labels)]).all()


@given(seeds)
def test_labelling_anew_never_raises_the_energy(seed):
    """Each turn of the alternation: from the labels that there are, with the network's new opinion."""
    image, drawn_on, superpixels, p = drawn(seed)
    graph = ScribbleGraph(image, drawn_on, superpixels)
    labels, _ = graph.label()
    for network in (p, p**2 / (p**2).sum(-1, keepdims=True), p[..., ::-1]):
        before = graph.energy(labels, network).total
        labels, after = graph.label(network, labels)
        assert after.total <= before + 1e-9


def test_histograms_are_densities():
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:] = [255, 128, 10]
    c, t = histograms(image, np.repeat([[0, 0, 0, 1, 1, 1]], 4, 0), 2)
    assert c.shape == (2, 75) and t.shape == (2, 20)
    assert np.allclose(c.reshape(2, 3, 25).mean(-1), 1) and np.allclose(t.reshape(2, 2, 10).mean(-1), 1)
    assert c[1, 24] == 25 and c[1, 25 + 12] == 25 and c[1, 50] == 25  # 255, 128 and 10 of 0..255 in 25 bins
    assert t[0, 9] == pytest.approx(10 / 3)  # the step is seen by one column in three, and leaves the scale
    assert t[0, 10] == 10  # down the image nothing changes


def test_classes_reach_along_what_is_alike():
    """Three stripes, a scribble in the first and in the last; the middle one looks like the last."""
    image = np.zeros((9, 12, 3), np.uint8)
    image[:, 4:] = 200
    drawn_on = np.full((9, 12), 255, np.int32)
    drawn_on[2, 1], drawn_on[5, 10] = 4, 7
    stripes = np.repeat([[0] * 4 + [1] * 4 + [2] * 4], 9, 0)
    graph = ScribbleGraph(image, drawn_on, stripes)
    assert graph.paint(graph.label()[0])[0].tolist() == [4] * 4 + [7] * 8
    assert graph.scribbled[1].tolist() == [math.log(2)] * 2 and graph.scribbled[0].tolist() == [0, math.inf]
    certain = np.full((9, 12, 8), 1e-3)
    certain[..., 4] = 1
    assert graph.paint(graph.label(certain)[0])[0].tolist() == [4] * 8 + [7] * 4  # the network has the last word


def test_its_own_superpixels():
    image = np.zeros((30, 30, 3), np.uint8)
    image[:, 15:] = [200, 30, 30]
    drawn_on = np.full((30, 30), 255, np.int32)
    drawn_on[10, 3], drawn_on[12, 25] = 0, 1
    graph = ScribbleGraph(image, drawn_on)
    assert np.array_equal(graph.paint(graph.label()[0]), np.repeat([[0] * 15 + [1] * 15], 30, 0))


def test_without_scribbles_nothing_is_labelled():
    graph = ScribbleGraph(np.zeros((6, 6, 3), np.uint8), np.full((6, 6), 255, np.int32))
    labels, found = graph.label(np.full((6, 6, 2), 0.5))
    assert found.total == 0 and (graph.paint(labels) == 255).all() and graph.energy(labels).total == 0


def test_errors():
    image, drawn_on, superpixels, p = drawn(0)
    with pytest.raises(ValueError, match="expected one height and width"):
        ScribbleGraph(image, drawn_on[1:], superpixels)
    graph = ScribbleGraph(image, drawn_on, superpixels)
    with pytest.raises(ValueError, match=r"probabilities are \(12, 12, 2\) for an image of \(12, 12\)"):
        graph.label(p[..., :2])
