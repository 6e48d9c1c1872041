"""Boxes: how much they overlap, and non-maximum suppression.

    IoU(a, b) = |a and b| / (|a| + |b| - |a and b|)

Suppression goes through boxes from the best score to the worst; each that is still there removes all later ones of its
group whose IoU with it is above the threshold. Groups (levels of a pyramid, classes) do not see each other and are
worked on side by side.
"""

import numpy as np
from numba import prange

from ..device import get_device
from ..kernel import device_function, kernel
from ..tensor import Tensor
from .roi_align import check_boxes


def box_iou(a, b) -> Tensor:
    """The IoU of each box of a with each of b; 0 where both are empty.

    Shapes: a (A,4), b (B,4) as x1 y1 x2 y2, float pixels -> (A,B) float.
    Raises ValueError: other shapes, values that are not finite.

    Example:
        iou = ts.ops.box_iou(proposals, truth)
    """
    device = _device_of(a, b)
    a, b = check_boxes("box_iou", a), check_boxes("box_iou", b)
    dtype = np.result_type(a, b)
    iou = device.empty((len(a), len(b)), dtype)
    if iou.size:
        device.launch(box_ious, iou, device.array(a, dtype), device.array(b, dtype), len(a), len(b))
    return Tensor(iou, device)


def nms(boxes, scores, iou_threshold) -> Tensor:
    """Non-maximum suppression: the numbers of the boxes that stay, best score first (of equal ones the first).

    Shapes: boxes (R,4) as x1 y1 x2 y2, scores (R,) -> (kept,) int64.
    Raises ValueError: shapes that do not fit, values that are not finite, a threshold outside [0, 1].

    Example:
        kept = ts.ops.nms(boxes, scores, 0.5).numpy()
    """
    return batched_nms(boxes, scores, np.zeros(len(np.asarray(boxes)), np.int64), iou_threshold)


def batched_nms(boxes, scores, groups, iou_threshold) -> Tensor:
    """`nms` in each group of boxes by itself: of each class, or of each level of a pyramid.

    Shapes: boxes (R,4), scores (R,), groups (R,) integers -> (kept,) int64, best score first over all groups.
    Raises: see `nms`.

    Example:
        kept = ts.ops.batched_nms(boxes, scores, labels, 0.5).numpy()
    """
    device = _device_of(boxes, scores)
    boxes, scores, groups = check_boxes("nms", boxes), np.asarray(scores), np.asarray(groups)
    if scores.shape != boxes.shape[:1] or groups.shape != boxes.shape[:1]:
        raise ValueError(f"nms: boxes {boxes.shape}, scores {scores.shape}, groups {groups.shape}: expected one each")
    if not np.isfinite(scores).all():
        raise ValueError(f"nms: score {int(np.flatnonzero(~np.isfinite(scores))[0])} is not finite")
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"nms: iou_threshold is {iou_threshold}, expected a number in [0, 1]")
    best_first = np.argsort(-scores.astype(np.float64), kind="stable")
    order = best_first[np.argsort(groups[best_first], kind="stable")]
    sorted_groups = groups[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_groups[1:] != sorted_groups[:-1], [True]])[: len(order) + 1])
    if not len(order):
        return Tensor(device.array(np.zeros(0, np.int64)), device)
    starts = np.append(starts[starts < len(order)], len(order)).astype(np.int32)
    keep = device.empty((len(order),), np.uint8)
    threshold = boxes.dtype.type(iou_threshold)
    device.launch(suppress, keep, device.array(boxes[order]), device.array(starts), threshold, len(starts) - 1)
    stays = np.zeros(len(order), bool)
    stays[order] = device.numpy(keep) != 0
    return Tensor(device.array(best_first[stays[best_first]]), device)


def match_boxes(boxes, truth) -> tuple[Tensor, Tensor, Tensor]:
    """For each box the true box that it overlaps most: that IoU, its number, and whether no other box overlaps some
    true box more (ties included; never for an IoU of 0). The table of all IoUs is never made.

    Shapes: boxes (R,4), truth (G,4), G > 0 -> iou (R,) float32, which (R,) int64, best (R,) uint8.
    Raises ValueError: see `box_iou`; no true box.

    Example:
        iou, which, best = ts.ops.match_boxes(anchors, truth)
    """
    device = _device_of(boxes, truth)
    boxes, truth = check_boxes("match_boxes", boxes), check_boxes("match_boxes", truth)
    if not len(truth):
        raise ValueError("match_boxes: truth (0,4), expected at least one box")
    R, G = len(boxes), len(truth)
    iou, most = device.empty((R,), np.float32), device.empty((G,), np.float32)
    which, best = device.empty((R,), np.int64), device.empty((R,), np.uint8)
    a, b = device.array(boxes, np.float32), device.array(truth, np.float32)
    if R:
        device.launch(best_overlaps, iou, which, a, b, R, G)
        device.launch(most_overlaps, most, a, b, R, G)
        device.launch(reach_most, best, a, b, most, R, G)
    return Tensor(iou, device), Tensor(which, device), Tensor(best, device)


def _device_of(*arrays):
    return next((a.device for a in arrays if isinstance(a, Tensor)), None) or get_device("cpu")


@device_function
def overlap(a, b, i, j):
    """IoU of boxes a[i] and b[j]; 0 where there is no area at all."""
    zero = a.dtype.type(0)
    width = max(min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0]), zero)
    height = max(min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1]), zero)
    inter = width * height
    union = (a[i, 2] - a[i, 0]) * (a[i, 3] - a[i, 1]) + (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1]) - inter
    return inter / union if union > zero else zero


@kernel
def box_ious(iou, a, b, A, B):
    """iou[i,j]. Parallel over the boxes of a."""
    for i in prange(A):
        for j in range(B):
            iou[i, j] = overlap(a, b, i, j)


@kernel
def best_overlaps(iou, which, a, b, R, G):
    """iou[i] = max_j IoU(a[i], b[j]), which[i] the first such j. Parallel over the boxes of a."""
    for i in prange(R):
        best, at = overlap(a, b, i, 0), 0
        for j in range(1, G):
            value = overlap(a, b, i, j)
            if value > best:
                best, at = value, j
        iou[i], which[i] = best, at


@kernel
def most_overlaps(most, a, b, R, G):
    """most[j] = max_i IoU(a[i], b[j]). Parallel over the boxes of b."""
    for j in prange(G):
        best = most.dtype.type(0)
        for i in range(R):
            best = max(best, overlap(a, b, i, j))
        most[j] = best


@kernel
def reach_most(best, a, b, most, R, G):
    """best[i] = 1 where IoU(a[i], b[j]) is most[j] for some j, to the last bits. Parallel over the boxes of a."""
    nearly, zero = most.dtype.type(1 - 2e-7), most.dtype.type(0)
    for i in prange(R):
        best[i] = 0
        for j in range(G):
            if most[j] > zero and overlap(a, b, i, j) >= nearly * most[j]:
                best[i] = 1


@kernel
def suppress(keep, boxes, starts, threshold, G):
    """keep[i] = 1 for boxes that stay; group g is starts[g]..starts[g+1], best first. Parallel over groups."""
    for g in prange(G):
        for i in range(starts[g], starts[g + 1]):
            keep[i] = 1
        for i in range(starts[g], starts[g + 1]):
            if keep[i] == 0:
                continue
            for j in range(i + 1, starts[g + 1]):
                if keep[j] != 0 and overlap(boxes, boxes, i, j) > threshold:
                    keep[j] = 0
