"""A model against a data set: one confusion matrix over the whole set, or COCO's AP; and some pictures to look at."""

import math

import numpy as np

from . import metrics
from .data.coco import annotations_of
from .data.objects import objects_of
from .detect import detect
from .predict import predict
from .report import Progress
from .structured import dense_crf


def evaluate(
    model, dataset, progress: Progress, view: dict | None = None, boundary=False, pictures=4, crf: dict | None = None
) -> dict:
    """Predict every image of a data set and compare. The set's images may be resized already, as the model wants them.

    view: tile, overlap, flip and scales, as `predict` takes them. boundary: also the boundary F-score (slower).
    crf: settings of a `structured.dense_crf` that refines each prediction.
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
        if crf is not None:
            p = dense_crf(sample.image, p, **crf, device=next(iter(model.parameters())).device)
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


def evaluate_objects(
    model, dataset, progress: Progress, score: float = 0.0, pictures=4, panoptic: bool = False
) -> dict:
    """Find the objects of every image of a data set; COCO's AP of masks and of boxes, and class by class.

    score: detections below it do not count. panoptic: also the panoptic quality of what scores 0.5 and above. The
    objects of the data set are those of `data.objects_of`; annotations of a `data.Coco` at its own scale are taken as
    they are, so that the numbers are those of its reference evaluator.
    """
    truth, results, shown, quality = coco_truth(dataset), [], [], metrics.PanopticQuality(dataset.num_classes)
    show = {len(dataset) * i // pictures for i in range(pictures)}
    images = truth["images"]
    resized = getattr(dataset, "scale", None) or 1.0  # the images are what the model wants already
    for i in range(len(dataset)):
        sample = dataset[i]
        found = detect(model, sample.image, score, scale=1 / resized)
        results += coco_results(found, images[i]["id"], truth["category_ids"])
        if i in show:
            shown.append((sample.image, objects_of(sample), found))
        if panoptic:
            known, sure = objects_of(sample), found.take(found.scores >= 0.5)
            both = (sure.instances(), classes_of(sure), known.instances(), classes_of(known))
            quality.update(*both, crowd=(np.flatnonzero(known.crowd) + 1).tolist())
        if truth["from_samples"]:
            height, width = sample.image.shape[:2]
            images[i] |= {"height": height, "width": width}
            truth["annotations"] += annotations_of(objects_of(sample), images[i]["id"], len(truth["annotations"]) + 1)
        progress.show(f"validating {i + 1}/{len(dataset)}")
    return {
        "mask": metrics.coco_ap(truth, results, "segm"),
        "box": metrics.coco_ap(truth, results, "bbox"),
        "classes": metrics.coco_table(truth, results, "segm"),
        "category_ids": truth["category_ids"],
        "results": results,
        "panoptic": quality,
        "samples": shown,
    }


def classes_of(objects) -> dict[int, int]:
    """The class of each number in objects.instances()."""
    return {k + 1: int(label) for k, label in enumerate(objects.labels)}


def coco_truth(dataset) -> dict:
    """What is known before the images are read: a COCO data set, whole, or without its annotations and sizes."""
    if hasattr(dataset, "truth") and dataset.scale in (None, 1):
        return dataset.truth | {"category_ids": dataset.category_ids, "from_samples": False}
    ids = tuple(range(dataset.num_classes))
    return {
        "images": [{"id": i + 1} for i in range(len(dataset))],
        "annotations": [],
        "categories": [{"id": k, "name": dataset.class_names[k]} for k in ids[1:]],
        "category_ids": ids,
        "from_samples": True,
    }


def coco_results(found, image_id, category_ids) -> list[dict]:
    """The detections of an image as COCO results: boxes x y width height, masks as compressed run lengths."""
    return [
        {
            "image_id": image_id,
            "category_id": int(category_ids[found.labels[k]]),
            "score": float(found.scores[k]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "segmentation": found.rle(k),
        }
        for k, (x1, y1, x2, y2) in enumerate(found.boxes.tolist())
    ]
