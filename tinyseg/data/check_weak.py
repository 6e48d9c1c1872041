"""`tinyseg check` of weak labels: which images have scribbles, points, boxes or tags, and whether they can be read."""

from .image import read_image
from .sample import DataError
from .voc import root_of
from .weak_files import labels_at, read_scribbles, read_voc_boxes

KINDS = ("scribbles", "points", "boxes", "tags")


def find_weak(report, items) -> set[str]:
    """The names of the images that have a weak label. Counts them in a `check.Report`, and reads each label once.

    VOC's Annotations/, which it has for other tasks, count as boxes where an image has no mask.
    """
    if report.labels is None:
        return set()
    names, images = report.labels.class_names, {item.name: item.image for item in items}
    bare = {item.name for item in items if item.mask is None}
    there = set()
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
                _read(kind, label, images[name], names)
                report.weak[kind] += 1
            except DataError as error:
                report.problems["weak labels"].append(str(error))
    return there


def _read(kind, label, image, names):
    """Raise DataError where a label cannot be read. That an image cannot be is told elsewhere."""
    if kind == "boxes":
        if not hasattr(label, "shape"):
            read_voc_boxes(label, names)
    elif kind != "tags" and image is not None:
        try:
            size = read_image(image).shape[:2]
        except DataError:
            return
        read_scribbles(label, size, names)
