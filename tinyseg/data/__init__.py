"""Data: files to NumPy arrays. `open(path)` finds out the layout; a `Loader` makes batches of any data set.

A data set is anything with `__len__`, `__getitem__(i) -> Sample`, `name(i)`, `class_names`, `num_classes`, `palette` and
`in_channels`.
"""

from pathlib import Path

from . import transforms
from .camvid import CamVid
from .folder import Folder
from .image import overlay, read_image, read_mask, voc_palette, write_image, write_mask
from .loader import Batch, Loader, stack
from .sample import IGNORE, DataError, Sample
from .shapes import Shapes
from .transforms import (Blur, ColorJitter, Compose, ElasticDeformation, Normalize, Pad, RandomCrop, RandomFlip,
                         RandomRotation, RandomScale, Resize, to_float)
from .voc import VOC

LAYOUTS = (VOC, CamVid, Folder)  # tried in this order

__all__ = ["IGNORE", "LAYOUTS", "Batch", "Blur", "CamVid", "ColorJitter", "Compose", "DataError", "ElasticDeformation",
           "Folder", "Loader", "Normalize", "Pad", "RandomCrop", "RandomFlip", "RandomRotation", "RandomScale", "Resize",
           "Sample", "Shapes", "VOC", "layout_of", "open", "overlay", "read_image", "read_mask", "stack", "to_float",
           "transforms", "voc_palette", "write_image", "write_mask"]


def layout_of(path: str | Path) -> type[Folder] | type[CamVid] | type[VOC]:
    """The class that reads the data set at this path.

    Raises: DataError which says what was expected and what is there instead.
    Example: layout_of("camvid") is CamVid
    """
    path = Path(path)
    for layout in LAYOUTS:
        if layout.recognises(path):
            return layout
    expected = "; ".join(layout.expects for layout in reversed(LAYOUTS))
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; a data set is a folder with {expected}")
    found = ", ".join(sorted(p.name + "/" * p.is_dir() for p in path.iterdir())[:12]) or "nothing"
    raise DataError(f"{path}: no data set found here. Expected one of: {expected}. Found: {found}")


def open(path: str | Path, split: str = "train", *, scale: float | None = None,
         size: int | tuple[int, int] | None = None) -> Folder | CamVid | VOC:
    """Open a data set, whatever its layout. Options of one layout: call its class.

    split: "train", "val", "test" or "all". scale: 0.5 gives half the resolution; size: gives (height, width).

    Raises: DataError where no layout is recognised, or the split is missing or incomplete.
    Example: train, val = open("isbi2012"), open("isbi2012", split="val")
    """
    return layout_of(path)(path, split, scale=scale, size=size)
