"""Weak labels made from masks, as a person would give them in seconds: scribbles, points, boxes, tags.

A scribble follows the middle of a thing: with D the distance to its edge, the path between its two ends (the pixels
furthest apart when walking inside it) that is cheapest at a price of D^-2 a pixel. It is smoothed, sways by a part of D
as a hand does, and loses a tenth at both ends, which leaves more than the 70 % of the longer side that annotators of
ScribbleSup were asked for. Everything is a function of the mask and of a seed.
"""

import heapq
import math
from itertools import pairwise

import numpy as np

from ..components import connected_components
from ..distance import distance_transform
from .sample import IGNORE

LEAST = 0.002  # things smaller than this part of the image are passed over, unless they are the largest of their class
GRID = 64  # paths are sought on a grid of at most so many cells a side


def scribbles(
    mask: np.ndarray, instances: np.ndarray | None = None, length: float = 1.0, width: int = 3, seed=0
) -> np.ndarray:
    """One scribble for each thing: each instance, and of classes without instances each connected part.

    length: the part of the whole scribble that is drawn, at a random place of it; 0 leaves a spot. width: of the brush,
    in pixels. seed: an integer or a sequence of them.
    Shapes: mask, instances (H,W) integers -> (H,W) int32 class ids, 255 = not labelled.
    Raises ValueError: a length outside of [0, 1], a width under 1.
    Example: scribbles(sample.mask, sample.instances, length=0.5, seed=7)
    """
    if not 0 <= length <= 1 or width < 1:
        raise ValueError(f"scribbles: length={length}, width={width}; expected a part in [0, 1] and pixels >= 1")
    rng = np.random.default_rng(seed)
    drawn = np.full(mask.shape, IGNORE, np.int32)
    for k, window, thing in things(mask, instances):
        path = _part(_path(thing, rng), length, rng)
        inside = drawn[window]
        inside[_stroke(path, thing, width)] = k
    return drawn


def points(mask: np.ndarray, instances: np.ndarray | None = None, seed=0) -> np.ndarray:
    """One point for each thing, well inside it: among its pixels at least 0.7 as deep as its deepest, a random one.

    Shapes: mask, instances (H,W) integers -> (P,3) int64: class, x, y in pixels.
    """
    rng, found = np.random.default_rng(seed), []
    for k, window, thing in things(mask, instances):
        depth = _depth(thing)
        y, x = np.nonzero(depth >= 0.7 * depth.max())
        i = int(rng.integers(len(y)))
        found.append((k, int(x[i]) + window[1].start, int(y[i]) + window[0].start))
    return np.array(found, np.int64).reshape(-1, 3)


def boxes(mask: np.ndarray, instances: np.ndarray | None = None, background: int | None = 0) -> np.ndarray:
    """The box of each thing. background: the class that gets none; None: every class gets boxes.

    Shapes: mask, instances (H,W) integers -> (B,5) float32: x1, y1, x2, y2 in pixels (the edges of the outermost
    pixels), class.
    """
    found = [
        (columns.start, rows.start, columns.stop, rows.stop, k)
        for k, (rows, columns), _ in things(mask, instances)
        if k != background
    ]
    return np.array(found, np.float32).reshape(-1, 5)


def tags(mask: np.ndarray, num_classes: int) -> np.ndarray:
    """Which classes a mask holds, the background among them; 255 is none.

    Shapes: mask (H,W) integers -> (K,) bool.
    """
    return np.bincount(mask[mask != IGNORE].reshape(-1), minlength=num_classes)[:num_classes] > 0


def things(mask: np.ndarray, instances: np.ndarray | None = None):
    """(class, window, (h,w) bool) for each thing that is large enough, class by class, each class in reading order.

    A thing is an instance, or of what has none each connected part; the window is its rows and columns in the mask.
    Things under `LEAST` of the image are passed over, unless they are the largest of their class.
    """
    found = []
    for k in np.unique(mask[mask != IGNORE]).tolist():
        of_class = mask == k
        parts = connected_components(of_class if instances is None else of_class & (instances == 0))
        if instances is not None:
            own = np.unique(instances[of_class & (instances > 0)])
            number = np.searchsorted(own, instances) + 1 + parts.max()
            parts = np.where(of_class & (instances > 0), number, parts)
        areas = np.bincount(parts.reshape(-1))
        areas[0] = 0
        if not areas.any():
            continue
        for part in np.flatnonzero((areas >= LEAST * mask.size) | (areas == areas.max())).tolist():
            if areas[part]:
                where = parts == part
                rows, columns = (np.flatnonzero(where.any(axis=axis)) for axis in (1, 0))
                window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                found.append((k, window, where[window]))
    return found


def _depth(thing):
    """The distance to the nearest pixel outside, the image's edge being outside too."""
    return distance_transform(~np.pad(thing, 1))[1:-1, 1:-1]


def _path(thing, rng):
    """(P,2) float (y, x): the whole scribble of a thing, in its window."""
    depth = _depth(thing)
    side = max(1, -(-max(thing.shape) // GRID))
    rows, columns = (-(-n // side) for n in thing.shape)
    padded = np.zeros((rows * side, columns * side), np.float32)
    padded[: thing.shape[0], : thing.shape[1]] = np.where(thing, depth, 0)
    cells = padded.reshape(rows, side, columns, side).transpose(0, 2, 1, 3).reshape(rows, columns, side * side)
    deepest = cells.argmax(axis=2)
    y = np.arange(rows)[:, None] * side + deepest // side
    x = np.arange(columns)[None, :] * side + deepest % side
    grid = cells.max(axis=2)
    middle = np.unravel_index(grid.argmax(), grid.shape)
    even = (grid > 0).astype(np.float64)
    one = _cheapest(even, middle)[0]
    two = _cheapest(even, one)[0]
    at = tuple(np.array(_cheapest(grid.astype(np.float64) ** 2, one, two)).T)
    return _sway(np.stack([y[at], x[at]], axis=1).astype(np.float64), depth, rng)


def _cheapest(speed, start, goal=None):
    """Dijkstra over the 8 neighbours of a grid, a step at length / speed: the way back from the last cell reached.

    Cells are numbers in a grid with a border of zeros around it, in lists: Python reads those several times as fast as
    single elements of arrays.
    """
    row = speed.shape[1] + 2
    v = np.pad(speed, 1).reshape(-1).tolist()
    steps = [(dy * row + dx, 2 * math.hypot(dy, dx)) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    start, goal = (None if at is None else (int(at[0]) + 1) * row + int(at[1]) + 1 for at in (start, goal))
    cost, done, came_from = [math.inf] * len(v), [False] * len(v), {}
    cost[start], last, queue = 0.0, start, [(0.0, start)]
    while queue:
        price, at = heapq.heappop(queue)
        if done[at]:
            continue
        done[at], last = True, at
        if at == goal:
            break
        for step, length in steps:
            there = at + step
            if v[there] > 0 and not done[there]:
                ahead = price + length / (v[there] + v[at])
                if ahead < cost[there]:
                    cost[there], came_from[there] = ahead, at
                    heapq.heappush(queue, (ahead, there))
    back = [last]
    while back[-1] != start:
        back.append(came_from[back[-1]])
    return [(at // row - 1, at % row - 1) for at in back]


def _sway(path, depth, rng):
    """The path smoothed, and moved sideways by a slow wave of up to 0.4 of the depth there."""
    if len(path) < 3:
        return path
    smooth = path.copy()
    for _ in range(2):
        smooth[1:-1] = (smooth[:-2] + 2 * smooth[1:-1] + smooth[2:]) / 4
    along = np.gradient(smooth, axis=0)
    side = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    turns, phase = rng.uniform(0.5, 1.5), rng.uniform(0, 2 * np.pi)
    wave = np.sin(2 * np.pi * turns * np.linspace(0, 1, len(path)) + phase)
    at = tuple(np.rint(smooth).astype(int).T)
    return smooth + 0.4 * (rng.uniform(-1, 1) * wave * depth[at])[:, None] * side


def _part(path, length, rng):
    """The middle 0.8 of a path, and of that a part of the given length at a random place."""
    travelled = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    begin, whole = 0.1 * travelled[-1], 0.8 * travelled[-1]
    begin += rng.uniform(0, 1) * (1 - length) * whole
    at = np.linspace(begin, begin + length * whole, max(2, math.ceil(length * whole) + 1))
    return np.stack([np.interp(at, travelled, path[:, axis]) for axis in (0, 1)], axis=1)


def _stroke(path, thing, width):
    """Where a brush of this width paints along a path, within the thing; at least one pixel."""
    painted = np.zeros(thing.shape, bool)
    reach = np.arange(width) - (width - 1) // 2
    dy, dx = (d.reshape(-1) for d in np.meshgrid(reach, reach, indexing="ij"))
    round_ = np.hypot(dy, dx) <= max(width / 2, 0.5)
    for y, x in line(path):
        i, j = y + dy[round_], x + dx[round_]
        inside = (i >= 0) & (i < thing.shape[0]) & (j >= 0) & (j < thing.shape[1])
        painted[i[inside], j[inside]] = True
    painted &= thing
    if not painted.any():
        painted[np.unravel_index(_depth(thing).argmax(), thing.shape)] = True
    return painted


def line(path) -> np.ndarray:
    """The pixels (y, x) of a polyline, each step at most one pixel long. (P,2) -> (Q,2) int64."""
    pieces = [np.rint(np.asarray(path, np.float64)[:1])]
    for a, b in pairwise(np.asarray(path, np.float64)):
        steps = max(1, math.ceil(np.abs(b - a).max()))
        pieces.append(np.rint(a + (b - a) * (np.arange(1, steps + 1) / steps)[:, None]))
    return np.concatenate(pieces).astype(np.int64)
