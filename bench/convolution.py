"""conv2d and conv_transpose2d, forward and both gradients: the layers of U-Net, VGG, ResNet and DeepLab.

FLOP are those of the equation, 2 N P Q R S C K / groups, whatever an algorithm saves of them: Winograd may go beyond
the machine's peak, and so may a dilated filter most of whose taps see only padding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

import tinyseg as ts
from tinyseg.ops.conv.conv2d import backward_w, backward_x, forward
from tinyseg.ops.conv.geometry import Geometry, Options

from .case import (
    LAYOUTS,
    Case,
    Result,
    Settings,
    agree,
    contest,
    filters_from_torch,
    filters_to_torch,
    from_torch,
    to_torch,
    torch,
)


@dataclass(frozen=True)
class Layer:
    """A convolution c -> k of an n x size x size image; transposed, size is that of the result."""

    taps: int
    c: int
    k: int
    size: int
    n: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    transposed: bool = False
    few_tiles: bool = False

    @property
    def padding(self) -> int:
        if self.transposed:
            return (self.taps - self.stride) // 2
        return self.dilation * (self.taps // 2)

    @property
    def geometry(self) -> Geometry:
        options = Options.of("bench", self.stride, self.padding, self.dilation, self.groups)
        c, k = (self.k, self.c) if self.transposed else (self.c, self.k)
        return options.geometry((self.n, self.size, self.size, c), (self.taps, self.taps, c // self.groups, k))

    def __str__(self):
        extra = f" s{self.stride}" * (self.stride > 1) + f" d{self.dilation}" * (self.dilation > 1)
        op = "conv_transpose2d" if self.transposed else "depthwise" if self.groups > 1 else "conv2d"
        return f"{op} {self.taps}x{self.taps}{extra} {self.c}-{self.k} @{self.size} n{self.n}"

    def target(self, direction: str) -> float:
        """The ratio wanted: Winograd's where it applies, parity elsewhere, taps in the padding skipped."""
        if self.taps == 3 and self.stride == 1 and self.c >= 16 and self.groups == 1 and self.dilation < 6:
            return 0.5 if self.few_tiles else 0.4
        return 0.35 if self.dilation >= 6 and direction == "grad-w" else 1.0


LAYERS = [
    Layer(3, 64, 64, 256, 2),
    Layer(3, 64, 64, 128, 4),
    Layer(3, 128, 128, 64, 4),
    Layer(3, 256, 256, 32, 4),
    Layer(3, 512, 512, 32, 2, dilation=2),
    Layer(3, 512, 512, 32, 2, dilation=4),
    Layer(3, 512, 512, 16, 4),
    Layer(3, 32, 32, 256, 4),
    Layer(3, 64, 32, 256, 4),
    Layer(3, 128, 128, 32, 2, few_tiles=True),
    Layer(3, 256, 256, 16, 2, few_tiles=True),
    Layer(3, 512, 512, 16, 2, few_tiles=True),
    Layer(3, 3, 64, 256, 2),
    Layer(3, 1, 32, 256, 4),
    Layer(7, 3, 64, 256, 2, stride=2),
    Layer(1, 256, 1024, 32, 2),
    Layer(1, 1024, 256, 32, 2),
    Layer(1, 32, 21, 256, 4),
    Layer(3, 128, 128, 64, 4, stride=2),
    Layer(3, 2048, 256, 16, 2, dilation=6),
    Layer(3, 2048, 256, 16, 2, dilation=12),
    Layer(3, 2048, 256, 16, 2, dilation=18),
    Layer(2, 512, 256, 64, 2, stride=2, transposed=True),
    Layer(2, 64, 32, 256, 4, stride=2, transposed=True),
    Layer(16, 21, 21, 256, 2, stride=8, transposed=True),
    Layer(3, 256, 256, 64, 4, groups=256),
    Layer(3, 256, 256, 64, 4, stride=2, groups=256),
]


def cases() -> Iterator[Case]:
    for layer in LAYERS:
        for direction in ("forward", "grad-x", "grad-w"):
            yield Case(f"{layer} {direction}", partial(measure, layer, direction), layer.target(direction))


def measure(layer: Layer, direction: str, settings: Settings) -> Result:
    cpu, g = ts.get_device("cpu"), layer.geometry
    rng = np.random.default_rng(0)
    x, w, y = (cpu.array(rng.standard_normal(s, np.float32)) for s in (g.x_shape, g.w_shape, g.y_shape))
    # the forward pass of a transposed convolution is the map to x, and the other way round
    target = {"grad-w": "w"}.get(direction) or ("y" if (direction == "forward") != layer.transposed else "x")
    ours = {
        "y": lambda: forward(cpu, g, x, w),
        "x": lambda: backward_x(cpu, g, y, w),
        "w": lambda: backward_w(cpu, g, y, x),
    }[target]
    result = ours()
    definition = {"y": sample_forward, "x": sample_backward_x, "w": sample_backward_w}[target]
    for place, expected in definition(g, x, w, y, rng):
        agree(f"the definition at {place}", result[place], expected, 2e-5, np.abs(result).max())
    theirs = {name: torch_call(layer, g, direction, x, w, y, name) for name in LAYOUTS} if torch else {}
    for name, call in theirs.items():
        agree(f"PyTorch, {name}", result, (filters_from_torch if target == "w" else from_torch)(call()), 5e-5)
    work = 2 * g.N * g.P * g.Q * g.R * g.S * g.C * g.K / g.groups
    return contest(settings, ours, theirs, work, "GFLOP/s")


def torch_call(layer: Layer, g: Geometry, direction: str, x, w, y, name: str):
    given, result = (y, x) if layer.transposed else (x, y)
    given, result, w = to_torch(given, name), to_torch(result, name), filters_to_torch(w, name)
    function = torch.nn.functional.conv_transpose2d if layer.transposed else torch.nn.functional.conv2d
    options = dict(stride=g.stride, padding=g.padding, dilation=g.dilation, groups=g.groups)
    if direction == "forward":
        return lambda: function(given, w, **options)
    mask = [direction == "grad-x", direction == "grad-w", False]
    numbers = (None, g.stride, g.padding, g.dilation, layer.transposed, (0, 0), g.groups, mask)
    return lambda: torch.ops.aten.convolution_backward(result, given, w, *numbers)[mask.index(True)]


# --------------------------------------------------------- the definition, in float64, at some places of the result


def pixels(size: tuple[int, int, int], rng, count: int = 12):
    """Some (n, row, column): the corners of an image and a few between."""
    n, h, w = size
    return [(0, 0, 0), (n - 1, h - 1, w - 1), *(tuple(rng.integers(0, size)) for _ in range(count))]


def by_group(array, groups: int):
    """(..., channels) -> (..., groups, channels of a group) in float64."""
    return array.astype(np.float64).reshape(*array.shape[:-1], groups, -1)


def sample_forward(g: Geometry, x, w, y, rng):
    filters = by_group(w, g.groups)  # r, s, c, group, k
    for n, p, q in pixels((g.N, g.P, g.Q), rng):
        total = np.zeros((g.groups, g.K // g.groups))
        for r, s in np.ndindex(g.R, g.S):
            h = p * g.stride[0] + r * g.dilation[0] - g.padding[0]
            v = q * g.stride[1] + s * g.dilation[1] - g.padding[1]
            if 0 <= h < g.H and 0 <= v < g.W:
                total += np.einsum("gc,cgk->gk", by_group(x[n, h, v], g.groups), filters[r, s])
        yield (n, p, q), total.reshape(g.K)


def sample_backward_x(g: Geometry, x, w, y, rng):
    filters = by_group(w, g.groups)
    for n, h, v in pixels((g.N, g.H, g.W), rng):
        total = np.zeros((g.groups, g.C // g.groups))
        for r, s in np.ndindex(g.R, g.S):
            p, p_rest = divmod(h + g.padding[0] - r * g.dilation[0], g.stride[0])
            q, q_rest = divmod(v + g.padding[1] - s * g.dilation[1], g.stride[1])
            if not p_rest and not q_rest and 0 <= p < g.P and 0 <= q < g.Q:
                total += np.einsum("gk,cgk->gc", by_group(y[n, p, q], g.groups), filters[r, s])
        yield (n, h, v), total.reshape(g.C)


def sample_backward_w(g: Geometry, x, w, y, rng, columns: int = 8):
    """All input channels of a few taps, for the first output channels of the first group."""
    y, x = y[..., : min(columns, g.K // g.groups)].astype(np.float64), x[..., : g.C // g.groups]
    for r, s in {(0, 0), (g.R // 2, g.S // 2), (g.R - 1, g.S - 1)}:
        h = np.arange(g.P) * g.stride[0] + r * g.dilation[0] - g.padding[0]
        v = np.arange(g.Q) * g.stride[1] + s * g.dilation[1] - g.padding[1]
        p, q = (h >= 0) & (h < g.H), (v >= 0) & (v < g.W)
        seen, dy = x[:, h[p]][:, :, v[q]].astype(np.float64), y[:, p][:, :, q]
        place = (r, s, slice(None), slice(0, y.shape[-1]))
        yield place, seen.reshape(-1, seen.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
