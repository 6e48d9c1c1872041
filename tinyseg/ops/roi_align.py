"""RoIAlign: the features inside a box, resampled to a small grid without rounding. He et al. 2017, section 3.

A box is cut into P x Q bins, a bin is sampled at S x T regular points, and each point reads the map bilinearly:

    y[r,p,q,c] = 1/(S T) sum_{s,t} sum_{h,w} hat(u - h) hat(v - w) x[n,h,w,c],      hat(d) = max(0, 1 - |d|)
    u = y0 + (p + (s+1/2)/S) bin_h,    v = x0 + (q + (t+1/2)/T) bin_w

Points more than one pixel outside the map give 0, others outside are moved to its edge (torchvision's rule). The
gradient gathers: each row of dx asks the boxes of its image which of their points touch it, so runs repeat to the bit.
Letters: r box, n image, c channel, (h,w) pixel of the map, (p,q) bin, (s,t) point of a bin.
"""

import numpy as np
from numba import prange

from ..kernel import device_function, kernel
from ..tensor import Function, Tensor
from .checks import image, pair


def roi_align(x, boxes, batch_index, output_size, spatial_scale=1.0, sampling_ratio=0, aligned=False) -> Tensor:
    """The features of each box, averaged over a grid of output_size bins.

    spatial_scale: pixels of the map for one of the box, 1/16 on a map of stride 16. sampling_ratio: points a bin and
    axis; 0 or less takes ceil(bin size). aligned: shift by half a pixel, which is right; without it (torchvision's
    Mask R-CNN) boxes smaller than one pixel of the map count as one. He et al. 2017; no gradient for the boxes.

    Shapes: x (N,H,W,C) float, boxes (R,4) as x1 y1 x2 y2, batch_index (R,) in 0..N-1 -> (R,P,Q,C).
    Raises ValueError: shapes that do not fit, boxes that are not finite, a batch_index that is no image.

    Example:
        y = ts.ops.roi_align(x, [[0, 0, 64, 32]], [0], 7, spatial_scale=1 / 16, sampling_ratio=2)
    """
    levels = np.zeros(len(np.asarray(boxes)), np.int32)
    return RoIAlign(boxes, batch_index, levels, output_size, (spatial_scale,), sampling_ratio, aligned)(x)


def multiscale_roi_align(
    maps, boxes, batch_index, levels, output_size, spatial_scales, sampling_ratio=0, aligned=False
) -> Tensor:
    """`roi_align` of box r in maps[levels[r]], whose scale is spatial_scales[levels[r]]. Lin et al. 2017 (FPN).

    Shapes: maps (N,H_l,W_l,C) each, levels (R,) in 0..len(maps)-1, others as `roi_align` -> (R,P,Q,C).
    Raises ValueError: as `roi_align`; a level that is no map; maps of different images or channels.

    Example:
        y = ts.ops.multiscale_roi_align((p2, p3), boxes, batch_index, [0, 1], 7, (1 / 4, 1 / 8), 2)
    """
    return RoIAlign(boxes, batch_index, levels, output_size, tuple(spatial_scales), sampling_ratio, aligned)(*maps)


class RoIAlign(Function):
    """y[r] = the bins of box r in x_level(r)"""

    def __init__(self, boxes, batch_index, levels, output_size, scales, sampling_ratio, aligned):
        self.boxes, self.images = check_boxes("roi_align", boxes), np.asarray(batch_index)
        self.levels, self.size = np.asarray(levels), pair("roi_align", "output_size", output_size, 1)
        self.scales, self.sampling_ratio, self.aligned = scales, int(sampling_ratio), aligned
        for name, given in (("batch_index", self.images), ("levels", self.levels)):
            if given.shape != self.boxes.shape[:1] or (given.size and given.dtype.kind not in "iu"):
                raise ValueError(
                    f"roi_align: {name} is {given.dtype} of shape {given.shape}, expected integers ({len(self.boxes)},)"
                )
        if not all(scale > 0 for scale in scales):
            raise ValueError(f"roi_align: spatial_scale is {scales}, expected numbers above 0")

    def forward(self, *maps):
        maps = [image("roi_align", self.device, x) for x in maps]
        if len(maps) != len(self.scales) or len({(x.shape[0], x.shape[3], x.dtype) for x in maps}) != 1:
            raise ValueError(
                f"roi_align: maps {[x.shape for x in maps]}, {len(self.scales)} scales: expected a scale for each map, "
                "and equal images, channels and dtypes"
            )
        (N, _, _, C), dtype, (P, Q) = maps[0].shape, maps[0].dtype, self.size
        for name, given, most in (("batch_index", self.images, N), ("levels", self.levels, len(maps))):
            if given.size and not 0 <= given.min() <= given.max() < most:
                raise ValueError(f"roi_align: {name} from {given.min()} to {given.max()}, expected 0 to {most - 1}")
        y = self.device.empty((len(self.boxes), P, Q, C), dtype)
        self.shapes, self.tables = [x.shape for x in maps], []
        for level, (x, scale) in enumerate(zip(maps, self.scales)):
            H, W = x.shape[1:3]
            if not H * W:
                raise ValueError(f"roi_align: x {x.shape} has no pixels")
            which = np.flatnonzero(self.levels == level)
            which = which[np.argsort(self.images[which], kind="stable")].astype(np.int32)
            first = np.searchsorted(self.images[which], np.arange(N + 1)).astype(np.int32)
            start, step, points = bins(self.boxes.astype(dtype), dtype.type(scale), self.size, self)
            tables = [self.device.array(t) for t in (start, step, points, which, first)]
            self.tables.append(tables)
            if len(which):
                self.device.launch(roi_align_forward, y, x, *tables, len(which), N, H, W, C, P, Q)
        return y

    def backward(self, dy):
        gradients = []
        for shape, tables, need in zip(self.shapes, self.tables, self.needs):
            dx = self.device.empty(shape, dy.dtype) if need else None
            if need:
                self.device.launch(roi_align_backward, dx, dy, *tables, *shape, *self.size)
            gradients.append(dx)
        return tuple(gradients)


def check_boxes(op: str, boxes) -> np.ndarray:
    """Boxes as a host array (R,4). Raises ValueError for another shape and for values that are not finite."""
    boxes = np.asarray(boxes)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "fiu":
        raise ValueError(f"{op}: boxes are {boxes.dtype} of shape {boxes.shape}, expected numbers (R,4): x1 y1 x2 y2")
    boxes = boxes if boxes.dtype in (np.float32, np.float64) else boxes.astype(np.float32)
    if not np.isfinite(boxes).all():
        bad = int(np.flatnonzero(~np.isfinite(boxes).all(1))[0])
        raise ValueError(f"{op}: box {bad} is {boxes[bad].tolist()}, expected finite numbers")
    return boxes


def bins(boxes, scale, size, how):
    """Where the bins of each box lie: start (R,2) and step (R,2) in pixels of the map, (y, x), and points a bin."""
    boxes = boxes * scale - boxes.dtype.type(0.5 if how.aligned else 0)
    start, end = boxes[:, [1, 0]], boxes[:, [3, 2]]
    extent = end - start if how.aligned else np.maximum(end - start, boxes.dtype.type(1))
    step = extent / np.array(size, boxes.dtype)
    points = np.full(start.shape, how.sampling_ratio, np.int32)
    if how.sampling_ratio <= 0:
        points = np.maximum(np.ceil(step), 0).astype(np.int32)
    return np.ascontiguousarray(start), step, points


@device_function
def neighbours(at, n):
    """The pixels low and low + 1 of n that a position lies between, and the weight of the second; -1: it is outside."""
    if at < -1 or at > n:
        return -1, -1, 0.0
    at = max(at, 0.0)
    low = int(at)
    if low >= n - 1:
        return n - 1, n - 1, 0.0
    return low, low + 1, at - low


@kernel
def roi_align_forward(y, x, start, step, points, which, first, M, N, H, W, C, P, Q):
    """y[r,p,q,c]: the mean of the points of a bin. Parallel over the rows of bins of the boxes in `which` (r, p)."""
    one = x.dtype.type(1)
    for task in prange(M * P):
        m, p = task // P, task % P
        r, n = which[m], 0
        while first[n + 1] <= m:
            n += 1
        S, T = points[r, 0], points[r, 1]
        share = one / x.dtype.type(max(S * T, 1))
        for q in range(Q):
            for c in range(C):
                y[r, p, q, c] = 0
            for s in range(S):
                h0, h1, dh = neighbours(start[r, 0] + (p + (s + 0.5) / S) * step[r, 0], H)
                if h0 < 0:
                    continue
                for t in range(T):
                    w0, w1, dw = neighbours(start[r, 1] + (q + (t + 0.5) / T) * step[r, 1], W)
                    if w0 < 0:
                        continue
                    lower, right = x.dtype.type(dh), x.dtype.type(dw)
                    a, b = share * (one - lower) * (one - right), share * (one - lower) * right
                    d, e = share * lower * (one - right), share * lower * right
                    out, x00, x01, x10, x11 = y[r, p, q], x[n, h0, w0], x[n, h0, w1], x[n, h1, w0], x[n, h1, w1]
                    for c in range(C):
                        out[c] += a * x00[c] + b * x01[c] + d * x10[c] + e * x11[c]


@kernel
def roi_align_backward(dx, dy, start, step, points, which, first, N, H, W, C, P, Q):
    """dx[n,h,w,c]: dy of every point that touches the pixel, by its weight. Parallel over the rows of dx (n, h)."""
    one = dx.dtype.type(1)
    for row in prange(N * H):
        n, h = row // H, row % H
        for w in range(W):
            for c in range(C):
                dx[n, h, w, c] = 0
        for m in range(first[n], first[n + 1]):
            r = which[m]
            top, S, T = start[r, 0], points[r, 0], points[r, 1]
            bottom = top + P * step[r, 0]
            if h < min(top - 1, H - 2.0) or h > max(bottom + 1, 1.0):  # rows that no point of this box can touch
                continue
            share = one / dx.dtype.type(max(S * T, 1))
            for p in range(P):
                weight = dx.dtype.type(0)  # of row h in the row of bins p
                for s in range(S):
                    h0, h1, dh = neighbours(top + (p + (s + 0.5) / S) * step[r, 0], H)
                    if h0 == h:
                        weight += one - dx.dtype.type(dh)
                    if h1 == h and h1 != h0:
                        weight += dx.dtype.type(dh)
                if weight == 0:
                    continue
                weight *= share
                for q in range(Q):
                    for t in range(T):
                        w0, w1, dw = neighbours(start[r, 1] + (q + (t + 0.5) / T) * step[r, 1], W)
                        if w0 < 0:
                            continue
                        right = dx.dtype.type(dw)
                        a, b = weight * (one - right), weight * right
                        g, left, beside = dy[r, p, q], dx[n, h, w0], dx[n, h, w1]
                        for c in range(C):
                            left[c] += a * g[c]
                        if b != 0:
                            for c in range(C):
                                beside[c] += b * g[c]
