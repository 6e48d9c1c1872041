"""What hypothesis draws: shapes, arrays and the geometry of convolutions and pools, odd corners included.

Values come from a drawn seed, not one by one: an array costs one draw, and a failing example shrinks to the smallest
shape and the smallest options. The letters are those of the kernels: n image, (h, w) input pixel, c input channel,
k output channel, (p, q) output pixel, (r, s) filter tap.
"""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)
float_dtypes = st.sampled_from([np.float32, np.float64])


@st.composite
def shapes(draw, min_axes=0, max_axes=4, min_side=1, max_side=5):
    """A shape; min_side=0 lets empty arrays in."""
    return tuple(draw(st.lists(st.integers(min_side, max_side), min_size=min_axes, max_size=max_axes)))


@st.composite
def broadcastable(draw, count=2, max_axes=4, max_side=4):
    """`count` shapes that broadcast against each other: some sides are 1, some leading axes are missing."""
    whole = draw(shapes(0, max_axes, 1, max_side))
    result = []
    for _ in range(count):
        shape = [n if draw(st.booleans()) else 1 for n in whole]
        result.append(tuple(shape[draw(st.integers(0, len(shape))) :] if draw(st.booleans()) else shape))
    return tuple(result)


@st.composite
def axes_of(draw, ndim):
    """An `axis` argument for an array of `ndim` axes: None, one axis or several, from the front or the back."""
    if ndim == 0 or draw(st.booleans()):
        return None
    chosen = draw(st.lists(st.integers(0, ndim - 1), unique=True, min_size=1, max_size=ndim))
    signed = tuple(a - ndim if draw(st.booleans()) else a for a in chosen)
    return signed[0] if len(signed) == 1 and draw(st.booleans()) else signed


def normal(shape, seed, dtype=np.float64) -> np.ndarray:
    """Normally distributed values: what a linear operator wants."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def distinct(shape, seed, dtype=np.float64, gap=0.1) -> np.ndarray:
    """Values in random order, any two at least `gap` apart and none nearer to 0 than gap/2: no ties, no kinks at 0."""
    size = int(np.prod(shape))
    order = np.random.default_rng(seed).permutation(size)
    return ((order - size // 2 + 0.5) * gap).reshape(shape).astype(dtype)


@st.composite
def arrays(draw, shape=None, dtype=np.float64):
    """A normally distributed array of a shape (or of a strategy for one)."""
    shape = shapes() if shape is None else shape
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    return normal(shape, draw(seeds), dtype)


@st.composite
def distinct_arrays(draw, shape=None, dtype=np.float64):
    """An array without ties and without values at 0, for max, relu, abs and their kind."""
    shape = shapes() if shape is None else shape
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    return distinct(shape, draw(seeds), dtype)


@dataclass(frozen=True)
class ConvGeometry:
    """Shapes and options of one conv2d: x (n,h,w,c), w (r,s,c/groups,k) -> y (n,p,q,k). Pairs are (rows, columns)."""

    n: int
    h: int
    w: int
    c: int
    k: int
    r: int
    s: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def x_shape(self):
        return self.n, self.h, self.w, self.c

    @property
    def w_shape(self):
        return self.r, self.s, self.c // self.groups, self.k

    @property
    def p(self):
        return (self.h + 2 * self.padding[0] - self.dilation[0] * (self.r - 1) - 1) // self.stride[0] + 1

    @property
    def q(self):
        return (self.w + 2 * self.padding[1] - self.dilation[1] * (self.s - 1) - 1) // self.stride[1] + 1

    @property
    def y_shape(self):
        return self.n, self.p, self.q, self.k

    @property
    def options(self):
        """The keyword arguments of conv2d."""
        return dict(stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)


@st.composite
def conv_geometries(draw, max_side=9, max_filter=4, max_stride=4, max_dilation=3, max_channels=9, groups=True):
    """Any conv2d with an output of at least one pixel: 1x1 images, stride > filter, padding > filter, empty batches."""

    def along_one_axis():
        side, taps = draw(st.integers(1, max_side)), draw(st.integers(1, max_filter))
        stride, dilation = draw(st.integers(1, max_stride)), draw(st.integers(1, max_dilation))
        least = max(0, -((side - dilation * (taps - 1) - 1) // 2))  # padding that leaves room for the filter
        return side, taps, stride, least + draw(st.integers(0, max_filter + 1)), dilation

    h, r, *rows = along_one_axis()
    w, s, *columns = along_one_axis()
    stride, padding, dilation = zip(rows, columns)
    g = draw(st.sampled_from([1, 1, 1, 2, 3])) if groups else 1
    c, k = (g * draw(st.integers(1, max(1, max_channels // g))) for _ in "ck")
    if groups and draw(st.integers(0, 4)) == 4:  # depth-wise, with a channel multiplier
        g, k = c, c * draw(st.integers(1, 2))
    n = draw(st.sampled_from([1, 1, 2, 3, 0]))
    return ConvGeometry(n, h, w, c, k, r, s, stride, padding, dilation, g)


@dataclass(frozen=True)
class PoolGeometry:
    """The shape and options of one pool: x (n,h,w,c), windows of kernel_size."""

    n: int
    h: int
    w: int
    c: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil_mode: bool = False

    @property
    def x_shape(self):
        return self.n, self.h, self.w, self.c

    @property
    def options(self):
        """The keyword arguments of max_pool2d and avg_pool2d."""
        return dict(kernel_size=self.kernel_size, stride=self.stride, padding=self.padding, ceil_mode=self.ceil_mode)


@st.composite
def pool_geometries(draw, max_side=9, max_window=4, max_stride=4, max_channels=5):
    """Any pool with an output of at least one pixel; padding is at most half the window, as PyTorch asks."""

    def along_one_axis():
        window = draw(st.integers(1, max_window))
        padding = draw(st.integers(0, window // 2))
        side = draw(st.integers(max(1, window - 2 * padding), max_side))
        return side, window, draw(st.integers(1, max_stride)), padding

    h, *rows = along_one_axis()
    w, *columns = along_one_axis()
    window, stride, padding = zip(rows, columns)
    n, c = draw(st.sampled_from([1, 1, 2, 0])), draw(st.integers(1, max_channels))
    return PoolGeometry(n, h, w, c, window, stride, padding, draw(st.booleans()))
