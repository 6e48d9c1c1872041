"""COCO's average precision, of boxes and of masks; the numbers of its reference evaluator. Lin et al. 2014.

Of each class, and for each IoU threshold t = .50, .55, ..., .95: detections, best score first, take the object of their
image that they overlap most and by at least t, if none has taken it. Those that take one are right. With p_k the share
that is right of the k best over all images, and r_k the share of the objects that they found,

    AP_t = mean over r = 0, .01, ..., 1 of  max {p_k : r_k >= r},      AR_t = r at the end;    AP = mean of AP_t

over thresholds and the classes that occur. Crowds, and objects outside of the range of areas, are ignored: they are
taken last, do not count as objects, and what takes them counts neither right nor wrong; a crowd may be taken often,
and IoU with it is intersection / area of the detection.
"""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from .. import rle

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = {"all": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}  # pixels
MOST = (1, 10, 100)  # detections of an image and class that count


def coco_ap(truth, detections, iou_type: str = "segm") -> dict[str, float]:
    """COCO's twelve numbers: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl; nan: nothing to measure.

    truth: a COCO data set (a dict with images, annotations, categories, or the path of its JSON), or its annotations.
    detections: a list of COCO results (or its path), each image_id, category_id, score, and bbox [x, y, width, height]
        or segmentation: polygons, run lengths (as a list or as text), or a mask (H,W).
    iou_type: "segm" or "bbox". The area of a detection is that of what is compared. `coco_table` has it class by class.

    Raises ValueError: an image that the truth does not have, fields that are missing, masks of another size.
    Example: ts.metrics.coco_ap("instances_val2017.json", results)["AP50"]
    """
    precision, recall, _ = _evaluate(truth, detections, iou_type)
    at50, at75 = 0, 5
    result = {"AP": _mean(precision[:, :, :, 0, 2]), "AP50": _mean(precision[at50, :, :, 0, 2])}
    result["AP75"] = _mean(precision[at75, :, :, 0, 2])
    result |= {f"AP{name}": _mean(precision[:, :, :, i, 2]) for i, name in enumerate(AREAS) if i}
    result |= {f"AR{most}": _mean(recall[:, :, 0, m]) for m, most in enumerate(MOST)}
    return result | {f"AR{name}": _mean(recall[:, :, i, 2]) for i, name in enumerate(AREAS) if i}


def coco_table(truth, detections, iou_type: str = "segm") -> dict[int, dict[str, float]]:
    """AP, AP50 and AR100 of each category, by its id; arguments and errors as `coco_ap`."""
    precision, recall, categories = _evaluate(truth, detections, iou_type)
    return {
        category: {
            "AP": _mean(precision[:, :, k, 0, 2]),
            "AP50": _mean(precision[0, :, k, 0, 2]),
            "AR100": _mean(recall[:, k, 0, 2]),
        }
        for k, category in enumerate(categories)
    }


def _evaluate(truth, detections, iou_type):
    """precision (T,R,K,A,M) and recall (T,K,A,M), -1 where there is nothing, and the ids of the K categories."""
    if iou_type not in ("segm", "bbox"):
        raise ValueError(f"coco_ap: iou_type is {iou_type!r}, expected 'segm' or 'bbox'")
    images, categories, objects = _read_truth(truth, iou_type)
    found = _read_detections(detections, images, iou_type)
    precision = -np.ones((len(THRESHOLDS), len(RECALLS), len(categories), len(AREAS), len(MOST)))
    recall = -np.ones((len(THRESHOLDS), len(categories), len(AREAS), len(MOST)))
    for k, category in enumerate(categories):
        pairs = [(objects[image, category], found[image, category]) for image in sorted(images)]
        pairs = [(true, _best(dets)) for true, dets in pairs if true or dets]
        ious = [_ious(true, dets, iou_type) for true, dets in pairs]
        for a, (least, largest) in enumerate(AREAS.values()):
            matched = [_match(t, d, iou, least, largest) for (t, d), iou in zip(pairs, ious)]
            objects_counted = sum(counted for _, _, counted in matched)
            if not objects_counted:
                continue
            for m, most in enumerate(MOST):
                scores = np.concatenate([[d["score"] for d in dets[:most]] for _, dets in pairs])
                order = np.argsort(-scores, kind="mergesort")
                right = np.concatenate([r[:, :most] for r, _, _ in matched], axis=1)[:, order]
                ignored = np.concatenate([i[:, :most] for _, i, _ in matched], axis=1)[:, order]
                for t in range(len(THRESHOLDS)):
                    curve, recall[t, k, a, m] = _curve(right[t], ignored[t], objects_counted)
                    precision[t, :, k, a, m] = curve
    return precision, recall, categories


def _curve(right, ignored, objects):
    """Precision at each of RECALLS, and the last recall."""
    true, false = np.cumsum(right & ~ignored), np.cumsum(~right & ~ignored)
    if not len(true):
        return np.zeros(len(RECALLS)), 0.0
    recall, precision = true / objects, true / (true + false + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, side="left")
    return np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0.0), recall[-1]


def _match(true, dets, ious, least, largest):
    """Which detections take an object, which are ignored, (T,D) each, and how many objects count."""
    ignore = np.array([t["crowd"] or not least <= t["area"] <= largest for t in true], bool)
    order = np.argsort(ignore, kind="mergesort")
    ignore, crowd = ignore[order], np.array([t["crowd"] for t in true], bool)[order]
    counted = int((~ignore).sum())
    ious = ious[:, order]
    outside = np.array([not least <= d["area"] <= largest for d in dets], bool)
    right = np.zeros((len(THRESHOLDS), len(dets)), bool)
    ignored = np.zeros_like(right)
    for t, threshold in enumerate(THRESHOLDS):
        taken = np.zeros(len(true), bool)
        for d in range(len(dets)):
            best, at = min(threshold, 1 - 1e-10), -1
            for g in range(len(true)):
                if taken[g] and not crowd[g]:
                    continue
                if at > -1 and not ignore[at] and ignore[g]:
                    break  # an object that counts is taken before any that is ignored
                if ious[d, g] >= best:
                    best, at = ious[d, g], g
            if at >= 0:
                right[t, d], ignored[t, d], taken[at] = True, ignore[at], True
        ignored[t] |= ~right[t] & outside
    return right, ignored, counted


def _ious(true, dets, iou_type):
    """(D,G); with a crowd, the share of the detection that it covers."""
    ious = np.zeros((len(dets), len(true)))
    for i, d in enumerate(dets):
        for j, t in enumerate(true):
            if iou_type == "segm":
                common = _common_pixels(d, t)
            else:
                (x, y, w, h), (u, v, s, r) = d["bbox"], t["bbox"]
                common = max(0.0, min(x + w, u + s) - max(x, u)) * max(0.0, min(y + h, v + r) - max(y, v))
            union = d["own"] if t["crowd"] else d["own"] + t["own"] - common
            ious[i, j] = common / union if union > 0 else 0.0
    return ious


def _common_pixels(d, t):
    (x, y, w, h), (u, v, s, r) = d["around"], t["around"]
    if min(x + w, u + s) <= max(x, u) or min(y + h, v + r) <= max(y, v):
        return 0
    return rle.intersection(d["counts"], t["counts"])


def _best(dets):
    """At most 100 detections, best score first."""
    order = np.argsort([-d["score"] for d in dets], kind="mergesort")
    return [dets[i] for i in order[: MOST[-1]]]


def _read_truth(truth, iou_type):
    """The ids of the images, those of the categories, and (image, category) -> its objects."""
    truth = _load(truth, "truth")
    whole = truth if isinstance(truth, dict) else {"annotations": truth}
    annotations = whole.get("annotations")
    if not isinstance(annotations, list | tuple):
        raise ValueError("coco_ap: truth has no annotations; expected a COCO data set, or a list of its annotations")
    images = {image["id"]: (image.get("height"), image.get("width")) for image in whole.get("images", ())}
    images = images or {a["image_id"]: (None, None) for a in annotations}
    categories = sorted(c["id"] for c in whole.get("categories", ())) or sorted({a["category_id"] for a in annotations})
    objects = defaultdict(list)
    for i, a in enumerate(annotations):
        where = f"annotation {a.get('id', i)}"
        image, category = _fields(a, where, "image_id", "category_id")
        if image not in images:
            raise ValueError(f"coco_ap: {where} is of image {image!r}, which the truth does not list")
        entry = _measured(a, images[image], iou_type, where)
        area = a.get("area", entry["own"])
        objects[image, category].append(entry | {"crowd": bool(a.get("iscrowd", 0)), "area": area})
    return images, categories, objects


def _read_detections(detections, images, iou_type):
    """(image, category) -> its detections."""
    found = defaultdict(list)
    for i, d in enumerate(_load(detections, "detections")):
        image, category, score = _fields(d, f"detection {i}", "image_id", "category_id", "score")
        if image not in images:
            raise ValueError(
                f"coco_ap: detection {i} is of image {image!r}, which the truth does not have; "
                "cure: results of this set"
            )
        if not np.isfinite(score):
            raise ValueError(f"coco_ap: detection {i} has score {score}, expected a finite number")
        entry = _measured(d, images[image], iou_type, f"detection {i}")
        found[image, category].append(entry | {"score": float(score), "area": entry["own"]})
    return found


def _measured(a, size, iou_type, where):
    """What is compared: the box, or the runs of the mask; `own` is its area."""
    if iou_type == "bbox":
        (box,) = _fields(a, where, "bbox")
        box = np.asarray(box, np.float64)
        if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < 0).any():
            raise ValueError(f"coco_ap: {where} has bbox {box.tolist()}, expected x y width height")
        return {"bbox": box.tolist(), "own": float(box[2] * box[3])}
    (segmentation,) = _fields(a, where, "segmentation")
    counts, height = runs_of(segmentation, size, f"coco_ap: {where}")
    return {"counts": counts, "own": rle.area(counts), "around": rle.box(counts, height)}


def runs_of(segmentation, size, where: str) -> tuple[np.ndarray, int]:
    """The run lengths of a COCO segmentation, and the height of its image; size: (H,W) or (None, None)."""
    if isinstance(segmentation, np.ndarray) and segmentation.ndim == 2:
        own, counts = segmentation.shape, rle.encode(segmentation)
    elif isinstance(segmentation, dict):
        own, counts = tuple(segmentation["size"]), segmentation["counts"]
        counts = rle.from_text(counts) if isinstance(counts, str | bytes) else np.asarray(counts, np.int64)
        if counts.sum() != own[0] * own[1]:
            raise ValueError(f"{where}: its runs cover {counts.sum()} pixels, not {own[0]} x {own[1]}")
    elif None in size:
        raise ValueError(f"{where} is a polygon in an image of unknown size; cure: truth with images")
    else:
        own, counts = size, rle.from_polygons(segmentation, size)
    if None not in size and tuple(own) != tuple(size):
        raise ValueError(f"{where} has a mask of {tuple(own)} (height, width), its image is {tuple(size)}")
    return counts, own[0]


def _load(value, what):
    if isinstance(value, str | Path):
        try:
            return json.loads(Path(value).read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"coco_ap: {what} {value} cannot be read: {error}") from error
    return value


def _fields(entry, where, *names):
    missing = [name for name in names if name not in entry]
    if missing:
        raise ValueError(f"coco_ap: {where} has no {missing[0]!r}; it has {', '.join(map(repr, entry))}")
    return [entry[name] for name in names]


def _mean(values) -> float:
    """The mean of what could be measured; nan where nothing could."""
    values = values[values > -1]
    return float(values.mean()) if values.size else float("nan")
