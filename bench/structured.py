"""Structured prediction beside the libraries that people use for it: pydensecrf, PyMaxflow, scikit-image.

Each runs as its own documentation shows, and where the answer is unique it must be the same. Those that are not
installed are left out.
"""

from collections.abc import Iterator
from functools import partial
from importlib import import_module

import numpy as np

import tinyseg as ts
from tinyseg import structured

from .case import Case, Result, Settings, agree, contest


def cases() -> Iterator[Case]:
    yield Case("dense CRF 500x500x21, 10 iterations", partial(dense_crf, 500, 21), 0.7)
    yield Case("dense CRF 500x500x2, 10 iterations", partial(dense_crf, 500, 2), 0.7)
    yield Case("max-flow 500x500, 4 neighbours, random", partial(max_flow, 4), 1.0)
    yield Case("max-flow 500x500, 8 neighbours, an image", partial(max_flow, 8), 1.0)
    yield Case("superpixels 500x500, Felzenszwalb-Huttenlocher", felzenszwalb, 1.0)
    yield Case("superpixels 500x500, SLIC", slic, 1.0)


def peer(name: str):
    """A module, or None."""
    try:
        return import_module(name)
    except ImportError:
        return None


def photograph(side=500, seed=0) -> np.ndarray:
    """Shapes under the noise of a camera."""
    image, rng = ts.data.Shapes(size=side, seed=seed)[0].image, np.random.default_rng(seed)
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def dense_crf(side: int, classes: int, settings: Settings) -> Result:
    image, rng = photograph(side), np.random.default_rng(1)
    p = ts.ops.softmax(rng.standard_normal((side, side, classes), np.float32)).numpy()
    library, contenders = peer("pydensecrf.densecrf"), {}
    if library:

        def theirs():
            crf = library.DenseCRF2D(side, side, classes)
            crf.setUnaryEnergy(np.ascontiguousarray(-np.log(p).reshape(-1, classes).T))
            crf.addPairwiseGaussian(sxy=3, compat=3)
            crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
            return np.array(crf.inference(10)).T.reshape(side, side, classes)

        agree("pydensecrf", structured.dense_crf(image, p), theirs(), 1e-3)
        contenders["pydensecrf"] = theirs
    return contest(settings, lambda: structured.dense_crf(image, p), contenders, 0, "")


def max_flow(neighbours: int, settings: Settings) -> Result:
    side, rng = 500, np.random.default_rng(0)
    edges = structured.grid_edges(side, side, neighbours)
    if neighbours == 4:
        source, sink, capacity = rng.random((side, side)), rng.random((side, side)), rng.random(len(edges)) / 2
    else:  # bright against dark, with the contrast-sensitive smoothness of Boykov & Jolly
        grey = photograph(side).mean(-1)
        source, sink = np.abs(grey - grey.mean() - 30), np.abs(grey - grey.mean() + 30)
        step = grey.ravel()[edges[:, 0]] - grey.ravel()[edges[:, 1]]
        capacity = 60 * np.exp(-(step**2) / 800)
    library, contenders = peer("maxflow"), {}
    if library:

        def theirs():
            graph = library.Graph[float](source.size, len(edges))
            nodes = graph.add_nodes(source.size)
            graph.add_edges(edges[:, 0], edges[:, 1], capacity, capacity)
            graph.add_grid_tedges(nodes, source.ravel(), sink.ravel())
            return graph.maxflow(), graph.get_grid_segments(nodes)

        agree("PyMaxflow", structured.max_flow(source, sink, edges, capacity, capacity)[0], theirs()[0], 1e-9)
        contenders["PyMaxflow"] = theirs
    return contest(settings, lambda: structured.max_flow(source, sink, edges, capacity, capacity), contenders, 0, "")


def felzenszwalb(settings: Settings) -> Result:
    image, library, contenders = photograph(), peer("skimage.segmentation"), {}
    if library:
        # smoothed in another precision, other merges follow from the first that differs: compared without smoothing
        counts = [f(image, 100, 0, 20).max() + 1 for f in (structured.felzenszwalb, library.felzenszwalb)]
        agree("scikit-image: the number of regions", *counts, 0.005)
        contenders["scikit-image"] = lambda: library.felzenszwalb(image, 100, 0.8, 20)
    return contest(settings, lambda: structured.felzenszwalb(image, 100, 0.8, 20), contenders, 0, "")


def slic(settings: Settings) -> Result:
    image, library, contenders = photograph(), peer("skimage.segmentation"), {}
    if library:
        contenders["scikit-image"] = lambda: library.slic(image, 200, 10, 10)
    return contest(settings, lambda: structured.slic(image, 200, 10, 10), contenders, 0, "")
