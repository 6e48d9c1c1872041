"""`tinyseg check` of weak labels: which images have scribbles, points, boxes or tags, and whether they can be read."""

from functools import cache
from pathlib import Path

from .image import read_image
from .sample import IGNORE, DataError
from .voc import root_of
from .weak_files import labels_at, read_scribbles, read_voc_boxes

KINDS = ("scribbles", "points", "boxes", "tags")
EXCHANGED = "are x and y exchanged?"


def find_weak(report, items) -> set[str]:
    """The names of the images that have a weak label. Counts them in a `check.Report`, and reads each label once.

    VOC's Annotations/, which it has for other tasks, count as boxes where an image has no mask.
    """
    if report.labels is None:
        return set()
    names, images = report.labels.class_names, {item.name: item.image for item in items}
    bare = {item.name for item in items if item.mask is None}
    there = set()

    @cache
    def size_of(image):
        """(height, width), or None where there is no image, or none that can be read: that is told elsewhere."""
        try:
            return None if image is None else read_image(image).shape[:2]
        except DataError:
            return None

    for kind in KINDS:
        try:
            found = labels_at(report.path, (kind,), names)[kind]
            if kind == "boxes" and not found:
                voc = labels_at(report.path, (kind,), names, root_of(report.path) / "Annotations")[kind]
                found = {name: label for name, label in voc.items() if name in bare}
        except DataError as error:
            report.problems["weak labels"].append(str(error))
            continue
        lost = [f"{kind} of {name}" for name in found if name not in images]
        if lost and kind != "boxes":  # whose files often list more than there is
            report.problems["weak label without image"] += lost
        there |= found.keys() & images.keys()
        for name in found.keys() & images.keys():
            label = found[name]
            try:
                _read(kind, label, images[name], names, size_of)
                report.weak[kind] += 1
            except DataError as error:
                report.problems["weak labels"].append(str(error))
    return there


def _read(kind, label, image, names, size_of):
    """Raise DataError where a label cannot be read or is not of the image."""
    where = f"{kind} of {image}"
    if kind == "boxes" and isinstance(label, Path):
        where, label = label, read_voc_boxes(label, names)
    if kind == "tags" or (size := size_of(image)) is None:
        return
    height, width = size
    if kind == "boxes":
        if (label[:, 2] > width + 1).any() or (label[:, 3] > height + 1).any():
            raise DataError(f"{where}: a box ends beyond the image of {width} x {height} pixels; {EXCHANGED}")
        return
    drawn = read_scribbles(label, size, names)
    if label.suffix != ".png" and label.stat().st_size and (drawn == IGNORE).all():
        raise DataError(f"{label}: nothing of it lies inside the image of {width} x {height} pixels; {EXCHANGED}")
