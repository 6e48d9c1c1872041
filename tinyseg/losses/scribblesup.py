"""ScribbleSup: labels for all pixels of an image from its scribbles and, if there is one, a network's opinion.

    E(y) = sum_i scr_i(y_i) + sum_i net_i(y_i) + sum_{i,j adjacent} [y_i != y_j] w_ij        over superpixels x_i

    scr_i(k) = 0           if a scribble of class k crosses x_i
               log |L|     if k is one of the classes L of the image's scribbles and no scribble crosses x_i
               infinite    otherwise
    net_i(k) = sum over the pixels of x_i of -log P(k)
    w_ij     = exp( -|c_i - c_j|^2 / delta_c^2 - |t_i - t_j|^2 / delta_t^2 )

c: histograms of red, green and blue, 25 bins each; t: of the absolute horizontal and vertical derivatives of grey, 10
bins each. Training takes turns: labels by alpha-expansion with the network held (the first time without it), then the
network with the labels held, as if they were masks. Lin, Dai, Jia, He & Sun, CVPR 2016.

The paper does not say how histograms are normalised. Here they are densities: the mean over the bins of each is 1, so
that the paper's delta_c = 5 and delta_t = 10 are distances of the size that occurs.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..structured import adjacency, alpha_expansion, felzenszwalb, labelling_energy

COLOUR_BINS, TEXTURE_BINS = 25, 10
STEEPEST = 0.25  # derivatives of grey in [0, 1], per pixel, beyond this share the last bin


@dataclass
class Energy:
    """The three terms of E(y); `total` is their sum."""

    scribbles: float
    network: float
    pairwise: float

    @property
    def total(self) -> float:
        return self.scribbles + self.network + self.pairwise


class ScribbleGraph:
    """The superpixels of one image, what its scribbles say of them, and how alike neighbours are.

    superpixels: (H,W) integers; left out: Felzenszwalb & Huttenlocher's, with `scale` and at least `min_size` pixels.
    classes: L, the class ids of the scribbles, (L,); scribbled (N,L): scr; edges (E,2), weights (E,).

    Shapes: image (H,W,C) uint8 or float in [0, 1], scribbles (H,W) integers, 255 = not labelled.
    Raises ValueError: shapes that differ.
    Example:
        graph = ScribbleGraph(image, scribbles)
        labels, energy = graph.label(ts.predict(model, image, probabilities=True))
        mask = graph.paint(labels)
    """

    def __init__(
        self,
        image: np.ndarray,
        scribbles: np.ndarray,
        superpixels: np.ndarray | None = None,
        delta_c: float = 5.0,
        delta_t: float = 10.0,
        scale: float = 100.0,
        min_size: int = 20,
    ):
        image, scribbles = np.asarray(image), np.asarray(scribbles)
        if superpixels is None:
            superpixels = felzenszwalb(image, scale=scale, min_size=min_size)
        if not image.shape[:2] == scribbles.shape == np.shape(superpixels):
            raise ValueError(
                f"ScribbleGraph: image {image.shape}, scribbles {scribbles.shape}, superpixels {np.shape(superpixels)}"
                ": expected one height and width"
            )
        ids, index = np.unique(superpixels, return_inverse=True)
        self.index, self.count = index.reshape(scribbles.shape), len(ids)
        self.classes = np.unique(scribbles[scribbles != 255]).astype(np.int32)
        self.scribbled = self._scribbled(scribbles)
        self.edges = adjacency(self.index)[0]
        c, t = histograms(image, self.index, self.count)
        a, b = self.edges.T
        colour, texture = (np.square(h[a] - h[b]).sum(axis=1) for h in (c, t))
        self.weights = np.exp(-colour / delta_c**2 - texture / delta_t**2)

    def _scribbled(self, scribbles):
        classes = len(self.classes)
        crossed = np.zeros((self.count, classes), bool)
        drawn = scribbles != 255
        crossed[self.index[drawn], np.searchsorted(self.classes, scribbles[drawn])] = True
        free = ~crossed.any(axis=1, keepdims=True)
        return np.where(crossed, 0.0, np.where(free, math.log(max(classes, 1)), np.inf))

    def network(self, probabilities: np.ndarray | None) -> np.ndarray:
        """net, (N,L), from probabilities (H,W,K); 0 without."""
        if probabilities is None:
            return np.zeros(self.scribbled.shape)
        if probabilities.shape[:2] != self.index.shape or probabilities.shape[2] <= self.classes.max(initial=-1):
            raise ValueError(
                f"ScribbleGraph: probabilities are {probabilities.shape} for an image of {self.index.shape} with "
                f"scribbles of the classes {self.classes.tolist()}; expected (H,W,K)"
            )
        cost = -np.log(np.maximum(probabilities[..., self.classes], 1e-12), dtype=np.float64)
        flat = self.index.reshape(-1)
        sums = [np.bincount(flat, cost[..., k].reshape(-1), self.count) for k in range(len(self.classes))]
        return np.stack(sums, axis=1) if sums else np.zeros((self.count, 0))

    def label(
        self, probabilities: np.ndarray | None = None, labels: np.ndarray | None = None
    ) -> tuple[np.ndarray, Energy]:
        """Labels of the superpixels by alpha-expansion, (N,) indices into `classes`, and their energy.

        labels: where to begin; the energy is never larger than theirs.
        """
        unary = self.scribbled + self.network(probabilities)
        if len(self.classes) == 0:
            return np.zeros(self.count, np.int32), Energy(0.0, 0.0, 0.0)
        labels = alpha_expansion(unary, self.edges, self.weights, labels=labels)
        return labels, self.energy(labels, probabilities)

    def energy(self, labels: np.ndarray, probabilities: np.ndarray | None = None) -> Energy:
        """E of a labelling, term by term."""
        if len(self.classes) == 0:
            return Energy(0.0, 0.0, 0.0)
        at = np.arange(self.count), labels
        nothing = np.zeros_like(self.scribbled)
        pairwise = labelling_energy(labels, nothing, self.edges, self.weights)
        return Energy(float(self.scribbled[at].sum()), float(self.network(probabilities)[at].sum()), pairwise)

    def labels_of(self, mask: np.ndarray) -> np.ndarray:
        """The labelling that `paint` made a mask of, (N,)."""
        first = np.unique(self.index, return_index=True)[1]
        return np.searchsorted(self.classes, mask.reshape(-1)[first]).astype(np.int32)

    def paint(self, labels: np.ndarray) -> np.ndarray:
        """The mask of a labelling, (H,W) int32 class ids; 255 everywhere in an image without scribbles."""
        if len(self.classes) == 0:
            return np.full(self.index.shape, 255, np.int32)
        return self.classes[labels][self.index]


def histograms(image: np.ndarray, index: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(c, t) of each superpixel: (N, 25 C) of its colours and (N, 20) of the slopes of its grey; densities."""
    pixels = image / 255 if image.dtype == np.uint8 else image
    pixels = pixels.astype(np.float64)
    grey = pixels.mean(axis=2)
    slopes = [np.abs(np.gradient(grey, axis=axis)) if grey.shape[axis] > 1 else np.zeros_like(grey) for axis in (1, 0)]
    colours = [_histogram(pixels[..., c], COLOUR_BINS, index, count) for c in range(pixels.shape[2])]
    textures = [_histogram(slope / STEEPEST, TEXTURE_BINS, index, count) for slope in slopes]
    return np.concatenate(colours, axis=1), np.concatenate(textures, axis=1)


def _histogram(values, bins, index, count):
    """(N, bins): the histogram of values in [0, 1] over each superpixel, mean 1 over its bins."""
    bin_of = np.clip((values * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount((index * bins + bin_of).reshape(-1), minlength=count * bins).reshape(count, bins)
    return counts * (bins / counts.sum(axis=1, keepdims=True))
