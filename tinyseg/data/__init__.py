"""Data: files to NumPy arrays. `open(path)` finds out the layout; a `Loader` makes batches of any data set.

A data set is anything with `__len__`, `__getitem__(i) -> Sample`, `name(i)`, `class_names`, `num_classes`, `palette`
and `in_channels`.
"""

from . import transforms, weaken
from .camvid import CamVid
from .check import Report, check
from .files import Files
from .folder import Folder
from .image import overlay, read_image, read_index, read_mask, voc_palette, write_image, write_mask
from .labels import Labels
from .layouts import LAYOUTS, layout_of, open
from .loader import Batch, Loader, stack
from .sample import IGNORE, DataError, Sample
from .shapes import Shapes
from .transforms import (
    Blur,
    ColorJitter,
    Compose,
    ElasticDeformation,
    Normalize,
    Pad,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomScale,
    Resize,
    to_float,
)
from .voc import VOC
from .weak import Weak

__all__ = [
    "IGNORE", "LAYOUTS", "VOC", "Batch", "Blur", "CamVid", "ColorJitter", "Compose", "DataError", "ElasticDeformation",
    "Files", "Folder", "Labels", "Loader", "Normalize", "Pad", "RandomCrop", "RandomFlip", "RandomRotation",
    "RandomScale", "Report", "Resize", "Sample", "Shapes", "Weak", "check", "layout_of", "open", "overlay",
    "read_image", "read_index", "read_mask", "stack", "to_float", "transforms", "voc_palette", "weaken", "write_image",
    "write_mask",
]
