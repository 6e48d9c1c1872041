"""The layouts that a data set of files can have, and `open`, which finds out which one it is."""

from pathlib import Path

from .camvid import CamVid
from .coco import Coco
from .files import Files
from .folder import Folder
from .image import counted, listed
from .penn_fudan import PennFudan
from .polygons import Polygons
from .sample import DataError
from .voc import VOC

LAYOUTS = (VOC, CamVid, PennFudan, Folder)  # tried in this order
OBJECTS = (Coco, Polygons)  # annotations of objects, tried before them where objects are asked for


def open(path: str | Path, split: str = "train", *, scale: float | None = None,
         size: int | tuple[int, int] | None = None, in_channels: int | None = None,
         masks_needed: bool = True) -> Files:
    """Open a data set, whatever its layout.

    split: "train", "val", "test" or "all". scale: 0.5 gives half the resolution; size: gives (height, width).
    in_channels: 1 or 3 converts the images. masks_needed: False lets images without masks in, see `Files`.

    Raises: DataError where no layout is recognised, or the split is missing or incomplete.
    Example: train, val = open("isbi2012"), open("isbi2012", split="val")
    """
    path = Path(path)
    if size is None and not any(layout.recognises(path) for layout in LAYOUTS):
        if layout := layout_of_objects(path):  # its samples have masks too: the classes of the objects
            return layout(path, split, scale=scale, in_channels=in_channels)
    return layout_of(path)(path, split, scale=scale, size=size, in_channels=in_channels,
                           masks_needed=masks_needed)


def layout_of(path: str | Path) -> type[Files]:
    """The class that reads the data set at this path.

    Raises: DataError which says what was expected and what is there instead.
    Example: layout_of("camvid") is CamVid
    """
    path = Path(path)
    for layout in LAYOUTS:
        if layout.recognises(path):
            return layout
    expected = "; or ".join(layout.expects for layout in (*reversed(LAYOUTS), *OBJECTS))
    if not path.is_dir():
        what = "a file" if path.exists() else "no such folder"
        raise DataError(f"{path}: {what}; a data set is a folder with {expected}")
    found = ", ".join(sorted(p.name + "/" * p.is_dir() for p in path.iterdir())[:12]) or "nothing"
    raise DataError(f"{path}: no data set found here; expected {expected}; found {found}")


def open_objects(path: str | Path, split: str = "train", *, scale: float | None = None,
                 in_channels: int | None = None) -> Files | Coco | Polygons:
    """Open a data set whose samples say what the objects are: COCO JSON, LabelMe, VIA, or masks with instances.

    Arguments and errors: see `open`; `data.objects_of(sample)` gives the objects, whatever the layout.
    Raises: DataError where images have masks, but no instances.
    Example: train = open_objects("coco", "train"); objects_of(train[0]).boxes
    """
    path = Path(path)
    if layout := layout_of_objects(path):
        return layout(path, split, scale=scale, in_channels=in_channels)
    dataset = open(path, split, scale=scale, in_channels=in_channels)
    if without := [item.name for item in dataset.items if not dataset.labels.has_instances(item.instances)]:
        raise DataError(f"{path} ({split}): {len(without)} of {counted(len(dataset), 'image')} have masks, but nothing "
                        f"says which pixels are one object ({listed(without, 5)}); cure: PNGs in instances/ with a "
                        "number for each object, or COCO annotations")
    return dataset


def layout_of_objects(path: Path) -> type | None:
    """The layout of annotated objects at this path: a folder, or a COCO JSON itself."""
    if path.is_file():
        return Coco if path.suffix == ".json" else None
    return next((layout for layout in OBJECTS if path.is_dir() and layout.recognises(path)), None)
