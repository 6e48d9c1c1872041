"""Max pooling, and its inverse by remembered positions.

    y[n,p,q,c] = max_{r,s} x[n, p*stride + r*dilation - padding, q*stride + s*dilation - padding, c]

Padding counts as minus infinity. Letters: n image, c channel, (h,w) input pixel, (p,q) output pixel, (r,s) tap of the
window. What backward needs is one byte for each output: which tap, r*S + s, held the maximum.
"""

import numpy as np
from numba import prange

from ..kernel import cuda_kernel, kernel
from ..tensor import Function, Tensor
from .checks import image, pair, pooled_size


def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The maximum of each window: y[n,p,q,c] = max_{r,s} x[n, p*stride + r*dilation - padding, ..., c].

    `stride` is `kernel_size` unless given; sizes are one integer or (vertical, horizontal). Of equal values the first
    in reading order receives the gradient; a NaN in a window is its maximum. ceil_mode keeps windows that hang over.
    With return_indices also `at`: where in the image the maximum lies, h * W + w, for `max_unpool2d`.

    Shapes: x (N,H,W,C) float -> y (N,P,Q,C) [and at (N,P,Q,C) int32].
    Raises ValueError: not (N,H,W,C); padding of more than half a window; no window fits; a window all in the padding.

    Example:
        y, at = ts.ops.max_pool2d(x, 2, return_indices=True)
    """
    return MaxPool2d(kernel_size, stride, padding, dilation, ceil_mode, return_indices)(x)


def max_unpool2d(x, at, output_size=None, kernel_size=2, stride=None, padding=0) -> Tensor:
    """Put each value back where `max_pool2d` found it: y[n].flat[at[n,p,q,c], c] = x[n,p,q,c], zero elsewhere.

    `output_size` is (H, W) of the pool's input; without it the smallest size that pools with kernel_size, stride and
    padding to (P, Q). Where windows overlapped a position may come several times: the last value in reading order
    stays, and each receives the gradient of its position, as in PyTorch.
    SegNet (Badrinarayanan et al. 2017, section 3).

    Shapes: x (N,P,Q,C) float, at (N,P,Q,C) int32 in [0, H*W) -> y (N,H,W,C).
    Raises ValueError: x and at of different shapes; a position outside the output.

    Example:
        z = ts.ops.max_unpool2d(y, at, output_size=(360, 480))
    """
    return MaxUnpool2d(at, output_size, kernel_size, stride, padding)(x)


class MaxPool2d(Function):
    """y[n,p,q,c] = max_{r,s} x[n, p*stride + r*dilation - padding, q*stride + s*dilation - padding, c]"""

    takes_half = "alone"

    def __init__(self, kernel_size, stride, padding, dilation, ceil_mode, return_indices):
        op = "max_pool2d"
        self.window = pair(op, "kernel_size", kernel_size, 1)
        self.stride = self.window if stride is None else pair(op, "stride", stride, 1)
        self.padding = pair(op, "padding", padding, 0)
        self.dilation = pair(op, "dilation", dilation, 1)
        self.ceil_mode = ceil_mode
        self.return_indices = return_indices

    def forward(self, x):
        x = image("max_pool2d", self.device, x)
        N, H, W, C = x.shape
        P, Q = (
            pooled_size("max_pool2d", size, *options, self.ceil_mode)
            for size, *options in zip((H, W), self.window, self.stride, self.padding, self.dilation)
        )
        self._check_no_window_is_empty((H, W), (P, Q))
        self.sizes = (N, H, W, C, P, Q, *self.window, *self.stride, *self.padding, *self.dilation)
        self.x_shape = x.shape
        y = self.device.empty((N, P, Q, C), x.dtype)
        self.tap = self.device.empty(y.shape, np.uint8 if self.window[0] * self.window[1] <= 256 else np.int32)
        self.tiles = (self.window, self.stride, self.dilation) == ((2, 2), (2, 2), (1, 1)) and (H, W) == (2 * P, 2 * Q)
        if self.tiles:  # the pool of nearly every network keeps its four values in registers
            self.device.launch(max_pool2x2_forward, y, self.tap, x, N, C, P, Q)
        else:
            self.device.launch(max_pool2d_forward, y, self.tap, x, *self.sizes)
        return (y, self._positions(W)) if self.return_indices else y

    def backward(self, dy, _=None):
        dy = self.device.xp.ascontiguousarray(dy)
        dx = self.device.empty(self.x_shape, dy.dtype)
        if self.tiles:
            N, P, Q, C = dy.shape
            self.device.launch(max_pool2x2_backward, dx, dy, self.tap, N, C, P, Q)
        else:
            self.device.launch(max_pool2d_backward, dx, dy, self.tap, *self.sizes)
        return dx

    def _positions(self, W):
        """h * W + w of each maximum, from its window and its tap."""
        xp, (P, Q) = self.device.xp, self.tap.shape[1:3]
        r, s = xp.divmod(self.tap.astype(np.int32), np.int32(self.window[1]))
        h = xp.arange(P, dtype=np.int32)[:, None, None] * self.stride[0] - self.padding[0] + r * self.dilation[0]
        w = xp.arange(Q, dtype=np.int32)[:, None] * self.stride[1] - self.padding[1] + s * self.dilation[1]
        return (h * W + w).astype(np.int32)

    def _check_no_window_is_empty(self, size, count):
        """Only a dilated window can step over a small image."""
        for axis in range(2):
            if self.dilation[axis] == 1:
                continue
            for p in range(count[axis]):
                start = p * self.stride[axis] - self.padding[axis]
                taps = range(start, start + self.window[axis] * self.dilation[axis], self.dilation[axis])
                if not any(0 <= h < size[axis] for h in taps):
                    raise ValueError(
                        f"max_pool2d: window {p} of axis {axis + 1} takes all its values from the padding "
                        f"(image {size}, kernel_size {self.window}, dilation {self.dilation}); cure: less padding"
                    )


class MaxUnpool2d(Function):
    """y[n, at[n,p,q,c], c] = x[n,p,q,c] over the flat plane of H*W pixels, zero elsewhere"""

    takes_half = "alone"

    def __init__(self, at, output_size, kernel_size, stride, padding):
        op = "max_unpool2d"
        self.at = at
        self.output_size = None if output_size is None else pair(op, "output_size", output_size, 1)
        self.window = pair(op, "kernel_size", kernel_size, 1)
        self.stride = self.window if stride is None else pair(op, "stride", stride, 1)
        self.padding = pair(op, "padding", padding, 0)

    def forward(self, x):
        x = image("max_unpool2d", self.device, x)
        at = self.at.data if isinstance(self.at, Tensor) else self.device.array(self.at)
        if at.shape != x.shape or at.dtype.kind not in "iu":
            raise ValueError(
                f"max_unpool2d: at is {at.dtype} {at.shape}, expected integers of x's shape {x.shape}; "
                "cure: max_pool2d(..., return_indices=True)"
            )
        N, P, Q, C = x.shape
        H, W = self.output_size or (
            (count - 1) * stride - 2 * padding + window
            for count, stride, padding, window in zip((P, Q), self.stride, self.padding, self.window)
        )
        device = self.device
        if at.size:
            device.check(device.xp.stack([at.min(), at.max()]), lambda found: _outside(found, (H, W)))
        self.at = device.xp.ascontiguousarray(at, np.int32)
        self.sizes = (N, H * W, P * Q, C)
        y = device.empty((N, H, W, C), x.dtype)
        flat_y, (flat_x, flat_at) = y.reshape(N, H * W, C), self._flat(x)
        if device.has(unpool_last):
            last = device.empty(flat_y.shape, np.int32)
            last.fill(-1)
            device.launch(unpool_last, last, flat_at, *self.sizes)
            device.launch(unpool_gather, flat_y, flat_x, last, *self.sizes)
        else:
            device.launch(max_unpool2d_forward, flat_y, flat_x, flat_at, *self.sizes)
        return y

    def backward(self, dy):
        dy = self.device.xp.ascontiguousarray(dy)
        dx = self.device.empty(self.at.shape, dy.dtype)
        N, HW, _, C = self.sizes
        flat_dx, at = self._flat(dx)
        self.device.launch(max_unpool2d_backward, flat_dx, dy.reshape(N, HW, C), at, *self.sizes)
        return dx

    def _flat(self, x):
        N, _, PQ, C = self.sizes
        return x.reshape(N, PQ, C), self.at.reshape(N, PQ, C)


def _outside(found, size):
    """The error for positions from found[0] to found[1] in an image of a size, if there is one."""
    low, high = map(int, found)
    if 0 <= low and high < size[0] * size[1]:
        return None
    return ValueError(
        f"max_unpool2d: positions reach from {low} to {high}, outside the output (H,W) = {size}; "
        "cure: output_size = the size of what was pooled"
    )


@kernel
def max_pool2d_forward(
    y, tap, x, N, H, W, C, P, Q, R, S, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w
):
    """y: the maximum of each window; tap: r*S + s where it stood. Parallel over output rows (n, p)."""
    lowest = x.dtype.type(-np.inf)
    for row in prange(N * P):
        n, p = row // P, row % P
        h0 = p * stride_h - padding_h
        r_first, r_behind = max(0, -(h0 // dilation_h)), min(R, -((h0 - H) // dilation_h))  # taps inside the image
        for q in range(Q):
            w0 = q * stride_w - padding_w
            s_first, s_behind = max(0, -(w0 // dilation_w)), min(S, -((w0 - W) // dilation_w))
            for c in range(C):
                y[n, p, q, c] = lowest
                tap[n, p, q, c] = r_first * S + s_first
            for r in range(r_first, r_behind):
                h = h0 + r * dilation_h
                for s in range(s_first, s_behind, 3):  # three taps a pass, at the end one of them again
                    sb, sc = min(s + 1, s_behind - 1), min(s + 2, s_behind - 1)
                    wa, wb, wc = w0 + s * dilation_w, w0 + sb * dilation_w, w0 + sc * dilation_w
                    ta, tb, tc = np.int32(r * S + s), np.int32(r * S + sb), np.int32(r * S + sc)
                    for c in range(C):
                        best, t = y[n, p, q, c], np.int32(tap[n, p, q, c])
                        a, b, d = x[n, h, wa, c], x[n, h, wb, c], x[n, h, wc, c]
                        t = ta if (a > best) | (a != a) else t  # the second half lets NaN win
                        best = a if (a > best) | (a != a) else best
                        t = tb if (b > best) | (b != b) else t
                        best = b if (b > best) | (b != b) else best
                        t = tc if (d > best) | (d != d) else t
                        best = d if (d > best) | (d != d) else best
                        y[n, p, q, c] = best
                        tap[n, p, q, c] = t


@kernel
def max_pool2d_backward(
    dx, dy, tap, N, H, W, C, P, Q, R, S, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w
):
    """dx: the sum of dy over the windows whose maximum stood here. Parallel over input rows (n, h)."""
    zero = dx.dtype.type(0)  # a plain 0 is an int64, and beside a float32 makes a float64
    for row in prange(N * H):
        n, h = row // H, row % H
        for w in range(W):
            for c in range(C):
                dx[n, h, w, c] = zero
        # the windows p in which this row is tap r: p * stride + r * dilation - padding = h
        p_first = max(0, -((dilation_h * (R - 1) - padding_h - h) // stride_h))
        for p in range(p_first, min(P, (padding_h + h) // stride_h + 1)):
            r = (padding_h + h - p * stride_h) // dilation_h
            if p * stride_h + r * dilation_h - padding_h != h:
                continue
            for q in range(Q):
                for s in range(S):
                    w = q * stride_w + s * dilation_w - padding_w
                    if w < 0 or w >= W:
                        continue
                    t = np.int32(r * S + s)
                    for c in range(C):
                        g = dy[n, p, q, c]
                        dx[n, h, w, c] += g if np.int32(tap[n, p, q, c]) == t else zero


@kernel
def max_pool2x2_forward(y, tap, x, N, C, P, Q):
    """max_pool2d_forward for windows of 2x2 that tile the image. Parallel over output rows (n, p)."""
    for row in prange(N * P):
        n, p = row // P, row % P
        for q in range(Q):
            h, w = 2 * p, 2 * q
            for c in range(C):
                best, b, d, e = x[n, h, w, c], x[n, h, w + 1, c], x[n, h + 1, w, c], x[n, h + 1, w + 1, c]
                t = np.int32(1) if (b > best) | (b != b) else np.int32(0)
                best = b if (b > best) | (b != b) else best
                t = np.int32(2) if (d > best) | (d != d) else t
                best = d if (d > best) | (d != d) else best
                t = np.int32(3) if (e > best) | (e != e) else t
                best = e if (e > best) | (e != e) else best
                y[n, p, q, c] = best
                tap[n, p, q, c] = t


@kernel
def max_pool2x2_backward(dx, dy, tap, N, C, P, Q):
    """max_pool2d_backward for windows of 2x2 that tile the image. Parallel over output rows (n, p)."""
    zero = dx.dtype.type(0)
    for row in prange(N * P):
        n, p = row // P, row % P
        for q in range(Q):
            for t in range(4):  # one loop for each: four stores in one loop are none for vectors
                for c in range(C):
                    g = dy[n, p, q, c]
                    dx[n, 2 * p + t // 2, 2 * q + t % 2, c] = g if np.int32(tap[n, p, q, c]) == np.int32(t) else zero


@kernel
def max_unpool2d_forward(y, x, at, N, HW, PQ, C):
    """y[n, at[n,i,c], c] = x[n,i,c], else 0. Parallel over images and blocks of 16 channels.

    A scatter (the gradient of x[integers] is the other): one thread takes all positions of its channels in reading
    order, so the last of equal positions stays whatever the number of threads.
    """
    blocks = (C + 15) // 16
    for task in prange(N * blocks):
        n, first = task // blocks, task % blocks * 16
        last = min(first + 16, C)
        for i in range(HW):
            for c in range(first, last):
                y[n, i, c] = 0
        for i in range(PQ):
            for c in range(first, last):
                y[n, at[n, i, c], c] = x[n, i, c]


@cuda_kernel
def unpool_last(last, at, N, HW, PQ, C):
    """last[n, at[n,i,c], c] = the largest such i. With a thread for each position a scatter has no order, this has."""


@cuda_kernel
def unpool_gather(y, x, last, N, HW, PQ, C):
    """y[n,j,c] = x[n, last[n,j,c], c], or 0 where last is -1."""


@kernel
def max_unpool2d_backward(dx, dy, at, N, HW, PQ, C):
    """dx[n,i,c] = dy[n, at[n,i,c], c]. Parallel over the values put back (n, i)."""
    for row in prange(N * PQ):
        n, i = row // PQ, row % PQ
        for c in range(C):
            dx[n, i, c] = dy[n, at[n, i, c], c]
