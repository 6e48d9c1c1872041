"""Folders of images and masks: the layout to use for a data set of your own.

    DIR/images/a.jpg  DIR/masks/a.png  [DIR/instances/a.png]  [DIR/train.txt  DIR/val.txt]  [DIR/classes.txt]

or with a folder for each split: images/train + masks/train, or train/images + train/masks, or train + trainannot. Weak
labels (`weak_files`) may stand in the place of masks/.
"""

from pathlib import Path

from .coco import Coco
from .files import SPLITS, Files, Item, by_stem, pair, split_names, text_splits
from .labels import Labels, labels_from_files
from .polygons import Polygons
from .sample import DataError
from .weak_files import WEAK


class Folder(Files):
    """A folder of images and masks with equal file names.

    split: "train", "val", ... as in `<split>.txt` (a name a line) or a folder of that name; without such files every
    fifth image is val and the others are train; "all" takes everything. The classes are those of classes.txt, or what
    the masks show: see `labels_from_files`. Other arguments: see `Files`.

    Raises: DataError where files are missing or masks cannot be understood.
    Example: Folder("isbi2012", split="val")[0].mask
    """

    expects = ("images/ + masks/ with equal file names (or scribbles/, points/, boxes/, tags.txt), optional train.txt, "
               "val.txt, classes.txt, instances/")

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the directories of this layout are there."""
        return _room(path) is not None or any(_room(path, split) for split in SPLITS)

    @staticmethod
    def splits(path: Path) -> list[str]:
        """The splits that can be asked for, beside 'all'."""
        return [split for split in SPLITS if _room(path, split)] or text_splits(path)

    @staticmethod
    def find(path: Path, split: str) -> list[Item]:
        """The files of a split, None for those that are missing; DataError where there is no such split."""
        rooms = [each for each in SPLITS if _room(path, each)]
        if split == "all" and rooms:
            return [item for each in rooms for item in Folder.find(path, each)]
        if room := _room(path, split):
            return pair(*map(by_stem, room))
        if rooms or not (room := _room(path)):
            raise DataError(f"{path}: there is no split '{split}'; there are {', '.join(rooms) or 'none'}: "
                            f"expected {Folder.expects}, or a folder for each split")
        images, masks, instances = map(by_stem, room)
        return pair(images, masks, instances, split_names(path, images, split))

    @staticmethod
    def labels_of(path: Path, masks: list[Path]) -> Labels:
        """What the numbers in the masks mean."""
        return labels_from_files(path, masks)


def _room(path, split=None):
    """The directories (images, masks, instances) of a split that has its own, or of all together; None if absent."""
    tries = [(path, "images", "masks", "instances")]
    if split is not None:
        tries = [(path, f"images/{split}", f"masks/{split}", f"instances/{split}"),
                 (path / split, "images", "masks", "instances"), (path, split, f"{split}annot", f"{split}instances")]
    for root, images, masks, instances in tries:
        if not (root / images).is_dir():
            continue
        # a folder of a split's name is one of images only beside its masks
        if (root / masks).is_dir() or images != split and _has_weak_labels_alone(path):
            return root / images, root / masks, root / instances
    return None


def _has_weak_labels_alone(path: Path) -> bool:
    """Whether there are weak labels, but neither masks nor annotations of objects, which say more."""
    if (path / "masks").is_dir() or not any((path / name).exists() for name in WEAK):
        return False
    return not any(layout.recognises(path) for layout in (Coco, Polygons))
