"""Folders of images and masks: the layout to use for a data set of your own.

    DIR/images/a.jpg  DIR/masks/a.png  [DIR/instances/a.png]  [DIR/train.txt  DIR/val.txt]  [DIR/classes.txt]

or with a folder for each split: images/train + masks/train, or train/images + train/masks, or train + trainannot.
"""

from pathlib import Path

import numpy as np

from .files import (SPLITS, SURVEY, Files, Item, by_stem, channels_of, class_file, evenly, pair, read_classes, split_names,
                    text_splits)
from .image import _list, has_palette, header, read_index, say
from .sample import IGNORE, DataError


class Folder(Files):
    """A folder of images and masks with equal file names.

    split: "train", "val", ... as in `<split>.txt` (a name a line) or a folder of that name; without such files every fifth
        image is val and the others are train; "all" takes everything.
    masks: "classes", "binary" (0/255) or "instances" (each object its number); by default this is seen from the files:
        16-bit masks without classes.txt are instances, masks of nothing but 0 and 255 are binary (and a message says so).
    Without classes.txt the classes are 0..max over the masks of all splits. scale, size: see `Files`.

    Raises: DataError where files are missing or masks cannot be understood.
    Example: Folder("isbi2012", split="val")[0].mask
    """

    expects = "images/ + masks/ with equal file names; optional train.txt, val.txt, classes.txt, instances/"

    def __init__(self, path: str | Path, split: str = "train", *, masks: str | None = None, scale: float | None = None,
                 size: int | tuple[int, int] | None = None, in_channels: int | None = None):
        path = Path(path)
        everything = self.items(path, "all")
        names, colours = read_classes(found) if (found := class_file(path)) else (None, None)
        meaning, names = _understand(path, [i.mask for i in everything if i.mask is not None], masks, names, colours)
        super().__init__(self.items(path, split), names, scale=scale, size=size, meaning=meaning, colours=colours,
                         in_channels=in_channels or channels_of([i.image for i in everything if i.image is not None]),
                         where=f"{path} ({split})")

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the directories of this layout are there."""
        return _room(path) is not None or any(_room(path, split) for split in SPLITS)

    @staticmethod
    def splits(path: Path) -> list[str]:
        """The splits that can be asked for, beside 'all'."""
        return [split for split in SPLITS if _room(path, split)] or text_splits(path)

    @staticmethod
    def items(path: Path, split: str) -> list[Item]:
        """The files of a split, None for those that are missing; DataError where there is no such split."""
        rooms = [split for split in SPLITS if _room(path, split)]
        if split == "all" and rooms:
            return [item for room in rooms for item in Folder.items(path, room)]
        if room := _room(path, split):
            return pair(*map(by_stem, room))
        if rooms or not (room := _room(path)):
            raise DataError(f"{path}: there is no split '{split}'; there are {', '.join(rooms) or 'none'}: "
                            f"expected {Folder.expects}, or a folder for each split")
        images, masks, instances = map(by_stem, room)
        return pair(images, masks, instances, split_names(path, images, split))


def _room(path, split=None):
    """The directories (images, masks, instances) of a split that has its own, or of all splits together; None if absent."""
    tries = [(path, "images", "masks", "instances")]
    if split is not None:
        tries = [(path, f"images/{split}", f"masks/{split}", f"instances/{split}"),
                 (path / split, "images", "masks", "instances"), (path, split, f"{split}annot", f"{split}instances")]
    for root, images, masks, instances in tries:
        if (root / images).is_dir() and (root / masks).is_dir():
            return root / images, root / masks, root / instances
    return None


def _understand(path, masks, meaning, names, colours):
    """What the numbers in the masks mean, and the class names: (meaning, names), by looking where nothing says it."""
    if meaning not in (None, "classes", "binary", "instances"):
        raise ValueError(f"masks={meaning!r} but 'classes', 'binary', 'instances' or None (look for yourself) is expected")
    some = evenly(masks, SURVEY)
    if meaning is None and names is None and any(header(mask)[0].startswith("I") for mask in some):
        say(f"{path}: 16-bit masks and no classes.txt; each number is read as one object of a single class")
        meaning = "instances"
    if meaning == "instances":
        return meaning, names or ("background", "object")
    if meaning is None and (names is None or len(names) == 2):
        values = set().union(*(np.unique(read_index(mask, colours)).tolist() for mask in some))
        if values == {0, 255} and not all(has_palette(mask) for mask in some):
            say(f"{path}: the masks hold 0 and 255; read as class 0 and class 1")
            meaning = "binary"
        elif names is None:
            names = _count(path, sorted(values - {IGNORE}))
    return meaning or "classes", names or ("background", "foreground")


def _count(path, values):
    """Names for the classes 0..max, where the values look like class ids."""
    count = max(2, max(values, default=1) + 1)
    if 2 * len(values) < count and count > 8:  # 0, 128, 255 and the like: grey levels, or colours that became numbers
        raise DataError(f"{path}: the masks hold {_list(values)}, which look like grey levels, not like class ids 0, 1, 2 ...: "
                        "renumber them, or name all classes in classes.txt")
    say(f"{path}: no classes.txt; the masks hold {_list(values)}: {count} classes")
    return ("background", *(f"class {k}" for k in range(1, count)))
