"""Superpixels: an image in a few hundred regions of like pixels, by merging along a graph or by local clustering.

Felzenszwalb & Huttenlocher 2004 join pixels along edges of their grid, lightest first. An edge of weight w joins the
regions A and B where it is no heavier than what is usual in both:

    w <= min( Int(A) + k / |A|, Int(B) + k / |B| ),      Int(A) the heaviest edge that was needed to join A

SLIC (Achanta et al. 2012) is k-means in colour and place together, each centre searching only near itself:

    D^2 = |Lab_n - Lab_c|^2 + (m / S)^2 |p_n - p_c|^2,   S = sqrt(pixels / centres)

Letters: (y, x) pixel; e edge; c centre; H, W sides, S the distance of centres. All of it runs on the CPU.
"""

import math

import numpy as np
from numba import prange

from ..device import get_device
from ..kernel import device_function, kernel
from .dense_crf import grey_levels
from .graph_cut import grid_edges

DIGIT = 11  # bits that the sort takes at a time
ROWS = 16  # of the image that one thread clusters at a time


def felzenszwalb(image: np.ndarray, scale: float = 100.0, sigma: float = 0.8, min_size: int = 20) -> np.ndarray:
    """Superpixels by merging along a graph; the rule stands above, with k = scale.

    The image is smoothed by a Gaussian of `sigma` pixels; edges join the 8 neighbours of a pixel and weigh |I_i - I_j|
    in grey levels 0..255. At the end regions below `min_size` pixels join a neighbour. Felzenszwalb & Huttenlocher
    2004, as ScribbleSup uses it. A larger scale gives larger regions.
    Shapes: image (H,W,C) or (H,W), uint8, uint16 or float in [0,1] -> (H,W) int32 ids 0, 1, ... in reading order.
    Raises ValueError: an image that is none; negative options.
    Example:
        regions = ts.structured.felzenszwalb(image, scale=200)
    """
    pixels = grey_levels("felzenszwalb", image)
    for name, value in (("scale", scale), ("sigma", sigma), ("min_size", min_size)):
        if not 0 <= value < np.inf:
            raise ValueError(f"felzenszwalb: {name} is {value}, expected a number >= 0")
    pixels = np.ascontiguousarray(_smooth(pixels, sigma), np.float32)
    (H, W, C), launch = pixels.shape, get_device("cpu").launch
    edges = grid_edges(H, W, 8)
    weights, order, other = np.empty(len(edges), np.float32), *np.empty((2, len(edges)), np.int32)
    launch(edge_weights, weights, pixels.reshape(-1, C), edges, len(edges), C)
    launch(sort_edges, order, other, weights.view(np.uint32), np.empty(1 << DIGIT, np.int64), len(edges))
    labels, parent, size = np.empty(H * W, np.int32), np.empty(H * W, np.int32), np.empty(H * W, np.int32)
    inside = np.empty(H * W, np.float32)
    launch(
        merge_regions, labels, parent, size, inside, edges, weights, order, float(scale), int(math.ceil(min_size)),
        H * W, len(edges),
    )  # fmt: skip
    return labels.reshape(H, W)


def slic(image: np.ndarray, n_segments: int = 200, compactness: float = 10.0, iterations: int = 10) -> np.ndarray:
    """Superpixels of like size by local k-means in CIE Lab and place; the distance stands above, with m = compactness.

    Centres begin on a grid, at the lowest gradient of their 3 x 3 pixels. In the end parts that lost their region, and
    are smaller than a quarter of S^2, join a neighbour; so the number of regions is only about n_segments, and every
    region hangs together (4 neighbours). Achanta et al. 2012.
    Shapes: image (H,W,3) RGB, or grey (H,W), (H,W,1), uint8, uint16 or float in [0,1] -> (H,W) int32 ids 0, 1, ...
    Raises ValueError: an image that is none; n_segments or iterations below 1; compactness <= 0.
    Example:
        regions = ts.structured.slic(image, n_segments=400)
    """
    pixels = grey_levels("slic", image)
    if pixels.shape[2] not in (1, 3):
        raise ValueError(f"slic: image has {pixels.shape[2]} channels, expected grey or RGB")
    for name, value in (("n_segments", n_segments), ("iterations", iterations)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"slic: {name} is {value!r}, expected a whole number >= 1")
    if not 0 < compactness < np.inf:
        raise ValueError(f"slic: compactness is {compactness}, expected a number > 0")
    (H, W, _), launch = pixels.shape, get_device("cpu").launch
    lab = _lab(pixels)
    step = math.sqrt(H * W / n_segments)
    rows, columns = max(1, round(H / step)), max(1, round(W / step))
    y, x = (
        (np.arange(count) + 0.5) * (side / count) - 0.5 for count, side in ((rows, H), (columns, W))
    )  # the middle of each cell, counted from the first pixel's centre
    centres = _lowest_gradient(lab, np.repeat(y, columns), np.tile(x, rows))
    K, reach = len(centres), max(step, 1.0)
    nearest, label = np.empty((H, W), np.float32), np.zeros((H, W), np.int32)
    sums = np.empty((K, 6))
    for _ in range(iterations):
        launch(assign_pixels, label, nearest, lab, centres, reach, np.float32((compactness / reach) ** 2), H, W, K)
        launch(move_centres, centres, sums, lab, label, H, W, K)
    labels, stack = np.empty((H, W), np.int32), np.empty(H * W, np.int32)
    launch(join_fragments, labels, stack, label, int(step * step / 4), H, W)
    return labels


def lab_of(image: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of an sRGB image: lightness 0..100, and two colours around 0, in which distance is difference.

    Shapes: image (H,W,3) RGB, or grey (H,W), (H,W,1), uint8, uint16 or float in [0,1] -> (H,W,3) float32.
    Raises ValueError: an image that is none, or of other channels.
    """
    pixels = grey_levels("lab_of", image)
    if pixels.shape[2] not in (1, 3):
        raise ValueError(f"lab_of: image has {pixels.shape[2]} channels, expected grey or RGB")
    return np.ascontiguousarray(_lab(pixels).transpose(1, 2, 0))


def _lab(pixels):
    """(3,H,W) float32 planes of grey levels (H,W,C)."""
    (H, W, C), lab = pixels.shape, np.empty((3, *pixels.shape[:2]), np.float32)
    get_device("cpu").launch(rgb_to_lab, lab, pixels, H, W, C)
    return lab


def adjacency(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which regions touch (4 neighbours), and along how many pairs of pixels: the graph that `alpha_expansion` takes.

    Shapes: labels (H,W) integers >= 0 -> edges (E,2) int32, sorted, the lower id first; lengths (E,) int32.
    Raises ValueError: labels that are not (H,W) integers >= 0.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
        raise ValueError(f"adjacency: labels are {labels.dtype} of shape {labels.shape}, expected integers (H,W) >= 0")
    a = np.concatenate([labels[:, :-1].ravel(), labels[:-1].ravel()]).astype(np.int64)
    b = np.concatenate([labels[:, 1:].ravel(), labels[1:].ravel()]).astype(np.int64)
    a, b = a[a != b], b[a != b]
    base = int(labels.max(initial=0)) + 1
    keys, lengths = np.unique(np.minimum(a, b) * base + np.maximum(a, b), return_counts=True)
    return np.stack([keys // base, keys % base], 1).astype(np.int32), lengths.astype(np.int32)


def _smooth(pixels, sigma):
    """Convolution with a Gaussian cut at 4 sigma, the border repeated."""
    if sigma == 0:
        return pixels
    radius = math.ceil(4 * sigma)
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum()).astype(np.float32)
    pixels = pixels.astype(np.float32)
    for axis in (0, 1):
        length = pixels.shape[axis]
        padded = np.pad(pixels, [(radius, radius) if i == axis else (0, 0) for i in range(3)], mode="edge")
        pixels = np.zeros_like(pixels)
        for i, tap in enumerate(taps):
            pixels += tap * (padded[i : i + length] if axis == 0 else padded[:, i : i + length])
    return pixels


def _lowest_gradient(lab, y, x):
    """(K,5) float32 centres (L, a, b, y, x) at the pixel of least gradient around each (y, x)."""
    _, H, W = lab.shape
    around = np.pad(lab, ((0, 0), (1, 1), (1, 1)), mode="edge")
    gradient = ((around[:, 2:, 1:-1] - around[:, :-2, 1:-1]) ** 2).sum(0)
    gradient += ((around[:, 1:-1, 2:] - around[:, 1:-1, :-2]) ** 2).sum(0)
    i, j = np.floor(y + 0.5).astype(int), np.floor(x + 0.5).astype(int)
    near = [(0, 0), *((p, q) for p in (-1, 0, 1) for q in (-1, 0, 1) if (p, q) != (0, 0))]  # of equals, the middle
    rows = np.stack([np.clip(i + p, 0, H - 1) for p, _ in near])
    columns = np.stack([np.clip(j + q, 0, W - 1) for _, q in near])
    best, k = gradient[rows, columns].argmin(0), np.arange(len(y))
    i, j = rows[best, k], columns[best, k]
    y, x = np.where(best, i, y), np.where(best, j, x)
    return np.concatenate([lab[:, i, j], y[None], x[None]]).T.astype(np.float32, order="C")


@kernel
def edge_weights(weights, pixels, edges, E, C):
    """|I_i - I_j|. Parallel over edges."""
    for e in prange(E):
        i, j, total = edges[e, 0], edges[e, 1], weights.dtype.type(0)
        for c in range(C):
            total += (pixels[i, c] - pixels[j, c]) ** 2
        weights[e] = math.sqrt(total)


@kernel
def sort_edges(order, other, key, counts, E):
    """The edges by ascending key, equal ones in their order: a radix sort, which takes the lowest bits first.

    The bits of a float >= 0, read as an integer, ascend with it. One thread.
    """
    for e in range(E):
        order[e] = e
    source, target = order, other
    for shift in range(0, 3 * DIGIT, DIGIT):
        counts[:] = 0
        for e in range(E):
            counts[(key[e] >> np.uint32(shift)) & np.uint32((1 << DIGIT) - 1)] += 1
        total = 0
        for digit in range(1 << DIGIT):
            counts[digit], total = total, total + counts[digit]
        for i in range(E):
            e = source[i]
            digit = (key[e] >> np.uint32(shift)) & np.uint32((1 << DIGIT) - 1)
            target[counts[digit]] = e
            counts[digit] += 1
        source, target = target, source
    for i in range(E):  # three passes: the result lies in `other`
        order[i] = other[i]


@device_function
def root_of(parent, i):
    """The root of a tree; the way to it is halved."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@kernel
def merge_regions(labels, parent, size, inside, edges, weights, order, scale, min_size, N, E):
    """Union-find over the sorted edges, by the rule, then for what is too small; ids in reading order. One thread."""
    for i in range(N):
        parent[i], size[i], inside[i] = i, 1, 0
    for small in range(2):
        for at in range(E):
            e = order[at]
            a, b = root_of(parent, edges[e, 0]), root_of(parent, edges[e, 1])
            if a == b:
                continue
            if small:
                join = size[a] < min_size or size[b] < min_size
            else:
                join = weights[e] <= min(inside[a] + scale / size[a], inside[b] + scale / size[b])
            if join:
                if size[a] < size[b]:
                    a, b = b, a
                parent[b] = a
                size[a] += size[b]
                inside[a] = weights[e]
    count = 0
    for i in range(N):
        size[i] = -1
    for i in range(N):
        a = root_of(parent, i)
        if size[a] < 0:
            size[a] = count
            count += 1
        labels[i] = size[a]


@kernel
def rgb_to_lab(lab, pixels, H, W, C):
    """CIE L*a*b* (D65) of sRGB in 0..255, as three planes. Parallel over rows."""
    for y in prange(H):
        linear, f = np.empty(3), np.empty(3)
        for x in range(W):
            for c in range(3):
                v = pixels[y, x, c % C] / 255
                linear[c] = v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
            r, g, b = linear[0], linear[1], linear[2]
            f[0] = (0.412453 * r + 0.357580 * g + 0.180423 * b) / 0.950456
            f[1] = 0.212671 * r + 0.715160 * g + 0.072169 * b
            f[2] = (0.019334 * r + 0.119193 * g + 0.950227 * b) / 1.088754
            for c in range(3):
                f[c] = f[c] ** (1 / 3) if f[c] > 0.008856 else 7.787 * f[c] + 16 / 116
            lab[0, y, x] = 116 * f[1] - 16
            lab[1, y, x] = 500 * (f[0] - f[1])
            lab[2, y, x] = 200 * (f[1] - f[2])


@kernel
def assign_pixels(label, nearest, lab, centres, reach, share, H, W, K):
    """The nearest of the centres whose window of 2 S x 2 S covers a pixel. Parallel over bands of rows.

    A pixel that no window covers any more keeps its label.
    """
    for band in prange((H + ROWS - 1) // ROWS):
        top, bottom = band * ROWS, min(band * ROWS + ROWS, H)
        for y in range(top, bottom):
            for x in range(W):
                nearest[y, x] = np.inf
        for c in range(K):
            y0, x0 = centres[c, 3], centres[c, 4]
            first, last = max(int(math.ceil(y0 - reach)), top), min(int(math.floor(y0 + reach)) + 1, bottom)
            left, right = max(int(math.ceil(x0 - reach)), 0), min(int(math.floor(x0 + reach)) + 1, W)
            l0, a0, b0 = centres[c, 0], centres[c, 1], centres[c, 2]
            for y in range(first, last):
                dy = share * (np.float32(y) - y0) ** 2
                L, A, B = lab[0, y, left:right], lab[1, y, left:right], lab[2, y, left:right]
                best, mine = nearest[y, left:right], label[y, left:right]
                for i in range(right - left):
                    dx = np.float32(left + i) - x0
                    D = dy + share * dx * dx + (L[i] - l0) ** 2 + (A[i] - a0) ** 2 + (B[i] - b0) ** 2
                    closer = D < best[i]
                    best[i] = D if closer else best[i]
                    mine[i] = np.int32(c) if closer else mine[i]


@kernel
def move_centres(centres, sums, lab, label, H, W, K):
    """Each centre to the mean of its pixels; one without pixels stays. One thread, always in the same order."""
    for c in range(K):
        for i in range(6):
            sums[c, i] = 0
    for y in range(H):
        for x in range(W):
            c = label[y, x]
            sums[c, 0] += lab[0, y, x]
            sums[c, 1] += lab[1, y, x]
            sums[c, 2] += lab[2, y, x]
            sums[c, 3] += y
            sums[c, 4] += x
            sums[c, 5] += 1
    for c in range(K):
        if sums[c, 5] > 0:
            for i in range(5):
                centres[c, i] = sums[c, i] / sums[c, 5]


@kernel
def join_fragments(labels, stack, label, least, H, W):
    """Connected parts, numbered in reading order; those below `least` pixels join the part seen before. One thread."""
    for y in range(H):
        for x in range(W):
            labels[y, x] = -1
    count = 0
    for y in range(H):
        for x in range(W):
            if labels[y, x] >= 0:
                continue
            before = labels[y, x - 1] if x > 0 else (labels[y - 1, x] if y > 0 else -1)
            labels[y, x] = count
            stack[0], filled, next = y * W + x, 1, 0
            while next < filled:  # a flood over equal labels
                i, j = stack[next] // W, stack[next] % W
                next += 1
                for side in range(4):
                    p, q = i + (side == 0) - (side == 1), j + (side == 2) - (side == 3)
                    if 0 <= p < H and 0 <= q < W and labels[p, q] < 0 and label[p, q] == label[y, x]:
                        labels[p, q] = count
                        stack[filled] = p * W + q
                        filled += 1
            if filled < least and before >= 0:
                for i in range(filled):
                    labels[stack[i] // W, stack[i] % W] = before
            else:
                count += 1
