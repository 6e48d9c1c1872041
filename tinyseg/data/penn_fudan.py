"""The Penn-Fudan pedestrians: PNGImages/a.png, PedMasks/a_mask.png. Wang, Shi, Song & Shen, ACCV 2007.

The masks hold a number for each pedestrian, 0 for the ground. There are 170 pictures and no lists of splits.
"""

from pathlib import Path

from .files import Files, Item, by_stem, pair, split_names, text_splits
from .labels import Labels


class PennFudan(Files):
    """Pedestrians, each an object of the one class beside the background. Arguments and errors: see `Files`."""

    expects = "PNGImages/ + PedMasks/ (Penn-Fudan)"

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the directories of this layout are there."""
        return (path / "PNGImages").is_dir() and (path / "PedMasks").is_dir()

    @staticmethod
    def splits(path: Path) -> list[str]:
        """The splits that can be asked for, beside 'all'."""
        return text_splits(path)

    @staticmethod
    def find(path: Path, split: str) -> list[Item]:
        """The files of a split, None for those that are missing; DataError where there is no such split."""
        images = by_stem(path / "PNGImages")
        return pair(images, by_stem(path / "PedMasks"), None, split_names(path, images, split))

    @staticmethod
    def labels_of(path: Path, masks: list[Path]) -> Labels:
        """Each number is one pedestrian."""
        return Labels(("background", "pedestrian"), "instances")
