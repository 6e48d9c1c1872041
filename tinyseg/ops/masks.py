"""Masks of objects between their two forms: the small square that a network predicts, and pixels of the image.

`paste_masks` brings M x M probabilities into the image, bilinearly, as torchvision does: the square gets a border of
zeros, its box grows by (M+2)/M about its centre and is rounded to whole pixels x1..x2, and pixel v looks at

    (v - x1 + 1/2) (M+2) / (x2 - x1 + 1) - 1/2        of the bordered square.

`crop_masks` is the way back, for targets: RoIAlign of a mask over a box, adaptive points, not aligned. The masks are
given as the pixels inside their boxes, one behind the other, so that hundreds of objects in a large image fit.
Letters: r box, m object, (h,w) pixel of the image, (p,q) bin.
"""

import numpy as np
from numba import prange

from ..device import get_device
from ..kernel import kernel
from ..tensor import Tensor
from .checks import pair
from .roi_align import bins, check_boxes, neighbours


def paste_masks(masks, boxes, size) -> Tensor:
    """Each mask resized into its box in an image of zeros of size (H,W). Probabilities: threshold them at 0.5.

    The memory of the result is R H W floats: with many objects, or in large images, paste one after the other.
    Boxes may reach over the border. Mask R-CNN's inference (He et al. 2017, section 3.1), by torchvision's rules.

    Shapes: masks (R,M,M) float, boxes (R,4) as x1 y1 x2 y2, size (H,W) -> (R,H,W).
    Raises ValueError: shapes that do not fit, boxes that are not finite.

    Example:
        inside = ts.ops.paste_masks(probabilities[:1], boxes[:1], (480, 640)).numpy()[0] >= 0.5
    """
    device = masks.device if isinstance(masks, Tensor) else get_device("cpu")
    boxes, (H, W) = check_boxes("paste_masks", boxes), pair("paste_masks", "size", size, 1)
    shape = np.shape(masks) if not isinstance(masks, Tensor) else masks.shape
    if len(shape) != 3 or shape[0] != len(boxes) or shape[1] != shape[2] or not shape[1]:
        raise ValueError(f"paste_masks: masks {shape}, boxes {boxes.shape}: expected (R,M,M) and (R,4)")
    values = masks.data if isinstance(masks, Tensor) else device.array(masks, np.float32)
    R, M = shape[:2]
    y = device.empty((R, H, W), values.dtype)
    if R:
        where = device.array(pasted_boxes(boxes, M))
        device.launch(paste, y, device.xp.ascontiguousarray(values), where, R, M, H, W)
    return Tensor(y, device)


def pasted_boxes(boxes: np.ndarray, M: int) -> np.ndarray:
    """The whole pixels that masks of M x M with a border are pasted to: x1, y1, x2, y2 inclusive, (R,4) int32."""
    grow = boxes.dtype.type((M + 2) / M)
    half, centre = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * grow, (boxes[:, 2:] + boxes[:, :2]) * 0.5
    return np.clip(np.concatenate([centre - half, centre + half], axis=1), -(2**30), 2**30).astype(np.int32)


def crop_masks(bits, places, which, boxes, size, output_size, device="cpu") -> Tensor:
    """The share of each bin of a box that an object covers: the mask targets of Mask R-CNN.

    Shapes: bits: the masks, each (rows, columns) uint8 of 0 and 1, of objects at places (m,4) = top, left, rows,
    columns in an image of size (H,W); which (R,) the object of each box; boxes (R,4) -> (R,P,Q) float32 in [0, 1].
    Raises ValueError: shapes that do not fit, an object that is not there.

    Example:
        target = ts.ops.crop_masks([mask], [[0, 0, *mask.shape]], [0], boxes, mask.shape, 28)
    """
    boxes, (H, W) = check_boxes("crop_masks", boxes), pair("crop_masks", "size", size, 1)
    P, Q = pair("crop_masks", "output_size", output_size, 1)
    places, which = np.asarray(places, np.int32).reshape(-1, 4), np.asarray(which, np.int32)
    if len(bits) != len(places) or any(np.shape(b) != tuple(p[2:]) for b, p in zip(bits, places)):
        raise ValueError(f"crop_masks: {len(bits)} masks for {len(places)} places, expected one each, of that size")
    if which.shape != (len(boxes),) or (which.size and not 0 <= which.min() <= which.max() < len(bits)):
        raise ValueError(f"crop_masks: which {which.shape} for {len(boxes)} boxes, expected 0..{len(bits) - 1} each")
    device = get_device(device)
    y = device.empty((len(boxes), P, Q), np.float32)
    if not len(boxes):
        return Tensor(y, device)
    sizes = [int(p[2]) * int(p[3]) for p in places]
    starts = np.cumsum([0, *sizes[:-1]]).astype(np.int64)
    flat = np.concatenate([*(np.ascontiguousarray(b, np.uint8).reshape(-1) for b in bits), np.zeros(1, np.uint8)])
    start, step, points = bins(boxes.astype(np.float32), np.float32(1), (P, Q), NotAligned)
    tables = [device.array(t) for t in (flat, starts, places, which, start, step, points)]
    device.launch(crop, y, *tables, len(boxes), H, W, P, Q)
    return Tensor(y, device)


class NotAligned:
    """torchvision's RoIAlign of mask targets."""

    aligned, sampling_ratio = False, 0


@kernel
def paste(y, masks, where, R, M, H, W):
    """y[r,h,w]: the bordered mask at the pixel, 0 outside of its box. Parallel over rows of pixels (r, h)."""
    one = y.dtype.type(1)
    for row in prange(R * H):
        r, h = row // H, row % H
        for w in range(W):
            y[r, h, w] = 0
        x1, y1, x2, y2 = where[r, 0], where[r, 1], where[r, 2], where[r, 3]
        if h < y1 or h > y2:
            continue
        rows, columns = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        u = max((h - y1 + 0.5) * ((M + 2) / rows) - 0.5, 0.0)
        i0 = min(int(u), M + 1)
        i1 = min(i0 + 1, M + 1)
        down = y.dtype.type(u - i0)
        for w in range(max(x1, 0), min(x2 + 1, W)):
            v = max((w - x1 + 0.5) * ((M + 2) / columns) - 0.5, 0.0)
            j0 = min(int(v), M + 1)
            j1 = min(j0 + 1, M + 1)
            right = y.dtype.type(v - j0)
            total = y.dtype.type(0)  # the border, index 0 and M + 1, is zero
            if 1 <= i0 <= M and 1 <= j0 <= M:
                total += (one - down) * (one - right) * masks[r, i0 - 1, j0 - 1]
            if 1 <= i0 <= M and 1 <= j1 <= M:
                total += (one - down) * right * masks[r, i0 - 1, j1 - 1]
            if 1 <= i1 <= M and 1 <= j0 <= M:
                total += down * (one - right) * masks[r, i1 - 1, j0 - 1]
            if 1 <= i1 <= M and 1 <= j1 <= M:
                total += down * right * masks[r, i1 - 1, j1 - 1]
            y[r, h, w] = total


@kernel
def crop(y, bits, starts, places, which, start, step, points, R, H, W, P, Q):
    """y[r,p,q]: the mean of the points of a bin in a mask that is 0 outside its place. Parallel over boxes."""
    one = y.dtype.type(1)
    for r in prange(R):
        m = which[r]
        top, left, rows, columns = places[m, 0], places[m, 1], places[m, 2], places[m, 3]
        S, T = points[r, 0], points[r, 1]
        for p in range(P):
            for q in range(Q):
                total = y.dtype.type(0)
                for s in range(S):
                    h0, h1, dh = neighbours(start[r, 0] + (p + (s + 0.5) / S) * step[r, 0], H)
                    if h0 < 0:
                        continue
                    for t in range(T):
                        w0, w1, dw = neighbours(start[r, 1] + (q + (t + 0.5) / T) * step[r, 1], W)
                        if w0 < 0:
                            continue
                        lower, right = y.dtype.type(dh), y.dtype.type(dw)
                        for k in range(4):
                            i, j = (h1 if k > 1 else h0) - top, (w1 if k % 2 else w0) - left
                            if 0 <= i < rows and 0 <= j < columns and bits[starts[m] + i * columns + j] != 0:
                                total += (lower if k > 1 else one - lower) * (right if k % 2 else one - right)
                y[r, p, q] = total / y.dtype.type(max(S * T, 1))
