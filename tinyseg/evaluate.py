"""A model against a data set: one confusion matrix over the whole set, the loss, and some pictures to look at."""

import math

import numpy as np

from . import metrics
from .predict import predict
from .report import Progress


def evaluate(model, dataset, progress: Progress, view: dict | None = None, boundary=False, pictures=4) -> dict:
    """Predict every image of a data set and compare. The set's images may be resized already, as the model wants them.

    view: tile, overlap, flip and scales, as `predict` takes them. boundary: also the boundary F-score (slower).
    """
    classes = len(model.info.class_names)
    confusion, nll, pixels, scores, shown = metrics.ConfusionMatrix(classes), 0.0, 0, [], []
    show = {len(dataset) * i // pictures for i in range(pictures)}
    resized = getattr(dataset, "scale", None) or 1.0
    view = view or {"tile": None, "overlap": 1 / 3, "flip": False, "scales": (1,)}
    scales = [s / resized for s in view["scales"]]
    for i in range(len(dataset)):
        sample = dataset[i]
        p = predict(model, sample.image, view["tile"], view["overlap"], view["flip"], scales, probabilities=True)
        found, known = p.argmax(-1).astype(np.int32), sample.mask != 255
        confusion.update(found, sample.mask)
        right = np.take_along_axis(p, np.where(known, sample.mask, 0)[:, :, None], axis=2)[:, :, 0][known]
        nll, pixels = nll - float(np.log(np.maximum(right, 1e-12)).sum(dtype=np.float64)), pixels + right.size
        if boundary:
            scores.append(metrics.boundary_f_score(found, sample.mask, classes))
        if i in show:
            shown.append((sample.image, sample.mask, found))
        progress.show(f"validating {i + 1}/{len(dataset)}")
    return {
        "iou": confusion.iou(),
        "mean_iou": confusion.mean_iou(),
        "pixel_accuracy": confusion.pixel_accuracy(),
        "mean_accuracy": confusion.mean_accuracy(),
        "fw_iou": confusion.frequency_weighted_iou(),
        "share": confusion.frequency(),
        "found": confusion.matrix.sum(axis=0) / max(1, confusion.matrix.sum()),
        "boundary_f": mean_of_present(scores),
        "loss": nll / max(1, pixels),
        "samples": shown,
    }


def mean_of_present(scores: list[np.ndarray]) -> float:
    """The mean over images of the mean over classes, of those that are there."""
    means = [float(np.mean(s[np.isfinite(s)])) for s in scores if np.isfinite(s).any()]
    return float(np.mean(means)) if means else math.nan
