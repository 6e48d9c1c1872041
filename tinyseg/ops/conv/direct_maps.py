"""The three maps of the direct algorithm: how their work is cut into the blocks and shares of `direct.py`'s kernels."""

import numpy as np

from .direct import add_columns, by_channel_tiles, filter_gradient_tiles, gather_tiles, pad_columns
from .geometry import Geometry
from .order import NO_ORDER, order_by_taps
from .simd import COLUMNS, ROWS

# A block of a gather: its pixels, the channels that it takes at a time (at least, at most), bytes of filters meanwhile
BLOCK, LEAST, DEPTH, PANEL = 512, 32, 256, 320 << 10
FAR = 512  # channels of x from which on the gradient of the filters wants it laid out for its tiles


def direct_forward(device, g: Geometry, y, x, w, b=None, scale=None, shortcut=None, relu=False) -> None:
    """y = scale * (w * x) + b + shortcut, and with relu at least 0."""
    if _thin(g):
        x, g = _merge_taps(device, g, x)
    off = -g.padding[0], -g.padding[1]
    _gather(device, y, x, w, b, g.x_shape, g.y_shape, g, False, num=g.stride, den=(1, 1), off=off, inc=g.dilation,
            scale=scale, shortcut=shortcut, relu=relu)  # fmt: skip


def direct_backward_x(device, g: Geometry, dx, dy, w, b=None) -> None:
    """dx of dy and w, plus b[c].

    With few channels c the panels would be mostly empty: then what each pixel of dy gives to each tap and channel,
    dy w^T, is a 1x1 convolution with R*S*C output channels, which fill them together.
    """
    if not _thin(g):
        _gather(device, dx, dy, w, b, g.y_shape, g.x_shape, g, True, num=(1, 1), den=g.stride, off=g.padding,
                inc=(-g.dilation[0], -g.dilation[1]))  # fmt: skip
        return
    outputs = g.R * g.S * g.C
    filters = device.copy(w.reshape(outputs, g.K).T).reshape(1, 1, g.K, outputs)
    pixelwise = Geometry(g.N, g.P, g.Q, g.K, 1, 1, outputs, g.P, g.Q, (1, 1), (0, 0), (1, 1), 1)
    columns = device.empty(pixelwise.y_shape, dy.dtype)
    direct_forward(device, pixelwise, columns, dy, filters)
    b = device.zeros((g.C,), dy.dtype) if b is None else b
    device.launch(add_columns, dx, columns, b, g.N, g.H, g.W, g.C, g.P, g.Q, g.R, g.S, *g.stride, *g.padding,
                  *g.dilation)  # fmt: skip


def direct_gradient_parts(device, g: Geometry, dy, x):
    """dw of dy and x as the sum of the rows of parts, whose first R*S*M*K numbers count."""
    merged = _thin(g)
    if merged:
        x, g = _merge_taps(device, g, x)
    x, pixel, across = _for_tiles(device, g, x)
    M = g.C // g.groups
    rows = g.R * g.S * M
    zeros = device.zeros((g.W * pixel if merged else 0,), x.dtype)
    panels = g.groups * -(-(g.K // g.groups) // COLUMNS)
    panel_jobs = min(panels, device.threads)
    splits = max(1, min(device.threads // panel_jobs, g.N * g.P))
    block = max(1, _pixels_in_cache(pixel) // g.Q)
    parts = device.empty((splits, (-(-rows // ROWS) * ROWS if merged else rows) * g.K), x.dtype)
    device.launch(filter_gradient_tiles, parts, dy.reshape(-1), x.reshape(-1), zeros, g.N, g.H, g.W, M, g.P, g.Q, g.K,
                  g.R, g.S, *g.stride, *g.padding, *g.dilation, g.groups, pixel, across, merged, splits, panel_jobs,
                  block)  # fmt: skip
    return parts


def _thin(g: Geometry) -> bool:
    """Whether x has so few channels (an image's 1 or 3) that a run over them alone would be mostly overhead."""
    return g.C < 8 and g.S > 1 and g.groups == 1 and g.dilation[1] == 1


def _merge_taps(device, g: Geometry, x):
    """With the columns padded in memory, the taps of a filter row and their channels are one contiguous run.

    Returns the padded x, still C floats a pixel, and the geometry of the same convolution seen as one whose filters
    are (R, 1) with S*C channels that overlap from pixel to pixel.
    """
    width = max(g.W + g.padding[1], (g.Q - 1) * g.stride[1] + g.S - g.padding[1]) + g.padding[1]
    padded = device.empty((g.N, g.H, width, g.C), x.dtype)
    device.launch(pad_columns, padded.reshape(-1), x.reshape(-1), g.N * g.H, g.W, g.C, g.padding[1], width)
    merged = Geometry(g.N, g.H, width, g.S * g.C, g.R, 1, g.K, g.P, g.Q, g.stride, (g.padding[0], 0), g.dilation, 1)
    return padded, merged


def _for_tiles(device, g: Geometry, x):
    """x as the gradient of the filters reads it: with so many channels, whole tiles of them, that its pixels lie far
    apart, laid out anew.

    Returns x, the floats from a pixel to the next, and those from ROWS channels to the next ROWS.
    """
    pixels, C = x.size // x.shape[3], x.shape[3]
    if g.groups > 1 or C < FAR or C % ROWS:
        return x, C, ROWS
    tiles = device.empty((C // ROWS, pixels, ROWS), x.dtype)
    device.launch(by_channel_tiles, tiles, x.reshape(pixels, C), pixels, C)
    return tiles, ROWS, pixels * ROWS


def _gather(device, out, a, w, b, a_shape, out_shape, g: Geometry, transposed: bool, num, den, off, inc, scale=None,
            shortcut=None, relu=False) -> None:  # fmt: skip
    """out of a and the filters (transposed: of the adjoint map); times scale, plus b and the shortcut, and with relu at
    least 0."""
    columns, run = (g.C, g.K) if transposed else (g.K, g.C)
    columns, run, taps = columns // g.groups, run // g.groups, g.R * g.S
    count = -(-columns // COLUMNS)
    plain = b is None and scale is None and shortcut is None and not relu
    epilogue = device.empty((3, g.groups, 0 if plain else count * COLUMNS), out.dtype)
    epilogue[0], epilogue[1], epilogue[2] = 1, 0, 0 if relu else -np.inf
    for row, values in zip(epilogue, () if plain else (scale, b)):
        if values is not None:
            row[:, :columns] = values.reshape(g.groups, -1)
    shortcut = epilogue.reshape(-1)[:0] if shortcut is None else shortcut.reshape(-1)
    zeros = device.zeros((max(a.shape[3], run),), out.dtype)
    phases, per_phase = den[0] * den[1], a_shape[0] * -(-out_shape[1] // den[0]) * -(-out_shape[2] // den[1])
    most = max(LEAST, min(DEPTH, PANEL // (4 * COLUMNS * -(-taps // phases))))  # channels at a time
    depth = -(-run // -(-run // most))
    block, shares = _blocks_and_shares(per_phase, phases, g.groups * count, device.threads)
    order = order_by_taps(*a_shape[:3], *out_shape[1:3], g.R, g.S, num, off, inc, ROWS) if phases == 1 else NO_ORDER
    device.launch(gather_tiles, out.reshape(-1), a, w.reshape(-1), epilogue.reshape(-1), shortcut, zeros, order,
                  *a_shape[:3], a.shape[3], *out_shape[1:], g.R, g.S, g.C // g.groups, g.K, g.groups, transposed, *num,
                  *den, *off, *inc, block, shares, depth)  # fmt: skip


def _blocks_and_shares(pixels: int, phases: int, panels: int, threads: int) -> tuple[int, int]:
    """Pixels of a block, and in how many shares its channels are computed, so that all threads have equal work."""
    pixels = max(1, pixels)
    blocks = max(-(-pixels // BLOCK), min(-(-threads // (phases * panels)), -(-pixels // ROWS)))
    while phases * blocks % threads and threads % (phases * blocks):
        blocks += 1
    return -(-pixels // (blocks * ROWS)) * ROWS, min(panels, max(1, threads // (phases * blocks)))


def _pixels_in_cache(channels: int) -> int:
    """How many pixels of so many float channels make up about a quarter of an L2 cache of 512 KiB, a block at most."""
    return max(8 * ROWS, min(BLOCK, (128 << 10) // (4 * channels)))
