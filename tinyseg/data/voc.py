"""PASCAL VOC's layout: JPEGImages/, SegmentationClass/, SegmentationObject/, ImageSets/Segmentation/train.txt.

Everingham et al., "The PASCAL visual object classes challenge" (2010). labelme writes the same folders, with
class_names.txt and without ImageSets.
"""

from pathlib import Path

from .files import Files, Item, by_stem, pair, split_names, text_splits
from .image import voc_palette
from .labels import Labels, class_file, read_classes

CLASSES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
           "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
MASKS = ("SegmentationClassAug", "SegmentationClassPNG", "SegmentationClass")  # a later one wins


class VOC(Files):
    """VOC's 20 classes and background, 255 = ignore; instances from SegmentationObject.

    path: the folder with JPEGImages/, or one that has it as VOC2012/ or VOCdevkit/VOC2012/. split: a file of
    ImageSets/Segmentation ("train", "val", "trainval", "trainaug" with SegmentationClassAug/ ...) or "all".
    Other arguments: see `Files`.
    Raises: DataError where the split or a file is missing.
    Example: VOC("VOCdevkit/VOC2012", split="val")[0].instances
    """

    expects = "JPEGImages/ + SegmentationClass/, optional ImageSets/Segmentation/train.txt, SegmentationObject/ (VOC)"

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the directories of this layout are there."""
        root = root_of(path)
        return (root / "JPEGImages").is_dir() and any((root / masks).is_dir() for masks in MASKS)

    @staticmethod
    def splits(path: Path) -> list[str]:
        """The splits that can be asked for, beside 'all'."""
        return text_splits(root_of(path) / "ImageSets" / "Segmentation")

    @staticmethod
    def find(path: Path, split: str) -> list[Item]:
        """The files of a split, None for those that are missing; DataError where there is no such split."""
        root = root_of(path)
        masks = {stem: file for folder in MASKS for stem, file in by_stem(root / folder).items()}
        images = by_stem(root / "JPEGImages")
        annotated = {stem: file for stem, file in images.items() if stem in masks}  # VOC has photos for other tasks too
        names = split_names(root / "ImageSets" / "Segmentation", annotated, split)
        objects = by_stem(root / "SegmentationObject") or by_stem(root / "SegmentationObjectPNG")
        return pair(images, masks, objects, names)

    @staticmethod
    def labels_of(path: Path, masks: list[Path]) -> Labels:
        """VOC's classes, or those of class_names.txt; in masks saved as RGB, VOC's colours."""
        named = class_file(root_of(path))
        names, colours = read_classes(named) if named else (CLASSES, None)
        return Labels(names, colours=voc_palette() if colours is None else colours)


def root_of(path: Path) -> Path:
    """The folder that holds JPEGImages, or the path itself."""
    places = (path, path / "VOC2012", path / "VOCdevkit" / "VOC2012")
    return next((place for place in places if (place / "JPEGImages").is_dir()), path)
