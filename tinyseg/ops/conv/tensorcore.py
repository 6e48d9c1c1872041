"""Convolution as a matrix product on tensor cores (implicit GEMM), its three maps for the CUDA devices.

    y of x, dx of dy     gather.cuh      pixels x channels, a sum over taps and channels
    dw of dy and x       gradient.cuh    taps and channels x channels, a sum over pixels in shares
    the product itself   cuda/matrix.cuh

Any stride, padding, dilation, groups and number of channels. Operands are float32, multiplied as tf32 (10 bits of
mantissa, as PyTorch does it for convolutions) or with `exact` as float32; or float16; or bfloat16, which NumPy does not
have: its bits in uint16. Sums are float32. Results have the type of the operands, or with bfloat16 float32; `dtype`
asks for another one. Gradients of filters are float32.

A run of channels is copied 16 bytes at a time. Where that does not divide it (an image's 3 channels, 21 classes) zeros
are put behind the channels first, one pass over the array, if a filter of several taps then reads it several times.

x, and dx, may be two arrays whose channels count as those of one, if 16 bytes divide them: what a U-Net remembers and
what it enlarges are never brought together in memory.

Work is cut into tiles of 128 pixels by 128 or 64 channels, a block of threads each. Where that gives too few blocks for
the device, the sum is cut too, into shares whose parts are added up in their order: runs repeat to the bit.
"""

from dataclasses import replace

import numpy as np

from ...kernel import cuda_kernel
from ..statistics import RUN, Runs
from .geometry import Geometry
from .parts import split, whole

ROWS = RUN  # of a tile: 128
DEPTH_BYTES = 64  # of a stage: how far a tile goes along the sum
FEWEST_STAGES = 8  # for a share of a sum: filling the pipeline takes 3


@cuda_kernel
def gather_product(out, parts, mean, deviation, a, a_behind, a_first, w, b, N, AH, AW, AC, OH, OW, OC, R, S, groups,
                   num_h, num_w, off_h, off_w, inc_h, inc_w, relu, statistics, splits, wide, exact):  # fmt: skip
    """out[n, o, k] = b[k] + sum over r, s, c of a[n, o num + off + r inc, c] w[r, s, c, k]; parts of it if splits > 1.

    With relu not below 0. With statistics mean and deviation (tiles, OC) get of each tile of 128 pixels and each
    channel the mean and the sum of squared deviations from it. Channels of a from a_first on lie in a_behind.
    """


@cuda_kernel
def turned_product(out, out_behind, out_first, parts, mean, deviation, a, w, b, N, AH, AW, AC, OH, OW, OC, R, S,
                   groups, den_h, den_w, off_h, off_w, inc_h, inc_w, relu, statistics, splits, wide,
                   exact):  # fmt: skip
    """out[n, o, c] = b[c] + sum over r, s, k of a[n, (o + off + r inc) / den, k] w[r, s, c, k], where den divides."""


@cuda_kernel
def gradient_product(parts, dy, x, x_behind, x_first, N, H, W, C, P, Q, K, R, S, stride_h, stride_w, pad_h, pad_w,
                     dil_h, dil_w, groups, splits, wide, exact):  # fmt: skip
    """parts[i, r, s, c, k] = sum of x[n, p stride + r dilation - padding, c] dy[n, p, q, k] over a share of n, p, q."""


@cuda_kernel
def add_parts(out, parts, b, rows, K, splits, relu):
    """out[i, k] = b[k] + sum over the parts, in their order; with relu not below 0."""


@cuda_kernel
def convert(out, x, n):
    """out = x, rounded to the type of out."""


@cuda_kernel
def pad_channels(out, x, rows, C, padded):
    """out (rows, padded) = x (rows, C) with zeros behind each row."""


KERNELS = (gather_product, turned_product, gradient_product, add_parts, convert, pad_channels)


def narrowed(device, a, narrow: str | None):
    """An array as float16, as the bits of bfloat16 in uint16, or (None) as it is, but float16 as float32."""
    dtype = {"float16": np.float16, "bfloat16": np.uint16, None: np.float32 if a.dtype == np.float16 else a.dtype}[
        narrow
    ]
    if a.dtype == dtype:
        return a
    out = device.empty(a.shape, dtype)
    device.launch(convert, out.reshape(-1), a.reshape(-1), a.size)
    return out


def product_forward(device, g: Geometry, x, w, b=None, relu=False, statistics=False, exact=False, dtype=None):
    """y of x, or its parts, and w, with relu max(y, 0); and, if asked for, its statistics in runs of 128 pixels."""
    xs = _one_or_two(device, g, x)
    if (C := _whole_chunks(g, g.C, w.dtype)) > g.C:
        xs, w, g = [_padded(device, xs[0], C)], _with_zeros(device, w, C, 2), replace(g, C=C)
    numbers = (*g.stride, -g.padding[0], -g.padding[1], *g.dilation)
    pixels, runs = g.N * g.P * g.Q, None
    if statistics:
        counts = device.xp.full(-(-pixels // RUN), RUN)
        counts[-1:] -= -pixels % RUN
        runs = Runs(*device.empty((2, len(counts), g.K)), counts)
    y = _gather(device, gather_product, g, xs, w, b, g.y_shape, [g.K], [pixels], numbers, relu, runs, exact, dtype)
    return y[0], runs


def product_backward_x(device, g: Geometry, dy, w, b=None, exact=False, dtype=None):
    """dx of dy and w, plus b[c]: the bias of a transposed convolution."""
    return product_backward_to_parts(device, g, dy, w, [g.C], b, exact, dtype)[0]


def product_backward_to_parts(device, g: Geometry, dy, w, channels, b=None, exact=False, dtype=None) -> list:
    """dx in parts of so many channels each."""
    if (K := _whole_chunks(g, g.K, dy.dtype)) > g.K:
        dy, w, g = _padded(device, dy, K), _with_zeros(device, w, K, 3), replace(g, K=K)
    numbers = (*g.stride, *g.padding, -g.dilation[0], -g.dilation[1])
    phase = g.N * -(-g.H // g.stride[0]) * -(-g.W // g.stride[1])
    phases = [phase] * (g.stride[0] * g.stride[1])
    numbers = phases, numbers, False, None
    return _gather(device, turned_product, g, [dy], w, b, g.x_shape, channels, *numbers, exact, dtype)


def product_backward_w(device, g: Geometry, dy, x, exact=False):
    """dw of dy and x, or its parts, float32."""
    xs = _one_or_two(device, g, x)
    if (C := _whole_chunks(g, g.C, dy.dtype)) > g.C:
        dw = product_backward_w(device, replace(g, C=C), dy, _padded(device, xs[0], C), exact)
        return device.copy(dw[:, :, : g.C])
    Cg, Kg = g.C // g.groups, g.K // g.groups
    wide = Kg > 64 and not exact
    tiles = -(-Kg // (128 if wide else 64)) * g.groups * -(-g.R * g.S * Cg // ROWS)
    splits = _splits(device, tiles, g.N * g.P * g.Q, dy.dtype)
    parts = device.empty((splits, *g.w_shape), np.float32)
    device.launch(gradient_product, parts, dy, *_pair(xs), g.N, g.H, g.W, g.C, g.P, g.Q, g.K, g.R, g.S, *g.stride,
                  *g.padding, *g.dilation, g.groups, splits, wide, exact)  # fmt: skip
    if splits == 1:
        return parts[0]
    dw = device.empty(g.w_shape, np.float32)
    device.launch(add_parts, dw, parts, device.zeros((1,)), dw.size, 1, splits, False)
    return dw


def _whole_chunks(g: Geometry, channels: int, dtype) -> int:
    """How many channels an operand should have: more than it has where that saves copies of single numbers."""
    chunk = 16 // dtype.itemsize
    return channels if g.groups > 1 or g.R * g.S == 1 else -(-channels // chunk) * chunk


def _one_or_two(device, g: Geometry, x) -> list:
    """x, or its parts, as the kernels take them."""
    xs = x if isinstance(x, list | tuple) else [x]
    return xs if _fit([x.shape[3] for x in xs], g, xs[0].dtype) else [whole(device, xs)]


def _fit(channels, g: Geometry, dtype) -> bool:
    """Whether the kernels take parts of so many channels."""
    chunk = 16 // dtype.itemsize
    return len(channels) == 1 or (len(channels) == 2 and g.groups == 1 and all(c % chunk == 0 for c in channels))


def _pair(xs):
    """One array or two as arguments: the first, that behind it, the channels of the first."""
    return xs[0], xs[-1], xs[0].shape[3]


def _padded(device, x, channels: int):
    out = device.empty((*x.shape[:3], channels), x.dtype)
    device.launch(pad_channels, out.reshape(-1), x.reshape(-1), x.size // x.shape[3], x.shape[3], channels)
    return out


def _with_zeros(device, w, size: int, axis: int):
    """The filters with zeros for the channels that were put behind the others."""
    shape = list(w.shape)
    shape[axis] = size
    out = device.zeros(tuple(shape), w.dtype)
    out[:, :, : w.shape[2], : w.shape[3]] = w
    return out


def _gather(device, kernel, g: Geometry, a, w, b, shape, channels, phases, numbers, relu, runs, exact, dtype) -> list:
    dtype = np.dtype(dtype or (np.float32 if w.dtype == np.uint16 else w.dtype))
    b = device.zeros(shape[3:]) if b is None else b
    AC = sum(part.shape[3] for part in a)
    Ag, Og = AC // g.groups, shape[3] // g.groups
    wide = Og > 64 and not exact
    tiles = -(-Og // (128 if wide else 64)) * g.groups * sum(-(-pixels // ROWS) for pixels in phases)
    depth = g.R * g.S * Ag // len(phases)
    splits = 1 if runs else _splits(device, tiles, depth, w.dtype)
    in_parts = splits == 1 and _fit(channels, g, dtype)
    out = [device.empty((*shape[:3], c), dtype) for c in (channels if in_parts else shape[3:])]
    parts = device.empty((splits, *shape) if splits > 1 else (1,))
    mean, deviation = runs[:2] if runs else (parts, parts)
    outputs, inputs = (_pair(out), a) if kernel is turned_product else (out, _pair(a))
    device.launch(kernel, *outputs, parts, mean, deviation, *inputs, w, b, *a[0].shape[:3], AC, *shape[1:], g.R, g.S,
                  g.groups, *numbers, relu, runs is not None, splits, wide, exact)  # fmt: skip
    if splits > 1:
        device.launch(add_parts, out[0], parts, b, out[0].size // shape[3], shape[3], splits, relu)
    return out if in_parts else split(out[0], channels)


def _splits(device, tiles: int, depth: int, dtype) -> int:
    """Into how many shares to cut a sum of `depth` products so that there are blocks enough for the device."""
    stages = depth * dtype.itemsize // DEPTH_BYTES
    return max(1, min(device.threads // max(tiles, 1), stages // FEWEST_STAGES))
