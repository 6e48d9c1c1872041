"""The fully connected conditional random field: labels that agree where pixels are near and look alike.

    E(y) = sum_n U_n(y_n) + sum_{n<m} [y_n != y_m] ( w_b exp(-|p_n - p_m|^2 / 2 s_xy^2 - |I_n - I_m|^2 / 2 s_rgb^2)
                                                   + w_g exp(-|p_n - p_m|^2 / 2 s_g^2) )

Krahenbuhl & Koltun 2011. Mean field looks for the product of Q_n(y_n) nearest to exp(-E) / Z:

    Q = softmax(-U),   then again and again   Q = softmax(-U + sum_g w_g D_g^-1/2 K_g D_g^-1/2 Q)

K_g are the two kernels, filtered on the permutohedral lattice, and D_g = diag(K_g 1), as the authors' code has it
(normalization="symmetric"); that code, and so this one, leaves the term n = m in. All kernels together are one sparse
operator here: their lattices lie behind each other in one table, and the weights and D_g^-1/2 are part of its numbers,
so that an iteration is one splat, a few blurs, and one pass that reads back, adds -U and takes the softmax.
"""

import numpy as np
from numba import prange

from ..device import get_device
from ..kernel import kernel
from ..ops.exponential import exp, row_sum
from ..ops.rows import weighted_rows
from .gaussian import NORMALIZATIONS, ExactGaussian, filter_norms
from .permutohedral import Lattice, splat_and_blur

LEAST = 1e-5  # of a probability: a smaller one counts as this
RUN = 64  # points whose exponentials are taken in one go


def dense_crf(
    image: np.ndarray,
    probabilities: np.ndarray,
    iterations: int = 10,
    gaussian_sxy: float = 3,
    gaussian_weight: float = 3,
    bilateral_sxy: float = 80,
    bilateral_srgb: float = 13,
    bilateral_weight: float = 10,
    normalization: str = "symmetric",
    exact: bool = False,
    device="cpu",
) -> np.ndarray:
    """Mean-field marginals of the dense CRF with the unaries -log max(probabilities, 1e-5); the equations stand above.

    sxy in pixels (one number, or vertical and horizontal), srgb in grey levels of 0..255. normalization: "symmetric"
    D^-1/2 K D^-1/2, "before" K D^-1, "after" D^-1 K, "none" K. exact: O(N^2) sums instead of the lattice.
    Krahenbuhl & Koltun 2011.
    Shapes: image (H,W,C) or (H,W), uint8, uint16 or float in [0,1]; probabilities (H,W,K), any float in any memory
        order -> (H,W,K) float32, float64 for float64.
    Raises ValueError: shapes; values out of range, nan; widths <= 0, weights < 0; an unknown normalization.
    Example:
        labels = ts.structured.dense_crf(image, ts.predict(model, image, probabilities=True)).argmax(-1)
    """
    device = get_device(device)
    pixels = grey_levels("dense_crf", image)
    p = _probabilities(probabilities, pixels.shape[:2])
    if isinstance(iterations, bool) or not isinstance(iterations, int | np.integer) or iterations < 0:
        raise ValueError(f"dense_crf: iterations is {iterations!r}, expected a whole number >= 0")
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"dense_crf: normalization is {normalization!r}, expected one of {', '.join(NORMALIZATIONS)}")
    kernels = [
        (_weight("gaussian_weight", gaussian_weight), lambda: pixel_features(*pixels.shape[:2], gaussian_sxy)),
        (
            _weight("bilateral_weight", bilateral_weight),
            lambda: bilateral_features(image, bilateral_sxy, bilateral_srgb),
        ),
    ]
    H, W, K = p.shape
    lanes = 4 if K <= 4 else 8  # the classes are filled up to whole vectors
    scores = np.empty((H * W, -(-K // lanes) * lanes), p.dtype)
    np.log(np.maximum(p.reshape(-1, K), p.dtype.type(LEAST)), out=scores[:, :K])
    scores[:, K:] = -1e30  # their probability is 0
    scores = device.array(scores)
    filters = [(w, (ExactGaussian if exact else Lattice)(features(), p.dtype, device)) for w, features in kernels if w]
    message = (_ExactMessage if exact else _LatticeMessage)(filters, normalization, device, p.dtype, H * W)
    q = message.softmax(scores)
    for _ in range(iterations if filters else 0):
        q = message.update(q, scores)
    return np.ascontiguousarray(device.numpy(q)[:, :K]).reshape(H, W, K)


def pixel_features(height: int, width: int, sxy) -> np.ndarray:
    """(H W, 2) float64: x / s_x, y / s_y of each pixel; sxy one number or (vertical, horizontal), in pixels."""
    vertical, horizontal = _widths("sxy", sxy, 2)
    y, x = np.mgrid[:height, :width]
    return np.stack([x / horizontal, y / vertical], -1).reshape(-1, 2)


def bilateral_features(image: np.ndarray, sxy, srgb) -> np.ndarray:
    """(H W, 2 + C) float64: x / s_x, y / s_y, and the channels / s_rgb, counted from 0 to 255 whatever the dtype.

    Shapes: image as for `dense_crf`. Raises ValueError: an image that is none; widths <= 0.
    """
    pixels = grey_levels("bilateral_features", image)
    H, W, C = pixels.shape
    return np.concatenate([pixel_features(H, W, sxy), pixels.reshape(-1, C) / _widths("srgb", srgb, 1)], 1)


def grey_levels(op: str, image) -> np.ndarray:
    """(H,W,C) float64 from 0 to 255, checked. Raises ValueError naming `op`."""
    image = np.asarray(image)
    shape, image = image.shape, image[:, :, None] if image.ndim == 2 else image
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"{op}: image has shape {shape}, expected one image (H,W,C) or (H,W)")
    if image.dtype == np.uint8:
        return image.astype(np.float64)
    if image.dtype == np.uint16:
        return image / 257.0
    if image.dtype.kind != "f":
        raise ValueError(f"{op}: image is {image.dtype}, expected uint8, uint16 or float in [0, 1]")
    if not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(
            f"{op}: a float image from {image.min():.4g} to {image.max():.4g}, expected [0, 1]; cure: divide it"
        )
    return image.astype(np.float64) * 255


def _probabilities(p, size) -> np.ndarray:
    p = np.asarray(p)
    if p.ndim != 3 or p.shape[:2] != size or not p.shape[2]:
        raise ValueError(
            f"dense_crf: probabilities have shape {p.shape}, the image {size[0]} x {size[1]} pixels; expected "
            f"{(*size, 'K')}; cure for (K,H,W): np.moveaxis(p, 0, -1)"
        )
    if p.dtype.kind != "f":
        raise ValueError(
            f"dense_crf: probabilities are {p.dtype}, expected floats; cure for a mask: `label_probabilities`"
        )
    if not (p.min() >= 0 and p.max() <= 1.001):
        raise ValueError(
            f"dense_crf: probabilities from {p.min():.4g} to {p.max():.4g}, expected [0, 1]; cure for logits: softmax"
        )
    return np.ascontiguousarray(p, np.float64 if p.dtype == np.float64 else np.float32)


def _weight(name, value) -> float:
    if not 0 <= value < np.inf:
        raise ValueError(f"dense_crf: {name} is {value}, expected a number >= 0")
    return float(value)


def _widths(name, value, count) -> list[float]:
    values = [float(v) for v in value] if isinstance(value, tuple | list) else [float(value)] * count
    if len(values) != count or not all(0 < v < np.inf for v in values):
        raise ValueError(
            f"dense_crf: {name} is {value}, expected {'a number' if count == 1 else 'one or two numbers'} > 0"
        )
    return values


def label_probabilities(
    mask: np.ndarray, num_classes: int, certainty: float = 0.7, ignore_index: int = 255
) -> np.ndarray:
    """Probabilities for `dense_crf` from labels: `certainty` for the label, the rest shared by the other classes.

    Where the mask is `ignore_index` all classes are equally likely. Shapes: mask (H,W) integers -> (H,W,K) float32.
    Raises ValueError: shapes; labels >= num_classes; fewer than 2 classes; a certainty that is not between 1/K and 1.
    Example:
        refined = dense_crf(image, label_probabilities(mask, 21)).argmax(-1)
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "iu":
        raise ValueError(f"label_probabilities: mask is {mask.dtype} of shape {mask.shape}, expected integers (H,W)")
    if num_classes < 2:
        raise ValueError(f"label_probabilities: num_classes is {num_classes}, expected at least 2")
    if not 1 / num_classes <= certainty < 1:
        raise ValueError(f"label_probabilities: certainty is {certainty}, expected 1/{num_classes} to below 1")
    known = mask != ignore_index
    if known.any() and not 0 <= mask[known].min() <= mask[known].max() < num_classes:
        raise ValueError(
            f"label_probabilities: labels from {mask[known].min()} to {mask[known].max()}, num_classes is {num_classes}"
        )
    p = np.full((*mask.shape, num_classes), (1 - certainty) / (num_classes - 1), np.float32)
    np.put_along_axis(p, np.where(known, mask, 0)[:, :, None].astype(np.int64), certainty, 2)
    p[~known] = 1 / num_classes
    return p


# ------------------------------------------------------------------------------ the two ways to sum over all pixels


class _ExactMessage:
    """Q -> softmax(scores + sum_g w_g A_g K_g B_g Q) by O(N^2) sums."""

    def __init__(self, filters, normalization, device, dtype, points):
        self.device, self.xp = device, device.xp
        self.filters = [(w, gaussian, *filter_norms("dense_crf", gaussian, normalization)) for w, gaussian in filters]

    def softmax(self, scores):
        e = self.xp.exp(scores - scores.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def update(self, q, scores):
        for w, gaussian, before, after in self.filters:
            sums = gaussian.apply(q if before is None else q * before)
            scores = scores + scores.dtype.type(w) * (sums if after is None else sums * after)
        return self.softmax(scores)


class _LatticeMessage:
    """Q -> softmax(scores + sum_g w_g A_g K_g B_g Q): all lattices behind each other in the tables of one."""

    def __init__(self, filters, normalization, device, dtype, points):
        xp, self.device, self.dtype, self.points = device.xp, device, dtype, points
        lattices = [lattice for _, lattice in filters]
        self.vertices = M = sum(lattice.vertices for lattice in lattices)
        self.axes = max((lattice.axes for lattice in lattices), default=0)
        self.reads = J = sum(lattice.axes for lattice in lattices)  # vertices that a point reads
        vertex, weight = device.empty((points, J), np.int32), device.empty((points, J), dtype)
        self.start, self.neighbours = device.zeros(M + 1, np.int32), device.empty((self.axes, M, 2), np.int32)
        self.entry, self.entry_weight = device.empty(points * J, np.int32), device.empty(points * J, dtype)
        self.neighbours.fill(M)
        first = read = 0
        for w, lattice in filters:
            before, after = filter_norms("dense_crf", lattice, normalization)
            reads, rows = slice(read, read + lattice.axes), slice(first, first + lattice.vertices)
            entries = slice(points * read, points * reads.stop)
            xp.add(lattice.vertex.reshape(points, -1), np.int32(first), out=vertex[:, reads])
            after = dtype.type(w) * (dtype.type(1) if after is None else after)
            xp.multiply(lattice.weight.reshape(points, -1), after, out=weight[:, reads])
            xp.add(lattice.start[1:], np.int32(points * read), out=self.start[first + 1 : rows.stop + 1])
            self.entry[entries] = lattice.entry
            before = dtype.type(1) if before is None else before[:, 0][lattice.entry]
            xp.multiply(lattice.entry_weight, before, out=self.entry_weight[entries])
            beside = lattice.neighbours + np.int32(first)
            beside[lattice.neighbours == lattice.vertices] = M
            self.neighbours[: lattice.axes, rows] = beside
            first, read = rows.stop, reads.stop
        self.vertex, self.weight = vertex.reshape(-1), weight.reshape(-1)

    def softmax(self, scores):
        from ..ops import softmax
        from ..tensor import Tensor

        return softmax(Tensor(scores, self.device)).data

    def update(self, q, scores):
        K = q.shape[1]
        values = splat_and_blur(self, q)
        new = self.device.empty(q.shape, self.dtype)
        self.device.launch(mean_field, new, scores, values, self.vertex, self.weight, self.points, self.reads, K)
        return new


@kernel
def mean_field(q, scores, values, vertex, weight, N, J, K):
    """q[n] = softmax(scores[n] + sum_j weight[n J + j] values[vertex[n J + j]]). Parallel over points.

    K is a multiple of 4: maxima and sums run in four lanes side by side, so that none waits for the one before.
    """
    for i in prange((N + RUN - 1) // RUN):
        begin, end = i * RUN, min(i * RUN + RUN, N)
        for n in range(begin, end):
            weighted_rows(q, scores, n, values, vertex, weight, n * J, n * J + J, K, True)
            a, b, c, d = q[n, 0], q[n, 1], q[n, 2], q[n, 3]
            for k in range(4, K, 4):
                a, b, c, d = max(a, q[n, k]), max(b, q[n, k + 1]), max(c, q[n, k + 2]), max(d, q[n, k + 3])
            top = max(max(a, b), max(c, d))
            for k in range(K):
                q[n, k] -= top
        together = q[begin:end].reshape((end - begin) * K)
        for j in range(len(together)):
            together[j] = exp(together[j])
        for n in range(begin, end):
            share = q.dtype.type(1) / row_sum(q, n, K)
            for k in range(K):
                q[n, k] *= share
