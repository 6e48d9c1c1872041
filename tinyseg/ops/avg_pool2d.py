"""Average pooling with a fixed window, or with windows that divide the image into a given number of bins.

    y[n,p,q,c] = 1 / (count_h[p] count_w[q])  sum_{h in [h0[p], h1[p])} sum_{w in [w0[q], w1[q])} x[n,h,w,c]

Both pools are this one equation; they differ in the boxes. A box is a product of two intervals, so a few small integer
tables, one entry for each row and each column, describe the pool and its gradient whole.
Letters: n image, c channel, (h,w) input pixel, (p,q) output pixel.
"""

import numpy as np
from numba import prange

from ..kernel import kernel
from ..tensor import Function, Tensor
from .checks import image, pair, pooled_size


def avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True) -> Tensor:
    """The mean of each window, zeros in the padding.

    `stride` is `kernel_size` unless given. The divisor counts padded pixels unless count_include_pad is False; what a
    window of ceil_mode has beyond the padding never counts.

    Shapes: x (N,H,W,C) float -> (N,P,Q,C).
    Raises ValueError: not (N,H,W,C); padding of more than half a window; no window fits.

    Example:
        y = ts.ops.avg_pool2d(x, 2)
    """
    return AvgPool2d(kernel_size, stride, padding, ceil_mode, count_include_pad)(x)


def adaptive_avg_pool2d(x, output_size) -> Tensor:
    """The mean of each of P x Q bins; bin p covers rows floor(p H / P) to ceil((p + 1) H / P), and may overlap others.

    adaptive_avg_pool2d(x, 1) is the mean over the image. PSPNet (Zhao et al. 2017, section 3.2) pools to 1, 2, 3, 6.

    Shapes: x (N,H,W,C) float, output_size P or (P,Q) -> (N,P,Q,C).
    Raises ValueError: not (N,H,W,C); an image without pixels.

    Example:
        y = ts.ops.adaptive_avg_pool2d(x, 6)
    """
    return AdaptiveAvgPool2d(output_size)(x)


class BoxMean(Function):
    """y[n,p,q,c] = mean of x[n, h0[p]:h1[p], w0[q]:w1[q], c], divided by count_h[p] count_w[q]"""

    op: str
    takes_half = "alone"

    def boxes(self, axis: int, size: int):
        """(starts, stops, counts) of the intervals along one axis; starts and stops must not decrease."""
        raise NotImplementedError

    def forward(self, x):
        x = image(self.op, self.device, x)
        N, H, W, C = self.x_shape = x.shape
        if not H * W:
            raise ValueError(f"{self.op}: x {x.shape} has no pixels")
        rows, columns = self.boxes(0, H), self.boxes(1, W)
        P, Q = len(rows[0]), len(columns[0])
        self.tables = [self.device.array(t) for t in _touching(*rows, H) + _touching(*columns, W)]
        y = self.device.empty((N, P, Q, C), x.dtype)
        tables = [self.device.array(t, np.int32) for t in (*rows, *columns)]
        self.device.launch(box_mean, y, x, *tables, N, H, W, C, P, Q)
        return y

    def backward(self, dy):
        dy = self.device.xp.ascontiguousarray(dy)
        dx = self.device.empty(self.x_shape, dy.dtype)
        self.device.launch(box_mean_backward, dx, dy, *self.tables, *self.x_shape, *dy.shape[1:3])
        return dx


class AvgPool2d(BoxMean):
    """BoxMean of equal windows, `stride` apart"""

    op = "avg_pool2d"

    def __init__(self, kernel_size, stride, padding, ceil_mode, count_include_pad):
        self.window = pair(self.op, "kernel_size", kernel_size, 1)
        self.stride = self.window if stride is None else pair(self.op, "stride", stride, 1)
        self.padding = pair(self.op, "padding", padding, 0)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def boxes(self, axis, size):
        window, stride, padding = self.window[axis], self.stride[axis], self.padding[axis]
        start = np.arange(pooled_size(self.op, size, window, stride, padding, 1, self.ceil_mode)) * stride - padding
        stop = np.minimum(start + window, size + padding)
        inside = np.maximum(start, 0), np.minimum(stop, size)
        return *inside, stop - start if self.count_include_pad else inside[1] - inside[0]


class AdaptiveAvgPool2d(BoxMean):
    """BoxMean of bins that cover the image evenly"""

    op = "adaptive_avg_pool2d"

    def __init__(self, output_size):
        self.output_size = pair(self.op, "output_size", output_size, 1)

    def boxes(self, axis, size):
        count = self.output_size[axis]
        bins = np.arange(count)
        start, stop = bins * size // count, -(-(bins + 1) * size // count)
        return start, stop, stop - start


def _touching(start, stop, count, size):
    """For each input position: the first box that holds it and the one behind the last; and the boxes' divisors."""
    position = np.arange(size)
    first = np.searchsorted(stop, position, side="right")
    behind = np.searchsorted(start, position, side="right")
    return [first.astype(np.int32), behind.astype(np.int32), count.astype(np.int32)]


@kernel
def box_mean(y, x, h0, h1, count_h, w0, w1, count_w, N, H, W, C, P, Q):
    """y[n,p,q,c]: the mean of a box of x. Parallel over output rows and blocks of 256 channels (n, p, block)."""
    blocks = (C + 255) // 256
    for task in prange(N * P * blocks):
        n, p, first = task // blocks // P, task // blocks % P, task % blocks * 256
        last = min(first + 256, C)
        for q in range(Q):
            box = y[n, p, q, first:last]
            for c in range(len(box)):
                box[c] = 0
            for h in range(h0[p], h1[p]):
                for w in range(w0[q], w1[q]):
                    pixel = x[n, h, w, first:last]
                    for c in range(len(box)):
                        box[c] += pixel[c]
            share = y.dtype.type(1.0 / (count_h[p] * count_w[q]))
            for c in range(len(box)):
                box[c] *= share


@kernel
def box_mean_backward(dx, dy, p_first, p_behind, count_h, q_first, q_behind, count_w, N, H, W, C, P, Q):
    """dx[n,h,w,c]: dy of every box that holds the pixel, each by its share. Parallel over input rows (n, h)."""
    for row in prange(N * H):
        n, h = row // H, row % H
        for w in range(W):
            for c in range(C):
                dx[n, h, w, c] = 0
            for p in range(p_first[h], p_behind[h]):
                for q in range(q_first[w], q_behind[w]):
                    share = dx.dtype.type(1.0 / (count_h[p] * count_w[q]))
                    for c in range(C):
                        dx[n, h, w, c] += share * dy[n, p, q, c]
