"""Losses for images of which a few pixels are labelled: scribbles, points; 255 everywhere else.

S = softmax(logits), one column S_k for each class; W the affinity of pixels that are near in place and in colour,

    W_ij = exp( -|p_i - p_j|^2 / (2 sigma_xy^2) - |I_i - I_j|^2 / (2 sigma_rgb^2) ),      d = W 1.

    partial cross-entropy    mean over the labelled pixels of -log S_y
    dense CRF                sum_k S_k' W (1 - S_k)                       Tang et al., ECCV 2018
    normalised cut           sum_k S_k' W (1 - S_k) / (d' S_k)            Tang et al., CVPR 2018
    kernel cut               the sum of both

The last three look at no label: they are added to the first. W is applied by the permutohedral lattice, and gradients
are those of what the lattice computes. `scribblesup.py` labels all pixels by graph cuts instead.
"""

import numpy as np

from .. import ops
from ..structured import Lattice, bilateral_features, lattice_filter
from ..tensor import Tensor
from .supervised import Ids, Weights

Images = np.ndarray | Tensor


def partial_cross_entropy(logits: Tensor, target: Ids, *, ignore_index: int = 255, weight: Weights = None) -> Tensor:
    """Mean over the labelled pixels of -log softmax(logits)[target]; where none is, 0.

    `cross_entropy` by another name: what is not labelled is `ignore_index`.
    Shapes: logits (N,H,W,K) float, target (N,H,W) int32, weight (K,) -> ().
    Example:
        loss = partial_cross_entropy(logits, scribbles) + 0.1 * dense_crf_loss(logits, images)
    """
    return ops.cross_entropy(logits, target, weight, ignore_index)


def dense_crf_loss(
    logits: Tensor,
    images: Images,
    *,
    sigma_xy: float = 100.0,
    sigma_rgb: float = 15.0,
    pool: int = 1,
    reduction: str = "mean",
) -> Tensor:
    """How much affinity the soft segmentation cuts: sum_k S_k' W (1 - S_k), averaged over images.

    reduction "mean": divided by 1' W 1, so that it lies in [0, 1) and weights near 0.1 do for any size of image. "sum":
    the authors' -sum_k S_k' W S_k (less by a constant), whose gradient is -2 W S and whose weights are near 1e-9.
    pool: S and the images are looked at coarser by this factor (the authors': 2). Tang et al. 2018, eq. 5.

    Shapes: logits (N,H,W,K) float, images (N,H,W,C) uint8 or float in [0, 1], not
        normalised -> (). sigma_rgb counts grey levels of 0..255.
    Raises ValueError: images that do not fit; a sigma that is not positive.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"dense_crf_loss: reduction is {reduction!r}, expected 'mean' or 'sum'")
    total = 0.0
    for s, filtered, degree in _filtered("dense_crf_loss", logits, images, sigma_xy, sigma_rgb, pool):
        kept = ops.sum(s * filtered)
        total = total + (-kept if reduction == "sum" else 1 - kept / float(degree.sum()))
    return total / len(images)


def normalized_cut_loss(
    logits: Tensor, images: Images, *, sigma_xy: float = 100.0, sigma_rgb: float = 15.0, pool: int = 1
) -> Tensor:
    """Each class's cut affinity as a part of all its affinity: sum_k S_k' W (1 - S_k) / (d' S_k), averaged over images.

    In [0, K]. Tang et al., "Normalized cut loss for weakly-supervised CNN segmentation", 2018.
    Shapes and errors: see `dense_crf_loss`.
    """
    total = 0.0
    for s, filtered, degree in _filtered("normalized_cut_loss", logits, images, sigma_xy, sigma_rgb, pool):
        d = Tensor(degree, s.device)
        kept, all_of_it = ops.sum(s * filtered, axis=0), ops.sum(s * d, axis=0)
        total = total + ops.sum(1 - kept / (all_of_it + 1e-12))
    return total / len(images)


def _filtered(loss, logits, images, sigma_xy, sigma_rgb, pool):
    """For each image: S (M,K), W S, and the degree W 1 (M,1), M pixels after pooling."""
    images = np.asarray(images.numpy() if isinstance(images, Tensor) else images)
    if logits.ndim != 4 or images.ndim != 4 or images.shape[:3] != logits.shape[:3]:
        raise ValueError(
            f"{loss}: images are {images.shape} but logits {logits.shape}, expected (N,H,W,C) and (N,H,W,K)"
        )
    if not (sigma_xy > 0 and sigma_rgb > 0 and pool >= 1):
        raise ValueError(f"{loss}: sigma_xy={sigma_xy}, sigma_rgb={sigma_rgb}, pool={pool}; expected > 0, > 0, >= 1")
    probabilities, device = ops.softmax(logits), logits.device
    if pool > 1:
        probabilities = ops.avg_pool2d(probabilities, pool, ceil_mode=True, count_include_pad=False)
        images = images[:, ::pool, ::pool]
    for n, image in enumerate(images):
        lattice = Lattice(bilateral_features(image, sigma_xy / pool, sigma_rgb), logits.dtype, device)
        s = probabilities[n].reshape(-1, logits.shape[-1])
        yield s, lattice_filter(s, lattice), lattice.apply(device.xp.ones((len(s), 1), logits.dtype))
