"""Dropout of single values and of whole channels.

    y[i] = x[i] * keep[i] / (1 - p),     keep[i] = [hash(key, i) >= p 2^32]

Nothing is stored for backward but the key: whether value i is kept is a function of (key, i), a counter-based random
number (as in Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011, with a short integer hash in place of
their cipher). So the mask does not depend on the number of threads, and it costs no memory. The key is drawn from the
caller's generator, whose state a checkpoint keeps. Srivastava et al. 2014; channels: Tompson et al. 2015.
"""

import numpy as np
from numba import prange

from ..kernel import kernel
from ..tensor import Function, Tensor, tensor
from .checks import floats


def dropout(x, p=0.5, training=True, seed=None) -> Tensor:
    """Each value set to 0 with probability p, the others divided by 1 - p; x itself outside training.

    seed: a numpy.random.Generator, which advances by one draw a call, or an integer, which gives the same mask each
    time. Srivastava et al., "Dropout", 2014. SegNet's uncertainty: Kendall et al., "Bayesian SegNet", 2015.

    Shapes: x float of any shape -> the same.
    Raises ValueError: p outside [0, 1]. TypeError: in training without a seed.

    Example:
        y = ts.ops.dropout(x, 0.5, training=self.training, seed=self.seed)
    """
    return _dropout("dropout", x, p, training, seed)


def dropout2d(x, p=0.5, training=True, seed=None) -> Tensor:
    """Whole channels of each image set to 0 with probability p: x (N,H,W,C) -> the same. Else as `dropout`."""
    return _dropout("dropout2d", x, p, training, seed)


def _dropout(op, x, p, training, seed):
    if not 0 <= p <= 1:
        raise ValueError(f"{op}: p is {p}, expected a probability in [0, 1]")
    if not training:
        return x if isinstance(x, Tensor) else tensor(x)
    if isinstance(seed, np.random.Generator):
        seed = seed.integers(2**63)
    elif not isinstance(seed, int | np.integer):
        raise TypeError(
            f"{op}: seed is {type(seed).__name__}, expected a numpy.random.Generator or an integer; "
            "cure: seed=np.random.default_rng(0)"
        )
    return Dropout(op, p, int(seed))(x)


class Dropout(Function):
    """y = x * keep(key, counter) / (1 - p); the counter numbers values, or the channels of each image"""

    def __init__(self, op, p, seed):
        self.op, self.p = op, p
        self.key = np.random.SeedSequence(abs(seed)).generate_state(2, np.uint32)

    def forward(self, x):
        if self.device.capturing:
            raise RuntimeError(
                f"{self.op}: inside a graph every replay would drop the same values; cure: capture the model in "
                "evaluation mode, or train it without a graph"
            )
        x = floats(self.op, self.device, x)
        if self.op == "dropout2d":
            if x.ndim != 4:
                raise ValueError(f"dropout2d: x has shape {x.shape}, expected (N,H,W,C)")
            N, H, W, C = x.shape
            self.rows, self.repeat = (N * H * W, C), max(H * W, 1)  # H*W rows in turn share their counters
        else:
            width = next(w for w in (1024, 256, 64, 16, 4, 1) if x.size % w == 0)
            self.rows, self.repeat = (x.size // width, width), 1
        return self._mask(x)

    def backward(self, dy):
        return self._mask(self.device.xp.ascontiguousarray(dy).reshape(dy.shape))

    def _mask(self, x):
        y = self.device.empty(x.shape, x.dtype)
        factor = x.dtype.type(1 / (1 - self.p) if self.p < 1 else 0)
        threshold = np.uint32(min(int(self.p * 2**32), 2**32 - 1))
        self.device.launch(
            drop, y.reshape(self.rows), x.reshape(self.rows), factor, threshold, *self.key, self.repeat, *self.rows
        )
        return y


@kernel
def drop(y, x, factor, threshold, key0, key1, repeat, M, C):
    """y = factor * x where hash(key, counter) >= threshold, else 0. Parallel over rows.

    The hash is twice the finaliser of MurmurHash3 (Appleby 2011), a bijection of 32 bits in which each bit of the
    counter changes each bit of the result with probability near 1/2.
    """
    zero = x.dtype.type(0)
    for m in prange(M):
        first = np.uint32(np.int64(m) // repeat * C) + key0
        for c in range(C):
            h = np.uint32(first + np.uint32(c))
            h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
            h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
            h = np.uint32((h ^ (h >> np.uint32(16))) ^ key1)
            h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
            h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
            h = np.uint32(h ^ (h >> np.uint32(16)))
            y[m, c] = factor * x[m, c] if h >= threshold else zero
