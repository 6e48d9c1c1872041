"""The objects of one picture: a class, a box and a mask each, which may overlap.

Masks are kept as the pixels inside their boxes, so that hundreds of objects in a large picture need little memory.
Transforms move them through label maps: objects that do not touch each other share one, so a picture needs few.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .sample import DataError, Sample


@dataclass(frozen=True)
class Objects:
    """What is to be found in a picture of size (H, W).

    Shapes: labels (G,) int32 class ids from 1; boxes (G,4) float32, x1 y1 x2 y2 in pixels; bits: G arrays of uint8, the
        masks inside places (G,4) int32 = top, left, rows, columns; crowd (G,) bool: a group that is not counted;
        areas (G,) float64 pixels.
    Raises: DataError where a box is empty, lies outside, or is not finite; the message names the picture and the box.
    Example: Objects.of((480, 640), labels=[1], masks=mask[None])
    """

    size: tuple[int, int]
    labels: np.ndarray
    boxes: np.ndarray
    bits: tuple[np.ndarray, ...]
    places: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    name: str = ""

    def __post_init__(self):
        check_boxes(self.boxes, self.size, f"'{self.name}'")

    @staticmethod
    def of(size, labels: Sequence[int], masks: Sequence[np.ndarray], boxes=None, crowd=None, areas=None,
           name: str = "") -> "Objects":
        """From whole masks (G,H,W) or a list of (H,W). Without boxes they are those of the masks, and objects without
        a pixel are left out; boxes that are given must lie inside the picture.
        """
        cut = [patch(mask) for mask in masks]
        places = np.array([place for _, place in cut], np.int32).reshape(-1, 4)
        labels, count = np.asarray(labels, np.int32).reshape(-1), len(cut)
        if len(labels) != count or any(np.shape(m) != tuple(size) for m in masks):
            raise DataError(f"'{name}': {len(labels)} labels, masks {[np.shape(m) for m in masks][:3]}: expected one "
                            f"label for each mask of {tuple(size)}")
        crowd = np.zeros(count, bool) if crowd is None else np.asarray(crowd, bool).reshape(-1)
        pixels = np.array([int(bits.sum()) for bits, _ in cut], np.float64)
        areas = pixels if areas is None else np.asarray(areas, np.float64).reshape(-1)
        keep = np.arange(count) if boxes is not None else np.flatnonzero(pixels > 0)
        boxes = boxes_of(places) if boxes is None else np.asarray(boxes, np.float32).reshape(-1, 4)
        if not len(crowd) == len(areas) == len(boxes) == count:
            raise DataError(f"'{name}': {count} masks, {len(boxes)} boxes, {len(crowd)} crowd flags, "
                            f"{len(areas)} areas: expected one each")
        return Objects(tuple(size), labels[keep], boxes[keep], tuple(cut[k][0] for k in keep), places[keep],
                       crowd[keep], areas[keep], name)

    @staticmethod
    def from_instances(instances: np.ndarray, mask: np.ndarray | None = None, name: str = "") -> "Objects":
        """The objects 1, 2, ... of an id map (H,W); the class of each is the commonest in the mask, else 1.

        Objects whose commonest class is 0 or 255 are left out.
        """
        ids, flat = np.unique(instances, return_inverse=True)
        flat, (height, width) = flat.reshape(instances.shape), instances.shape
        chosen = np.flatnonzero(ids > 0)
        top, left = np.full(len(ids), height), np.full(len(ids), width)
        bottom, right = np.zeros(len(ids), int), np.zeros(len(ids), int)
        rows, columns = np.indices(instances.shape, sparse=True)
        np.minimum.at(top, flat, np.broadcast_to(rows, flat.shape))
        np.maximum.at(bottom, flat, np.broadcast_to(rows, flat.shape) + 1)
        np.minimum.at(left, flat, np.broadcast_to(columns, flat.shape))
        np.maximum.at(right, flat, np.broadcast_to(columns, flat.shape) + 1)
        labels, bits, places = [], [], []
        for k in chosen:
            window = np.s_[top[k]:bottom[k], left[k]:right[k]]
            inside = flat[window] == k
            label = 1 if mask is None else int(np.bincount(mask[window][inside]).argmax())
            if label not in (0, 255):
                labels.append(label)
                bits.append(inside.astype(np.uint8))
                places.append([top[k], left[k], *inside.shape])
        places = np.array(places, np.int32).reshape(-1, 4)
        areas = np.array([b.sum() for b in bits], np.float64)
        return Objects((height, width), np.array(labels, np.int32), boxes_of(places), tuple(bits), places,
                       np.zeros(len(labels), bool), areas, name)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All arrays."""
        return (self.labels, self.boxes, *self.bits, self.places, self.crowd, self.areas)

    def take(self, which) -> "Objects":
        """Some of the objects, by number or by a flag each."""
        which = np.flatnonzero(which) if np.asarray(which).dtype == bool else np.asarray(which, np.int64)
        return Objects(self.size, self.labels[which], self.boxes[which], tuple(self.bits[k] for k in which),
                       self.places[which], self.crowd[which], self.areas[which], self.name)

    def mask(self, k: int) -> np.ndarray:
        """The whole mask of object k, (H, W) uint8."""
        whole = np.zeros(self.size, np.uint8)
        top, left, rows, columns = self.places[k]
        whole[top:top + rows, left:left + columns] = self.bits[k]
        return whole

    def layers(self) -> list[np.ndarray]:
        """Label maps (H,W) int32 that hold all objects, k + 1 where object k is; few, as most do not overlap."""
        maps = []
        for k, (bits, (top, left, rows, columns)) in enumerate(zip(self.bits, self.places)):
            window, inside = np.s_[top:top + rows, left:left + columns], bits > 0
            free = next((m for m in maps if not m[window][inside].any()), None)
            if free is None:
                maps.append(np.zeros(self.size, np.int32))
                free = maps[-1]
            free[window][inside] = k + 1
        return maps

    def instances(self) -> np.ndarray:
        """An id map (H,W) int32, 0 = none, 1.. = the objects in order; where they overlap the smaller one is seen."""
        whole = np.zeros(self.size, np.int32)
        for k in np.argsort(-np.array([int(b.sum()) for b in self.bits]), kind="stable"):
            top, left, rows, columns = self.places[k]
            whole[top:top + rows, left:left + columns][self.bits[k] > 0] = k + 1
        return whole

    def map(self, on_labels: Callable[[np.ndarray, int], np.ndarray]) -> "Objects":
        """The objects where a transform of label maps, on_labels(map, outside), takes them.

        Boxes become those of the masks; what has left the picture is dropped.
        """
        moved = [on_labels(layer, 0) for layer in self.layers()]
        if not moved:
            size = on_labels(np.zeros(self.size, np.int32), 0).shape
            empty = np.zeros((0, 4))
            return Objects(size, self.labels[:0], empty.astype(np.float32), (), empty.astype(np.int32),
                           self.crowd[:0], self.areas[:0], self.name)
        found = {}
        for layer in moved:
            part = Objects.from_instances(layer)
            ids = [int(layer[t:t + r, l:l + c][b > 0][0]) - 1 for b, (t, l, r, c) in zip(part.bits, part.places)]
            found |= {k: (b, p) for k, b, p in zip(ids, part.bits, part.places)}
        kept = np.array(sorted(found), np.int64)
        places = np.array([found[k][1] for k in kept], np.int32).reshape(-1, 4)
        bits = tuple(found[k][0] for k in kept)
        areas = np.array([b.sum() for b in bits], np.float64)
        return Objects(moved[0].shape, self.labels[kept], boxes_of(places), bits, places, self.crowd[kept], areas,
                       self.name)


def objects_of(sample: Sample) -> Objects:
    """The objects of a sample: those it has, else those of its instances, whose classes the mask tells.

    Raises: DataError for a sample that has neither.
    Example: objects_of(Shapes()[0]).boxes
    """
    if sample.objects is not None:
        return sample.objects
    if sample.instances is None:
        raise DataError(f"'{sample.name}' has a mask, but nothing says which pixels are one object: add instances/ "
                        "with a number for each object, or COCO annotations")
    return Objects.from_instances(sample.instances, sample.mask, sample.name)


def patch(mask: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The part of a mask (H,W) inside its box, uint8, and the box: top, left, rows, columns; all 0 without a pixel."""
    inside = np.asarray(mask) > 0
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return np.zeros((0, 0), np.uint8), [0, 0, 0, 0]
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return inside[top:bottom, left:right].astype(np.uint8), [top, left, bottom - top, right - left]


def boxes_of(places: np.ndarray) -> np.ndarray:
    """x1 y1 x2 y2, (G,4) float32, of places (G,4) = top, left, rows, columns."""
    top, left, rows, columns = np.asarray(places, np.float32).reshape(-1, 4).T
    return np.stack([left, top, left + columns, top + rows], axis=1)


def check_boxes(boxes: np.ndarray, size: tuple[int, int], where: str, slack: float = 1.0) -> None:
    """Raise DataError naming the first box that is not finite, is empty, or lies outside of (H,W) by > slack pixels."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{where}: boxes have shape {boxes.shape}, expected (G,4): x1 y1 x2 y2")
    x1, y1, x2, y2 = boxes.T
    height, width = size
    with np.errstate(invalid="ignore"):
        problems = [
            (~np.isfinite(boxes).all(1), "is not finite", "annotate it anew, or leave it out"),
            ((x2 <= x1) | (y2 <= y1), "has x2 <= x1 or y2 <= y1",
             "boxes are x1 y1 x2 y2; if these are x y width height, add x and y to the last two"),
            ((x1 < -slack) | (y1 < -slack) | (x2 > width + slack) | (y2 > height + slack),
             f"lies outside of the image, {height} x {width} (height x width)",
             "boxes are x1 y1 x2 y2 in pixels of this image; clip them, or convert them from x y width height"),
        ]
    for bad, what, cure in problems:
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            raise DataError(f"{where}: box {k} is {[round(float(v), 3) for v in boxes[k]]}, which {what}; cure: {cure}")
