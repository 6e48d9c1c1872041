"""Masks as runs: the encoding of the COCO data sets. Lin et al. 2014; the format is that of its annotation tools.

A mask (H, W) is read column after column; `counts` are the lengths of its runs, zeros first: 0 0 1 1 1 0 -> 2 3 1. As
text each count (from the fourth on: its difference to the one two before it) is written in groups of five bits, least
first, as the characters from '0' on; the sixth bit says that more follows.

Polygons become masks by COCO's rule: corners are rounded to fifths of a pixel, edges are walked there step by step,
and what they cross in the middle of a column turns that column's pixels below over.
"""

from collections.abc import Sequence

import numpy as np

SCALE = 5  # steps a pixel along the edges of a polygon
FAR = 1e6  # pixels: no corner lies farther out


def encode(mask: np.ndarray) -> np.ndarray:
    """The run lengths of a mask (H,W), int64; what is not 0 counts as 1."""
    flat = np.asarray(mask).astype(bool).T.reshape(-1)
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0] if flat.size and flat[0] else [], [0], turns, [flat.size]]).astype(np.int64)
    return np.diff(edges) if flat.size else np.zeros(0, np.int64)


def decode(counts: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask (H,W) uint8 of run lengths. Raises ValueError where they do not add up to H W."""
    counts, (height, width) = np.asarray(counts, np.int64), size
    if counts.ndim != 1 or (counts < 0).any() or counts.sum() != height * width:
        raise ValueError(
            f"rle: the runs cover {counts.sum()} pixels, the mask has {height} x {width} = {height * width} pixels"
        )
    flat = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def to_text(counts: np.ndarray) -> str:
    """Run lengths as COCO writes them in JSON ("compressed RLE")."""
    values = np.asarray(counts, np.int64).copy()
    values[3:] -= np.asarray(counts, np.int64)[1:-2]
    text = []
    for value in values.tolist():
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * more))
    return "".join(text)


def from_text(text: str | bytes) -> np.ndarray:
    """The run lengths of a COCO text. Raises ValueError for characters that cannot be in one."""
    codes = np.frombuffer(text.encode() if isinstance(text, str) else bytes(text), np.uint8).astype(np.int64) - 48
    if codes.size and not (0 <= codes.min() and codes.max() < 64 and codes[-1] < 32):
        raise ValueError(f"rle: {str(text)[:40]!r} is no compressed run-length encoding")
    counts, value, shift = [], 0, 0
    for code in codes.tolist():
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value, shift = 0, 0
    return np.array(counts, np.int64)


def from_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """The run lengths of the union of polygons, each x0 y0 x1 y1 ... in pixels (0, 0: the image's corner).

    Raises ValueError for a polygon of fewer than three corners, of an odd number of coordinates, not finite or far out.
    """
    whole = np.zeros(size, bool)
    for polygon in polygons:
        whole |= _polygon(polygon, size)
    return encode(whole)


def _polygon(polygon, size):
    """One polygon as a mask (H,W) bool."""
    height, width = size
    corners = np.asarray(polygon, np.float64).reshape(-1)
    if corners.size < 6 or corners.size % 2 or not np.isfinite(corners).all():
        raise ValueError(f"rle: a polygon of {corners.size} coordinates, expected x0 y0 x1 y1 x2 y2 ..., finite")
    if np.abs(corners).max() > FAR:
        raise ValueError(f"rle: a polygon reaches to {np.abs(corners).max():.4g}, expected coordinates in pixels")
    corners = np.trunc(SCALE * corners.reshape(-1, 2) + 0.5).astype(np.int64)
    u, v = (np.concatenate(a) for a in zip(*(_edge(a, b) for a, b in zip(corners, np.roll(corners, -1, axis=0)))))
    step = np.flatnonzero(u[1:] != u[:-1]) + 1
    x = (np.minimum(u[step], u[step - 1]) + 0.5) / SCALE - 0.5
    y = np.ceil(np.clip((np.minimum(v[step], v[step - 1]) + 0.5) / SCALE - 0.5, 0, height))
    counted = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    turns = (x[counted] * height + y[counted]).astype(np.int64)
    odd = np.bincount(turns, minlength=height * width + 1)[: height * width] & 1
    return (np.cumsum(odd) & 1).astype(bool).reshape(width, height).T


def _edge(a, b):
    """The points of an edge, one a step along its longer side, from a to b."""
    (xs, ys), (xe, ye) = a.tolist(), b.tolist()
    dx, dy = abs(xe - xs), abs(ye - ys)
    back = xs > xe if dx >= dy else ys > ye  # always computed from the lower end, so that both ways round off alike
    if back:
        (xs, ys), (xe, ye) = (xe, ye), (xs, ys)
    t = np.arange(max(dx, dy) + 1)
    t = t[::-1] if back else t
    if dx >= dy:
        return t + xs, np.trunc(ys + (ye - ys) / max(dx, 1) * t + 0.5).astype(np.int64)
    return np.trunc(xs + (xe - xs) / dy * t + 0.5).astype(np.int64), t + ys


def area(counts: np.ndarray) -> int:
    """How many pixels a mask has."""
    return int(np.asarray(counts)[1::2].sum())


def box(counts: np.ndarray, height: int) -> list[float]:
    """x, y, width, height of the box around a mask, as COCO writes it; all 0 for an empty mask."""
    start, end = _runs(counts)
    if not len(start):
        return [0.0, 0.0, 0.0, 0.0]
    first, last = start // height, (end - 1) // height
    top = 0 if (first != last).any() else int((start % height).min())
    bottom = height - 1 if (first != last).any() else int(((end - 1) % height).max())
    return [float(first.min()), float(top), float(last.max() - first.min() + 1), float(bottom - top + 1)]


def intersection(a: np.ndarray, b: np.ndarray) -> int:
    """How many pixels two masks of one size have in common."""
    (start, end), (other_start, other_end) = _runs(a), _runs(b)
    if not len(start) or not len(other_start):
        return 0
    before = np.concatenate([[0], np.cumsum(end - start)])

    def covered(position):  # pixels of a in front of a position
        run = np.searchsorted(start, position, side="right")
        inside = np.maximum(end[run - 1] - position, 0) * (run > 0)
        return before[run] - inside

    return int((covered(other_end) - covered(other_start)).sum())


def _runs(counts):
    """Where the runs of ones begin and end; runs of no pixel are left out."""
    edges = np.cumsum(np.asarray(counts, np.int64))
    end = edges[1::2]
    start = edges[0::2][: len(end)]
    some = end > start
    return start[some], end[some]
