"""CamVid in the layout of the SegNet tutorial: train/ + trainannot/, val/ + valannot/, test/ + testannot/.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video" (2009): street scenes of 480x360 pixels, 11 classes;
label 11 means unlabelled.
"""

from pathlib import Path

import numpy as np

from .files import SPLITS, Files, Item, by_stem, pair
from .labels import Labels, class_file
from .sample import DataError

CLASSES = {
    "sky": (128, 128, 128), "building": (128, 0, 0), "pole": (192, 192, 128), "road": (128, 64, 128),
    "pavement": (60, 40, 222), "tree": (128, 128, 0), "sign": (192, 128, 128), "fence": (64, 64, 128),
    "car": (64, 0, 128), "pedestrian": (64, 64, 0), "bicyclist": (0, 128, 192),
}
UNLABELLED, BLACK = 11, (0, 0, 0)


class CamVid(Files):
    """CamVid's street scenes; unlabelled pixels (11) are 255 = ignore. split: "train", "val", "test" or "all".

    scale: 0.5 gives the half resolution, 240x180. Other arguments: see `Files`.
    Raises: DataError where the split's two folders are not there.
    Example: CamVid("camvid", split="val", scale=0.5)[0].image.shape == (180, 240, 3)
    """

    expects = "train/ + trainannot/ and val/ + valannot/ (CamVid)"

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the directories are there, and no classes.txt says that the classes are others than CamVid's."""
        return bool(CamVid.splits(path)) and class_file(path) is None

    @staticmethod
    def splits(path: Path) -> list[str]:
        """The splits that can be asked for, beside 'all'."""
        return [split for split in SPLITS if (path / split).is_dir() and (path / f"{split}annot").is_dir()]

    @staticmethod
    def find(path: Path, split: str) -> list[Item]:
        """The files of a split, None for those that are missing; DataError where there is no such split."""
        splits = CamVid.splits(path)
        if split == "all":
            return [item for each in splits for item in CamVid.find(path, each)]
        if split not in splits:
            raise DataError(f"{path}: no split '{split}' ({split}/ + {split}annot/): "
                            f"there are {', '.join(splits) or 'none'}")
        return pair(by_stem(path / split), by_stem(path / f"{split}annot"))

    @staticmethod
    def labels_of(path: Path, masks: list[Path]) -> Labels:
        """CamVid's 11 classes and their colours."""
        return Labels(tuple(CLASSES), ignore_label=UNLABELLED, colours=np.array([*CLASSES.values(), BLACK]))
