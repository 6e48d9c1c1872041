"""What the numbers in mask files mean: which of them is which class, and what the classes are called."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .image import has_palette, header, listed, read_index, read_text
from .sample import IGNORE, DataError

CLASS_FILES = ("classes.txt", "class_names.txt")
SURVEY = 200  # files to look at, spread over the set, where nothing says what they hold


@dataclass(frozen=True)
class Labels:
    """Class names, and what the numbers in a mask file stand for.

    meaning: "classes": a number is a class id, 255 is ignore; "binary": 0 is class 0, 255 (or 1) is class 1;
        "instances": 0 is class 0, and each other number is one object of class 1.
    ignore_label: one more number that means ignore. colours: (K, 3), the colour of each class in masks saved as RGB.
    remark: how this was found out, where it was guessed.

    Raises: ValueError for another meaning or fewer than two classes.
    Example: Folder("cells", labels=Labels(("background", "cell"), "instances"))
    """

    class_names: tuple[str, ...]
    meaning: str = "classes"
    ignore_label: int | None = None
    colours: np.ndarray | None = None
    remark: str = ""

    def __post_init__(self):
        if self.meaning not in ("classes", "binary", "instances"):
            raise ValueError(f"Labels: meaning is {self.meaning!r} but 'classes', 'binary' or 'instances' is expected")
        if len(self.class_names) < 2 or (self.meaning != "classes" and len(self.class_names) > 2):
            raise ValueError(f"Labels: {len(self.class_names)} class names for masks of {self.meaning}, but two are "
                             "expected, or more where the masks hold class ids")

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """The class id of each number, 255 = ignore, -1 where the number means nothing. int32, the shape of numbers."""
        if self.meaning == "instances":
            return (numbers > 0).astype(np.int32)
        if self.meaning == "binary":
            return np.select([numbers == 255, numbers <= 1], [1, numbers], -1).astype(np.int32)
        ids = np.where((numbers < len(self.class_names)) | (numbers == IGNORE), numbers, -1).astype(np.int32)
        if self.ignore_label is not None:
            ids[numbers == self.ignore_label] = IGNORE
        return ids

    def has_instances(self, file: Path | None) -> bool:
        """Whether the objects of a mask are known: from a file of their own, or since its numbers are objects."""
        return file is not None or self.meaning == "instances"

    def read(self, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """The mask in a file, (H, W) int32, and its instances or None; DataError where a number means nothing."""
        numbers = read_index(path, self.colours)
        mask = self.of(numbers)
        if (mask < 0).any():
            expected = "0 and 255" if self.meaning == "binary" else f"0..{len(self.class_names) - 1}, 255 = ignore"
            raise DataError(f"{path}: the mask holds {listed(np.unique(numbers[mask < 0]))} but there are "
                            f"{len(self.class_names)} classes ({expected}): name all classes in classes.txt, or "
                            "renumber the mask")
        return mask, numbers if self.meaning == "instances" else None


def labels_from_files(path: Path, masks: list[Path]) -> Labels:
    """What classes.txt says, and where it leaves something open, what the masks show.

    Without names, 16-bit masks hold instances, and others the classes 0..max. Masks of nothing but 0 and 255 are
    binary, unless they have palettes: there 255 is VOC's border.

    Raises: DataError where a mask cannot be read, or the numbers are no class ids.
    """
    named = class_file(path)
    names, colours = read_classes(named) if named else (None, None)
    if names is not None and len(names) > 2:
        return Labels(names, colours=colours)
    some = evenly(masks, SURVEY)
    if names is None and any(header(mask)[0].startswith("I") for mask in some):
        return Labels(("background", "object"), "instances",
                      remark="16-bit masks and no classes.txt: each number is read as one object of a single class")
    values = set().union(*(np.unique(read_index(mask, colours)).tolist() for mask in some))
    if values == {0, 255} and not all(has_palette(mask) for mask in some):
        return Labels(names or ("background", "foreground"), "binary",
                      remark="the masks hold 0 and 255: read as class 0 and class 1")
    if names is not None:
        return Labels(names, colours=colours)
    return _numbered(path, sorted(values - {IGNORE}))


def _numbered(path, values):
    """The classes 0..max, where the values look like class ids."""
    count = max(2, max(values, default=1) + 1)
    if count > 8 and 2 * len(values) < count:  # 0, 128, 255 and the like: grey levels, or colours that became numbers
        raise DataError(f"{path}: the masks hold {listed(values)}, which look like grey levels, not like class ids "
                        "0, 1, 2 ...: renumber them, or name all classes in classes.txt")
    if not values:
        return Labels(("background", "class 1"),
                      remark="no classes.txt, and no mask that shows more: two classes; more are named in classes.txt")
    return Labels(("background", *(f"class {k}" for k in range(1, count))),
                  remark=f"no classes.txt, and the masks hold {listed(values)}: {count} classes")


def class_file(path: Path) -> Path | None:
    """The file with the class names, classes.txt or class_names.txt, or None."""
    return next((path / name for name in CLASS_FILES if (path / name).is_file()), None)


def read_classes(path: Path) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Class names, and their colours or None, from classes.txt: a line 'name' or 'name red green blue' each.

    Dropped are a number before the name ('0 road'), a bracket behind it, and lines '255 void' or '__ignore__'.
    Example: read_classes(Path("classes.txt")) -> (("background", "cell"), None)
    """
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    lines = [line for line in lines if line != "__ignore__" and not re.match(r"255\s+[^\d\s]", line)]
    if all(re.match(rf"{i}\s+[^\d\s]", line) for i, line in enumerate(lines)):
        lines = [line.split(None, 1)[1] for line in lines]
    coloured = [re.fullmatch(r"(.*?)[\s,:]+(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})", line) for line in lines]
    colours = None
    if lines and all(coloured):
        lines = [found[1] for found in coloured]
        colours = np.array([[int(v) for v in found.groups()[1:]] for found in coloured])
        if colours.max() > 255:
            raise DataError(f"{path}: a colour is {colours.max()} but red, green and blue lie in 0..255")
    if len(lines) < 2:
        raise DataError(f"{path}: {len(lines)} class names but 2 or more are expected, one a line, background included")
    return tuple(re.sub(r"\s*\([^)]*\)$", "", line).strip("_") or line for line in lines), colours


def evenly(things: list, most: int) -> list:
    """At most so many of the things, spread over the whole list."""
    return things if len(things) <= most else [things[k * len(things) // most] for k in range(most)]
