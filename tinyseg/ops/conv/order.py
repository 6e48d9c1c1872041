"""In which order the direct algorithm computes pixels, where much of a filter lies in the padding.

A tap that none of a tile's pixels sees is left out. As pixels lie, a tile spans half a row, and from one end of it or
the other nearly every tap is seen; where dilation is large, as in atrous spatial pyramid pooling, tiles of pixels that
see the same taps leave out more: of 3x3 taps 6 apart on 16x16 pixels 0.56 are inside the image, and 0.75 are seen from
tiles of eight pixels as they lie.
"""

from functools import lru_cache

import numpy as np

NO_ORDER = np.empty(0, np.int64)  # as they lie
WORTH = 0.9  # the share of the products up to which another order is taken


@lru_cache(maxsize=64)
def order_by_taps(N, AH, AW, OH, OW, R, S, num, off, inc, tile: int) -> np.ndarray:
    """The numbers of (N,OH,OW) pixels in the order to compute them in, tiles of so many; `NO_ORDER` for as they lie.

    Pixel o sees tap r where 0 <= o num + off + r inc < A, in both directions. Pixels that see the same taps follow one
    another, and such groups follow as they lie, so that shares of the order, as of the picture, cost about as much.
    """
    rows = _sees(OH, AH, R, num[0], off[0], inc[0])
    columns = _sees(OW, AW, S, num[1], off[1], inc[1])
    spans = np.maximum.reduceat(columns, np.arange(0, OW, tile))
    if columns.mean() > WORTH * spans.mean():
        return NO_ORDER
    group = _groups(rows)[:, None] * OW + _groups(columns)
    order = np.argsort(np.broadcast_to(group, (N, OH, OW)), axis=None, kind="stable")
    order.setflags(write=False)  # the next convolution of this form gets it too
    return order


def _sees(pixels, size, taps, num, off, inc):
    """(pixels, taps) bool: which taps a row or column of pixels sees."""
    at = np.arange(pixels)[:, None] * num + off + np.arange(taps) * inc
    return (0 <= at) & (at < size)


def _groups(seen):
    """The number of the group of each row or column: a new one where other taps are seen than before."""
    return np.r_[0, np.cumsum((seen[1:] != seen[:-1]).any(axis=1))]
