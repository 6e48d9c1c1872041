"""The search for settings of `dense_crf` that suit one's own data. The published ones: `crf_presets.py`."""

import itertools
from collections.abc import Sequence

import numpy as np

from ..metrics import ConfusionMatrix
from .dense_crf import dense_crf


def search_crf(
    images: Sequence[np.ndarray],
    probabilities: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    weights: Sequence[float] = (3, 5, 10),
    reaches: Sequence[float] = (0.06, 0.12, 0.2),
    colours: Sequence[float] = (3, 8, 13),
    iterations: int = 10,
    ignore_index: int = 255,
) -> list[tuple[float, dict]]:
    """(mean IoU, settings) of every point of a grid, the best first; the first list's length is their product's.

    As DeepLab did on 100 images, with the Gaussian kernel held at width 3 and weight 3 (width 1 for images under 128
    pixels). reaches: of the bilateral kernel, in parts of the longer side of the first image.
    Shapes: images (H,W,C), probabilities (H,W,K), masks (H,W), as many of each.
    Raises ValueError: none, or not as many of each. Costs one `dense_crf` an image and point.
    """
    if not images or not len(images) == len(probabilities) == len(masks):
        raise ValueError(
            f"search_crf: {len(images)} images, {len(probabilities)} probabilities, {len(masks)} masks; expected as "
            "many of each, and one or more"
        )
    side = max(images[0].shape[:2])
    found = []
    for weight, reach, colour in itertools.product(weights, reaches, colours):
        settings = dict(
            iterations=iterations, gaussian_sxy=3 if side >= 128 else 1, gaussian_weight=3,
            bilateral_sxy=round(reach * side, 1), bilateral_srgb=colour, bilateral_weight=weight,
        )  # fmt: skip
        labels = [dense_crf(image, p, **settings).argmax(-1) for image, p in zip(images, probabilities)]
        found.append((mean_iou(labels, masks, probabilities[0].shape[-1], ignore_index), settings))
    return sorted(found, key=lambda entry: -entry[0])


def mean_iou(labels, masks, classes: int, ignore_index: int = 255) -> float:
    """Of label maps against masks, over all of them; classes that occur in neither are left out."""
    confusion = ConfusionMatrix(classes, ignore_index)
    for found, mask in zip(labels, masks):
        confusion.update(found, mask)
    return confusion.mean_iou()
