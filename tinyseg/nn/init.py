"""Initial values of parameters: each function returns a float32 array of the given shape.

Filters are (R,S,C,K) and matrices (inputs, outputs), so that

    fan_in  = R S C   terms in the sum that makes one output,
    fan_out = R S K   sums that one input enters

(for a grouped filter, C is already the share of one group). A transposed convolution keeps the filter of the
convolution whose adjoint it is, so its fans are swapped. `seed` is an integer or a `numpy.random.Generator`.
"""

import threading
from contextlib import contextmanager

import numpy as np

Seed = int | np.random.Generator | None
_thread = threading.local()


@contextmanager
def no_init(device="cpu"):
    """Inside this block modules are made on `device` and get no values: nothing is drawn, no memory is touched.

    For weights that are loaded right after the block, and for counting what is never computed with.

    Example:
        with ts.nn.no_init():
            model = ts.models.VGG16()
        model.load_state_dict(state)
    """
    before, _thread.device = home(), device
    try:
        yield
    finally:
        _thread.device = before


def home():
    """The device that `no_init` makes modules on; None outside such a block."""
    return getattr(_thread, "device", None)


def _nothing(shape):
    """What the functions below return inside `no_init`: zeros that take no memory and cannot be written."""
    return np.broadcast_to(np.float32(0), shape)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a filter (R,S,C,K) or a matrix (inputs, outputs)."""
    if len(shape) not in (2, 4):
        raise ValueError(f"fans: expected a filter (R,S,C,K) or a matrix (inputs, outputs), got shape {shape}")
    taps = int(np.prod(shape[:-2]))
    return taps * shape[-2], taps * shape[-1]


def _fan(shape, mode):
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"init: mode is {mode!r}, expected 'fan_in' or 'fan_out'")
    return max(fans(shape)[mode == "fan_out"], 1)


def zeros(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.float32) if home() is None else _nothing(shape)


def normal(shape: tuple[int, ...], std: float, seed: Seed = 0) -> np.ndarray:
    """N(0, std^2)."""
    if home() is not None:
        return _nothing(shape)
    values = np.random.default_rng(seed).standard_normal(shape, np.float32)
    values *= np.float32(std)
    return values


def truncated_normal(shape: tuple[int, ...], std: float, seed: Seed = 0) -> np.ndarray:
    """N(0, std^2) drawn again until |value| <= 2 std (TensorFlow's; the spread that results is 0.88 std)."""
    if home() is not None:
        return _nothing(shape)
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape, np.float32)
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(np.count_nonzero(outside), np.float32)
    return values * np.float32(std)


def uniform(shape: tuple[int, ...], bound: float, seed: Seed = 0) -> np.ndarray:
    """Uniform in [-bound, bound)."""
    if home() is not None:
        return _nothing(shape)
    values = np.random.default_rng(seed).random(shape, np.float32)
    values -= np.float32(0.5)
    values *= np.float32(2 * bound)
    return values


def kaiming_normal(shape: tuple[int, ...], seed: Seed = 0, mode: str = "fan_in", gain: float = 2.0) -> np.ndarray:
    """N(0, gain / fan): keeps the variance of activations (fan_in) or gradients (fan_out) through ReLU. He 2015."""
    return normal(shape, (gain / _fan(shape, mode)) ** 0.5, seed)


def kaiming_uniform(shape: tuple[int, ...], seed: Seed = 0, mode: str = "fan_in", gain: float = 2.0) -> np.ndarray:
    """Uniform of variance gain / fan. PyTorch's layers start with gain 1/3, which is the bound 1/sqrt(fan_in)."""
    return uniform(shape, (3 * gain / _fan(shape, mode)) ** 0.5, seed)


def xavier_uniform(shape: tuple[int, ...], seed: Seed = 0) -> np.ndarray:
    """Uniform of variance 2 / (fan_in + fan_out). Glorot & Bengio 2010; Caffe's "xavier" for square layers."""
    return uniform(shape, (6 / max(sum(fans(shape)), 1)) ** 0.5, seed)


def xavier_normal(shape: tuple[int, ...], seed: Seed = 0) -> np.ndarray:
    """N(0, 2 / (fan_in + fan_out)). Glorot & Bengio 2010."""
    return normal(shape, (2 / max(sum(fans(shape)), 1)) ** 0.5, seed)


def bilinear(shape: tuple[int, int, int, int]) -> np.ndarray:
    """The transposed convolution that interpolates: each channel to itself, by w[r,s] = f(r) f(s),

        f(i) = 1 - |i - c| / h,   h = (k+1)//2,   c = h - 1 for odd k, h - 0.5 for even k.

    Stride s wants a kernel of 2s. FCN's `surgery.py`. Shape (R,S,C,C), or (R,S,1,C) for groups=C.
    """
    rows, columns, c, k = shape
    if c not in (1, k):
        raise ValueError(f"bilinear: shape {shape} is neither (R,S,C,C) nor, for groups=C, (R,S,1,C)")
    if home() is not None:
        return _nothing(shape)
    tap = np.outer(*(_triangle(n) for n in (rows, columns)))
    return (tap[:, :, None, None] * (np.eye(k) if c == k else np.ones((1, k)))).astype(np.float32)


def _triangle(size):
    half = (size + 1) // 2
    centre = half - 1 if size % 2 else half - 0.5
    return 1 - np.abs(np.arange(size) - centre) / half


def identity(
    shape: tuple[int, int, int, int], groups: int | None = None, std: float = 0.0, seed: Seed = 0
) -> np.ndarray:
    """The convolution that changes nothing: 1 at the middle tap from each channel to itself. Yu & Koltun 2016.

    With `groups` (their classes) the channels of either side are cut into so many shares, and share i is mapped to
    share i: groups / K at the middle tap where floor(a groups / C) = floor(b groups / K), which keeps the sum over a
    share; the others N(0, std^2).
    """
    rows, columns, c, k = shape
    if rows % 2 == 0 or columns % 2 == 0:
        raise ValueError(f"identity: a filter of {rows}x{columns} taps has no middle; expected odd sizes")
    if home() is not None:
        return _nothing(shape)
    w = normal(shape, std, seed) if std else zeros(shape)
    if groups is None:
        w[rows // 2, columns // 2] = np.eye(c, k)
    else:
        own = np.arange(c)[:, None] * groups // c == np.arange(k) * groups // k
        w[rows // 2, columns // 2][own] = groups / k
    return w
