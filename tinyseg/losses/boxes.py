"""Losses for images of which it is known only in which boxes things of which class lie.

    Bbox-Rect        the inside of a box is its class, what no box covers is background; where boxes overlap, the
                     smaller one lies on top
    Bbox-Seg         a dense CRF finds the thing in its box: the middle of the box is surely thing, what no box covers
                     is surely background, the rest is open
    Bbox-EM-Fixed    y_i = argmax_k f_i(k) + b_k over the background and the classes of the boxes that cover pixel i
    BoxInst          a mask must fill its box in both projections, and neighbours of one colour have one label

The first three: Papandreou, Chen, Murphy & Yuille, ICCV 2015, section 3.4; the last: Tian et al., CVPR 2021.
Boxes are (B,5) for each image: x1, y1, x2, y2 in pixels, class; a pixel belongs to a box if its centre does. Where the
classes have no background (None), all of them have boxes, a pixel is of a class whose boxes cover it, and of pixels
that no box covers nothing is known.
"""

import math
from collections.abc import Sequence

import numpy as np

from .. import ops
from ..data.sample import inside_box
from ..structured import dense_crf, lab_of, label_probabilities
from ..tensor import Tensor
from .supervised import constant

Boxes = Sequence[np.ndarray]
CORE = 0.2  # the part of a box's area, in its middle, that Bbox-Seg takes for the thing


def box_masks(
    boxes: np.ndarray, size: tuple[int, int], background: int | None = 0, core: float = 1.0
) -> np.ndarray:
    """Bbox-Rect's labels: the class inside each box, the smaller of two boxes on top.

    Outside of all boxes: background; without one (None) 255. core: the middle part of each box's area that is filled.
    Shapes: boxes (B,5) -> (H,W) int32.
    """
    mask = np.full(size, 255 if background is None else background, np.int32)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for b in np.argsort(-areas, kind="stable"):
        x1, y1, x2, y2, k = boxes[b]
        x, y, part = (x1 + x2) / 2, (y1 + y2) / 2, math.sqrt(core) / 2
        middle = (x - (x2 - x1) * part, y - (y2 - y1) * part, x + (x2 - x1) * part, y + (y2 - y1) * part)
        mask[inside_box(middle, size)] = int(k)
    return mask


def segment_boxes(
    image: np.ndarray, boxes: np.ndarray, num_classes: int, background: int | None = 0, core: float = CORE,
    confidence: float = 0.99, iterations: int = 10, gaussian_sxy: float = 3.0, gaussian_weight: float = 3.0,
    bilateral_sxy: float = 33.0, bilateral_srgb: float = 4.0, bilateral_weight: float = 41.0,
) -> np.ndarray:  # fmt: skip
    """Bbox-Seg's labels of one image, to train with as with a mask.

    The middle `core` of each box (by area) is its class and what no box covers is background, with `confidence`; the
    rest of a box is its class or background, even odds. The dense CRF decides, with the settings of the authors'
    script. A class never leaves its boxes. Without a background what no box covers is 255.
    Shapes: image (H,W,3) uint8, boxes (B,5) -> (H,W) int32.
    """
    size = image.shape[:2]
    allowed = _allowed(boxes, size, num_classes, background)
    core_of = box_masks(boxes, size, None, core)
    count = allowed.sum(axis=2, keepdims=True)
    sure = (core_of != 255) | (count[..., 0] == 1)
    label = np.where(core_of == 255, allowed.argmax(axis=2), core_of)
    surely = label_probabilities(label, num_classes, confidence)
    open_ = np.where(count, allowed / np.maximum(count, 1), 1 / num_classes)
    p = np.where(sure[..., None], surely, open_)
    q = dense_crf(
        image, p.astype(np.float32), iterations, gaussian_sxy=gaussian_sxy, gaussian_weight=gaussian_weight,
        bilateral_sxy=bilateral_sxy, bilateral_srgb=bilateral_srgb, bilateral_weight=bilateral_weight,
    )  # fmt: skip
    found = np.where(count[..., 0] > 0, np.where(allowed, q, -1).argmax(axis=2), 255)
    return np.where(core_of == 255, found, core_of).astype(np.int32)


def bbox_rect(logits: Tensor, boxes: Boxes, *, background: int | None = 0) -> Tensor:
    """Cross-entropy against `box_masks`.

    Shapes: logits (N,H,W,K) float, boxes: N arrays (B,5) -> ().
    Raises ValueError: another number of arrays, other shapes, a box that is empty or of a class that does not exist.
    Example:
        loss = ts.losses.bbox_rect(model(x), [s.boxes for s in samples])
    """
    boxes = _checked("bbox_rect", logits, boxes)
    masks = [box_masks(b, logits.shape[1:3], background) for b in boxes]
    return ops.cross_entropy(logits, np.stack(masks))


def bbox_em_fixed(
    logits: Tensor,
    boxes: Boxes,
    *,
    background_bias: float = 1.0,
    foreground_bias: float = 2.0,
    background: int | None = 0,
) -> Tensor:
    """Cross-entropy against y_i = argmax_k f_i(k) + b_k, over the background and the classes whose boxes cover pixel i.

    The biases are those of the reference layer. Outside of all boxes y is background, and 255 without one.
    Shapes and errors: see `bbox_rect`.
    """
    boxes = _checked("bbox_em_fixed", logits, boxes)
    K, device = logits.shape[-1], logits.device
    allowed = device.array(np.stack([_allowed(b, logits.shape[1:3], K, background) for b in boxes]))
    bias = np.full(K, foreground_bias)
    if background is not None:
        bias[background] = background_bias
    scores = device.xp.where(allowed, logits.data + device.array(bias.astype(logits.dtype)), -device.xp.inf)
    y = device.xp.where(allowed.any(axis=-1), scores.argmax(axis=-1), 255)
    return ops.cross_entropy(logits, y.astype(np.int32))


def box_projection(masks: Tensor, boxes: np.ndarray) -> Tensor:
    """BoxInst's projection loss: the largest probability in each row and in each column must trace the box, by Dice.

        D(max_x m, max_x b) + D(max_y m, max_y b),   D(a, b) = 1 - 2 sum a b / (sum a^2 + sum b^2)

    averaged over the boxes. Shapes: masks (B,H,W) probabilities, boxes (B,4) or (B,5) -> ().
    """
    if masks.ndim != 3 or len(masks) != len(boxes):
        raise ValueError(f"box_projection: masks are {masks.shape} for {len(boxes)} boxes, expected (B,H,W)")
    if not len(boxes):
        return ops.sum(masks)
    filled = masks.device.array(np.stack([inside_box(b, masks.shape[1:]) for b in boxes]).astype(masks.dtype))
    total = 0.0
    for axis in (1, 2):
        a, b = ops.max(masks, axis=axis), Tensor(filled.max(axis=axis), masks.device)
        total = total + 1 - 2 * ops.sum(a * b, axis=1) / (ops.sum(a * a, axis=1) + ops.sum(b * b, axis=1) + 1e-5)
    return ops.mean(total)


def box_pairwise(
    probabilities: Tensor, images: np.ndarray, inside: np.ndarray, threshold: float = 0.3, dilation: int = 2
) -> Tensor:
    """BoxInst's pairwise loss: -log sum_k p_i(k) p_j(k) over pairs of neighbours of one colour, averaged over pairs.

    Neighbours: the 8 pixels at `dilation`; of one colour: exp(-|LAB_i - LAB_j| / 2) >= threshold; only pairs whose
    first pixel is `inside`. Two channels (p, 1 - p) are the paper's p_i p_j + (1 - p_i)(1 - p_j).
    Shapes: probabilities (N,H,W,K), images (N,H,W,3) uint8 or float in [0, 1], inside (N,H,W) bool -> ().
    """
    lab = np.stack([lab_of(image) for image in images])
    H, W = probabilities.shape[1:3]
    total, pairs = 0.0, 0
    for dy, dx in ((0, dilation), (dilation, dilation), (dilation, 0), (dilation, -dilation)):
        if H <= dy or W <= abs(dx):
            continue
        rows = slice(0, H - dy), slice(dy, H)
        columns = (slice(0, W - dx), slice(dx, W)) if dx >= 0 else (slice(-dx, W), slice(0, W + dx))
        a, b = ((slice(None), rows[i], columns[i]) for i in (0, 1))
        alike = np.exp(-0.5 * np.linalg.norm(lab[a] - lab[b], axis=-1)) >= threshold
        # each pair stands for two: (i, j) where i is inside, and (j, i) where j is
        weight = alike * (inside[a].astype(np.int32) + inside[b])
        same = ops.sum(probabilities[a] * probabilities[b], axis=-1)
        total = total - ops.sum(ops.log(same + 1e-12) * constant(weight, probabilities))
        pairs += int(weight.sum())
    return total / max(pairs, 1) if pairs else ops.sum(probabilities * 0.0)


def boxinst(
    logits: Tensor,
    boxes: Boxes,
    images: np.ndarray,
    *,
    pairwise: float = 1.0,
    threshold: float = 0.3,
    background: int | None = 0,
) -> Tensor:
    """BoxInst for logits of classes: projection + pairwise * pairwise loss + cross-entropy outside of all boxes.

    Each box asks for a mask of its own: the probability of its class within the box and outside of all boxes of that
    class, where it must vanish. What no box covers is background, if there is one. pairwise: raised from 0
    to 1 in the paper over the first 10,000 steps.
    Shapes: images (N,H,W,3) uint8 or float in [0, 1], not normalised; others and errors: see `bbox_rect`.
    """
    boxes, images = _checked("boxinst", logits, boxes), np.asarray(images)
    if images.shape[:3] != logits.shape[:3]:
        raise ValueError(f"boxinst: images are {images.shape} but logits {logits.shape}, expected (N,H,W,3)")
    size, probabilities = logits.shape[1:3], ops.softmax(logits)
    rects = np.stack([box_masks(b, size, background) for b in boxes])
    covered = np.stack([box_masks(b, size, None) != 255 for b in boxes])
    masks, flat = [], [box for b in boxes for box in b]
    for n, b in enumerate(boxes):
        for i, box in enumerate(b):
            own, k = inside_box(box, size), int(box[4])
            others = [inside_box(other, size) for j, other in enumerate(b) if j != i and int(other[4]) == k]
            seen = own | ~np.any([np.zeros(size, bool), *others], axis=0)
            masks.append(probabilities[n, :, :, k] * constant(seen, logits))
    loss = ops.cross_entropy(logits, np.where(covered, 255, rects).astype(np.int32))
    if masks:
        loss = loss + box_projection(ops.stack(masks), np.array(flat))
    if pairwise:
        loss = loss + pairwise * box_pairwise(probabilities, images, covered, threshold)
    return loss


# What they share


def _allowed(boxes, size, num_classes, background):
    """(H,W,K) bool: the background, where there is one, and the classes whose boxes cover a pixel."""
    allowed = np.zeros((*size, num_classes), bool)
    if background is not None:
        allowed[..., background] = True
    for box in boxes:
        allowed[inside_box(box, size), int(box[4])] = True
    return allowed


def _checked(loss, logits, boxes) -> list[np.ndarray]:
    if logits.ndim != 4 or len(boxes) != len(logits):
        raise ValueError(
            f"{loss}: {len(boxes)} arrays of boxes for logits {logits.shape}; expected logits (N,H,W,K) and an array "
            "(B,5) for each image"
        )
    checked = [np.asarray(b, np.float64) for b in boxes]
    for n, b in enumerate(checked):
        if b.ndim != 2 or b.shape[1] != 5:
            raise ValueError(f"{loss}: boxes of image {n} are {b.shape}, expected (B,5): x1, y1, x2, y2, class")
        bad = ~((b[:, 2] > b[:, 0]) & (b[:, 3] > b[:, 1]) & (b[:, 4] >= 0) & (b[:, 4] < logits.shape[-1]))
        if bad.any():
            raise ValueError(
                f"{loss}: box {b[bad][0].tolist()} of image {n}; expected x1 < x2, y1 < y2 and a class from 0 to "
                f"{logits.shape[-1] - 1}; cure: x1, y1, x2, y2 in pixels, not x, y, width, height"
            )
    return checked
