"""Data: files to NumPy arrays. `open(path)` finds out the layout; a `Loader` makes batches of any data set.

A data set is anything with `__len__`, `__getitem__(i) -> Sample`, `name(i)`, `class_names`, `num_classes`, `palette`
and `in_channels`.
"""

from . import transforms, weaken
from .batch_objects import ObjectBatch, stack_objects
from .camvid import CamVid
from .check import Report, check
from .coco import Coco, to_coco, write_coco
from .files import Files
from .folder import Folder
from .image import overlay, read_image, read_index, read_mask, voc_palette, write_image, write_mask
from .labels import Labels
from .layouts import LAYOUTS, layout_of, open, open_objects
from .loader import Batch, Loader, stack
from .objects import Objects, objects_of
from .penn_fudan import PennFudan
from .polygons import Polygons
from .sample import IGNORE, DataError, Sample
from .shapes import Shapes
from .transforms import (
    Blur,
    ColorJitter,
    Compose,
    ElasticDeformation,
    LargeScaleJitter,
    Normalize,
    Pad,
    RandomCrop,
    RandomFlip,
    RandomQuarterTurn,
    RandomRotation,
    RandomScale,
    Resize,
    ResizeShortest,
    to_float,
)
from .voc import VOC
from .weak import Weak

__all__ = [
    "IGNORE", "LAYOUTS", "VOC", "Batch", "Blur", "CamVid", "Coco", "ColorJitter", "Compose", "DataError",
    "ElasticDeformation", "Files", "Folder", "Labels", "LargeScaleJitter", "Loader", "Normalize", "ObjectBatch",
    "Objects", "Pad", "PennFudan", "Polygons", "RandomCrop", "RandomFlip", "RandomQuarterTurn", "RandomRotation",
    "RandomScale", "Report", "Resize", "ResizeShortest", "Sample", "Shapes", "Weak", "check", "layout_of", "objects_of",
    "open", "open_objects", "overlay", "read_image", "read_index", "read_mask", "stack", "stack_objects", "to_coco",
    "to_float", "transforms", "voc_palette", "weaken", "write_coco", "write_image", "write_mask",
]
