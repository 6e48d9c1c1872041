"""Resizing and warping arrays in NumPy: smooth for images, nearest for labels.

Pixel i covers [i, i+1), so its centre is i + 1/2, and output pixel o of n looks at source position (o + 1/2) in/out.
Images keep their dtype: integers are rounded.
"""

import numpy as np


def as_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an int (a square) or a pair."""
    height, width = (size, size) if isinstance(size, (int, np.integer)) else size
    if height < 1 or width < 1:
        raise ValueError(f"size is {size} but pixels >= 1 are expected: pass an int or (height, width)")
    return int(height), int(width)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, with the triangle widened where the image shrinks, so that nothing aliases (Pillow's BILINEAR).

    Shapes: image (H, W, C), any real dtype, returned as (size[0], size[1], C) of that dtype.
    """
    if image.shape[:2] == tuple(size):
        return image
    y = _blend(image.astype(np.float32), size[0], axis=0)
    return restore(_blend(y, size[1], axis=1), image.dtype)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest: the label at the centre of each new pixel. Shapes: (H, W) -> size."""
    if labels.shape == tuple(size):
        return labels
    row, column = (((np.arange(n) + 0.5) * (m / n)).astype(np.intp) for n, m in zip(size, labels.shape))
    return labels[row[:, None], column]


def warp_image(image: np.ndarray, y: np.ndarray, x: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The image at positions (y, x), bilinear; `outside` (C,) is the colour beyond its edge.

    Shapes: image (H, W, C); y, x (P, Q) pixel indices (0 = centre of the first pixel); returns (P, Q, C).
    """
    height, width, channels = image.shape
    inside = (y > -0.5) & (y < height - 0.5) & (x > -0.5) & (x < width - 0.5)
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = y.astype(np.intp), x.astype(np.intp)
    fy, fx = (y - top).astype(np.float32)[..., None], (x - left).astype(np.float32)[..., None]
    corner = top * width + left
    right = (left < width - 1).astype(np.intp)
    below = (top < height - 1) * width
    pixels = image.reshape(-1, channels)
    upper = pixels[corner] * (1 - fx) + pixels[corner + right] * fx
    lower = pixels[corner + below] * (1 - fx) + pixels[corner + below + right] * fx
    return restore(np.where(inside[..., None], upper * (1 - fy) + lower * fy, outside), image.dtype)


def warp_labels(labels: np.ndarray, y: np.ndarray, x: np.ndarray, outside: float) -> np.ndarray:
    """The label nearest to positions (y, x), `outside` beyond the edge. Shapes: labels (H, W); y, x (P, Q) as above."""
    height, width = labels.shape
    row, column = np.floor(y + 0.5).astype(np.intp), np.floor(x + 0.5).astype(np.intp)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    nearest = labels[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    return np.where(inside, nearest, labels.dtype.type(outside))


def bicubic_surface(knots: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A smooth surface through a coarse grid of values: cubic convolution (Keys 1981, a = -1/2), corners on corners.

    Shapes: knots (A, B) -> size.
    """
    rows, columns = (_cubic_weights(n, m) for n, m in zip(knots.shape, size))
    return np.einsum("pa,ab,qb->pq", rows, knots, columns)


def convolve(image: np.ndarray, taps: np.ndarray, axis: int) -> np.ndarray:
    """The image convolved with an odd number of taps along one axis, its edge repeated. Float in, float out."""
    half, n = len(taps) // 2, image.shape[axis]
    total = np.zeros_like(image)
    for k, tap in enumerate(taps):
        total += tap * np.take(image, np.clip(np.arange(n) + k - half, 0, n - 1), axis)
    return total


def restore(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Float pixels back as `dtype`; integers are rounded and clipped to their range."""
    if dtype.kind == "f":
        return image.astype(dtype, copy=False)
    return np.clip(np.rint(image), 0, np.iinfo(dtype).max).astype(dtype)


def _blend(image, n, axis):
    """Resize one axis to n: each output is a weighted sum of the inputs under its triangle."""
    m = image.shape[axis]
    if m == n:
        return image
    radius = max(m / n, 1.0)
    centre = (np.arange(n) + 0.5) * (m / n)
    first = np.floor(centre - radius).astype(np.intp)
    source = first[:, None] + np.arange(int(np.ceil(2 * radius)) + 1)
    weight = np.maximum(0, 1 - np.abs(source + 0.5 - centre[:, None]) / radius)
    weight[(source < 0) | (source >= m)] = 0  # what lies beyond the edge has no say
    weight /= weight.sum(1, keepdims=True)
    source = np.clip(source, 0, m - 1)
    along = (-1, 1, 1) if axis == 0 else (-1, 1)
    total = 0
    for tap in np.flatnonzero(weight.any(axis=0)):
        total = total + np.take(image, source[:, tap], axis) * weight[:, tap].astype(np.float32).reshape(along)
    return total


def _cubic_weights(knots, n):
    """(n, knots): row o weighs the knots for the o-th of n positions from the first knot to the last."""
    position = np.linspace(0, knots - 1, n)
    first = np.floor(position).astype(np.intp)
    weights = np.zeros((n, knots))
    for k in range(-1, 3):
        d = np.abs(position - (first + k))
        value = np.where(d < 1, 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2) * (d < 2)
        np.add.at(weights, (np.arange(n), np.clip(first + k, 0, knots - 1)), value)  # edge knots repeat
    return weights
