"""`tinyseg check` of weak labels: which images have scribbles, points, boxes or tags, and whether they can be read."""

from .image import read_image
from .sample import IGNORE, DataError
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
    if kind == "boxes" and not hasattr(label, "shape"):
        where, label = label, read_voc_boxes(label, names)
    else:
        where = label if kind in ("scribbles", "points") else f"{kind} of {image}"
    if kind == "tags" or image is None:
        return
    try:
        height, width = read_image(image).shape[:2]
    except DataError:
        return
    if kind == "boxes":
        outside = (label[:, 2] > width + 1).any() or (label[:, 3] > height + 1).any()
    else:
        drawn = read_scribbles(label, (height, width), names)
        outside = label.suffix != ".png" and label.stat().st_size > 0 and (drawn == IGNORE).all()
    if outside:
        what = "a box ends beyond" if kind == "boxes" else "nothing of it lies inside"
        raise DataError(f"{where}: {what} the image of {width} x {height} pixels; are x and y exchanged?")
