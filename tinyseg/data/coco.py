"""COCO's JSON: images, categories, and annotations with polygons or run lengths. Lin et al. 2014.

    DIR/annotations/instances_train2017.json  DIR/train2017/*.jpg        as it is distributed, or
    DIR/instances_train.json  DIR/images/*.jpg

`write_coco` makes such a file of any data set with objects.
"""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from .. import rle
from .files import bare_name
from .image import channels_of, listed, read_image, voc_palette, words
from .labels import SURVEY, evenly
from .objects import Objects, objects_of
from .resample import resize_image, resize_labels
from .sample import DataError, Sample

FOLDERS = ("images", "{split}2017", "{split}2014", "{split}", "images/{split}", "images/{split}2017", "val2017", ".")


class Coco:
    """Images with objects from a COCO JSON; class 0 is the background, the others are the categories by their ids.

    path: the folder, or the JSON itself. split: "train", "val" ...: the JSON that has it in its name. Crowds are kept,
    flagged. Annotations without a pixel are left out. masks: also the class map, the smaller object on top, 255 in
    crowds. `truth` is the JSON as `metrics.coco_ap` takes it, `category_ids[k]` the category of class k.
    scale, in_channels: see `Files`.

    Raises: DataError naming file and annotation where something is missing or makes no sense.
    Example: Coco("coco", split="val")[0].objects.boxes
    """

    expects = "instances_train.json (COCO's) + images/"

    def __init__(self, path: str | Path, split: str = "train", *, scale: float | None = None,
                 in_channels: int | None = None, masks: bool = True):
        path, self.scale, self.masks = Path(path), scale, masks
        if scale is not None and scale <= 0:
            raise ValueError(f"Coco: scale is {scale}, expected a number above 0")
        self.file = path if path.is_file() else _json_of(path, split)
        root = self.file.parent if self.file.parent.name != "annotations" else self.file.parent.parent
        self.truth = _parsed(self.file)
        categories = sorted(self.truth["categories"], key=lambda c: (isinstance(c["id"], str), c["id"]))
        self.category_ids = (0, *(c["id"] for c in categories))
        self.class_names = ("background", *(str(c["name"]) for c in categories))
        self.palette = voc_palette()
        self.images = self.truth["images"]
        self.annotations = defaultdict(list)
        for annotation in self.truth["annotations"]:
            self.annotations[annotation["image_id"]].append(annotation)
        if not self.images:
            raise DataError(f"{self.file}: it lists no images")
        self.folder = _folder_of(root, split, self.images[0], self.file)
        files = [self.folder / image["file_name"] for image in self.images]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise DataError(f"{self.file}: {len(missing)} of {len(files)} images are not in {self.folder} "
                            f"({listed(missing)}): add them, or leave them out of the JSON")
        self.in_channels = in_channels or max(channels_of(file) for file in evenly(files, SURVEY))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether there is a COCO JSON."""
        return bool(candidates(path))

    @property
    def num_classes(self) -> int:
        """How many classes there are, background included."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Coco({len(self)} images, {len(self.truth['annotations'])} objects, {self.num_classes} classes)"

    def name(self, i: int) -> str:
        """The i-th image's file name without ending; of an image in a folder, a/1.jpg, a/1."""
        return bare_name(self.images[i]["file_name"])

    def file_name(self, i: int) -> str:
        """The i-th image's file."""
        return self.images[i]["file_name"]

    def image_path(self, i: int) -> Path:
        """Where the i-th image lies."""
        return self.folder / self.images[i]["file_name"]

    def lost(self) -> int:
        """How many annotations are of images that the JSON does not list."""
        listed_ids = {image["id"] for image in self.images}
        return sum(len(found) for id, found in self.annotations.items() if id not in listed_ids)

    def __getitem__(self, i: int) -> Sample:
        entry = self.images[i]
        image = read_image(self.folder / entry["file_name"], self.in_channels)
        size = image.shape[:2]
        if (entry.get("height", size[0]), entry.get("width", size[1])) != size:
            raise DataError(f"{self.folder / entry['file_name']}: it is {size} (height, width), but {self.file.name} "
                            f"says {(entry.get('height'), entry.get('width'))}")
        objects = self._objects(entry, size)
        mask = class_map(objects) if self.masks else None
        sample = Sample(image, mask, None, self.name(i), objects=objects)
        if self.scale not in (None, 1):
            size = tuple(max(1, round(n * self.scale)) for n in size)
            sample = sample.map(lambda a: resize_image(a, size), lambda a, _: resize_labels(a, size))
        return sample

    def _objects(self, entry, size) -> Objects:
        labels, masks, boxes, crowd, areas = [], [], [], [], []
        for annotation in self.annotations[entry["id"]]:
            where = f"{self.file.name}: image '{entry['file_name']}', annotation {annotation.get('id')}"
            if annotation.get("category_id") not in self.category_ids[1:]:
                raise DataError(f"{where}: there is no category {annotation.get('category_id')!r}")
            mask = mask_of(annotation.get("segmentation"), size, where)
            if not mask.any():
                continue
            labels.append(self.category_ids.index(annotation["category_id"]))
            masks.append(mask)
            boxes.append(box_of(annotation, mask, size, where))
            crowd.append(bool(annotation.get("iscrowd", 0)))
            areas.append(area_of(annotation, mask, where))
        return Objects.of(size, labels, masks, boxes, crowd, areas, bare_name(entry["file_name"]))


def class_map(objects: Objects) -> np.ndarray:
    """The class of each pixel (H,W) int32: the smaller object on top, 0 where there is none, 255 in crowds alone."""
    single = objects.take(~objects.crowd)
    ids = single.instances()
    mask = np.concatenate([[0], single.labels])[ids].astype(np.int32)
    for k in np.flatnonzero(objects.crowd):
        mask[(objects.mask(k) > 0) & (ids == 0)] = 255
    return mask


def mask_of(segmentation, size, where: str) -> np.ndarray:
    """The mask (H,W) uint8 of a COCO segmentation: polygons, or run lengths as a list or as text."""
    try:
        if isinstance(segmentation, dict):
            counts = segmentation["counts"]
            counts = rle.from_text(counts) if isinstance(counts, str | bytes) else np.asarray(counts, np.int64)
            if tuple(segmentation["size"]) != tuple(size):
                raise ValueError(f"run lengths of {segmentation['size']} in an image of {list(size)} (height, width)")
            return rle.decode(counts, size)
        if not segmentation:
            raise ValueError("no segmentation")
        return rle.decode(rle.from_polygons(segmentation, size), size)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: {error}; cure: polygons [[x0, y0, x1, y1, ...], ...] or run lengths "
                        "{'size': [height, width], 'counts': ...}") from error


def box_of(annotation: dict, mask: np.ndarray, size, where: str) -> list[float]:
    """x1 y1 x2 y2 of an annotation's bbox, which is x y width height; of its mask if it has none."""
    box = annotation.get("bbox")
    if box is None:
        x, y, w, h = rle.box(rle.encode(mask), size[0])
        return [x, y, x + w, y + h]
    try:
        x, y, w, h = map(float, box)
    except (TypeError, ValueError, OverflowError):
        x = y = w = h = np.nan
    inside = -1 <= x <= x + w <= size[1] + 1 and -1 <= y <= y + h <= size[0] + 1
    if not (w > 0 and h > 0 and inside):
        raise DataError(f"{where}: bbox is {box} in an image of {size[0]} x {size[1]} (height x width); expected x, y, "
                        "width, height in pixels inside of it; cure: if it is x1 y1 x2 y2, subtract")
    return [max(x, 0.0), max(y, 0.0), min(x + w, size[1]), min(y + h, size[0])]


def area_of(annotation: dict, mask: np.ndarray, where: str) -> float:
    """The area of an annotation in pixels; of its mask if it has none."""
    area = annotation.get("area")
    if area is None:
        return float(mask.sum())
    if not isinstance(area, int | float) or not 0 <= area < np.inf:
        raise DataError(f"{where}: area is {area!r}, expected a number of pixels; cure: leave it out")
    return float(area)


def to_coco(dataset, progress=lambda i: None) -> dict:
    """Any data set with objects or instances as a COCO data set: images, categories (its classes from 1), annotations.

    Masks are written as compressed run lengths. Raises: DataError for a sample without objects.
    Example: json.dump(to_coco(open_objects("dsb2018")), file)
    """
    names = dataset.class_names
    result = {"images": [], "annotations": [],
              "categories": [{"id": k, "name": names[k]} for k in range(1, len(names))]}
    for i in range(len(dataset)):
        sample = dataset[i]
        height, width = sample.image.shape[:2]
        file = getattr(dataset, "file_name", dataset.name)(i)
        result["images"].append({"id": i + 1, "file_name": str(file), "height": height, "width": width})
        annotations = annotations_of(objects_of(sample), i + 1, len(result["annotations"]) + 1)
        result["annotations"] += annotations
        progress(i)
    return result


def annotations_of(objects: Objects, image_id: int, first_id: int = 1) -> list[dict]:
    """The objects of one image as COCO annotations."""
    return [
        {
            "id": first_id + k,
            "image_id": image_id,
            "category_id": int(objects.labels[k]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": float(objects.areas[k]),
            "iscrowd": int(objects.crowd[k]),
            "segmentation": {"size": list(objects.size), "counts": rle.to_text(rle.encode(objects.mask(k)))},
        }
        for k, (x1, y1, x2, y2) in enumerate(objects.boxes.tolist())
    ]


def write_coco(dataset, path: str | Path, progress=lambda i: None) -> dict:
    """`to_coco`, into a file; returns what was written. Raises: DataError where the file cannot be written."""
    whole = to_coco(dataset, progress)
    try:
        Path(path).write_text(json.dumps(whole))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({words(error)})") from error
    return whole


def candidates(path: Path) -> list[Path]:
    """The JSONs that look like COCO's, by name."""
    return sorted(file for folder in (path / "annotations", path) for file in folder.glob("*.json")
                  if file.stem.startswith(("instances", "coco", "train", "val", "test", "annotations")))


def _json_of(path: Path, split: str) -> Path:
    files = candidates(path)
    fitting = [file for file in files if split in file.stem]
    fitting = fitting or (files if len(files) == 1 and split == "all" else [])
    if not fitting:
        raise DataError(f"{path}: no annotations of split '{split}'; expected instances_{split}.json there or in "
                        f"annotations/; found {listed([f.name for f in files]) or 'none'}; cure: the split of one of "
                        "these, or the file itself")
    return fitting[0]


def _parsed(file: Path) -> dict:
    try:
        whole = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as JSON ({words(error)})") from error
    missing = [k for k in ("images", "annotations", "categories") if not isinstance(whole, dict) or k not in whole]
    if missing:
        raise DataError(f"{file}: no {', '.join(missing)} in it; expected a COCO data set")
    number = int | float | str
    for what, keys in (("images", {"id": number, "file_name": str}), ("categories", {"id": number, "name": object}),
                       ("annotations", {"image_id": number})):
        for i, entry in enumerate(whole[what] if isinstance(whole[what], list) else [None]):
            if not isinstance(entry, dict) or any(
                key not in entry or not isinstance(entry[key], kind) for key, kind in keys.items()
            ):
                raise DataError(f"{file}: number {i} of its {what} has no {' and no '.join(keys)}; expected COCO's "
                                "annotations")
    return whole


def _folder_of(root: Path, split: str, image: dict, file: Path) -> Path:
    """The folder with the images."""
    places = [root / place.format(split=split) for place in FOLDERS]
    found = next((place for place in places if (place / image["file_name"]).is_file()), None)
    if found is None:
        raise DataError(f"{file}: '{image['file_name']}' is not in {', '.join(sorted({str(p) for p in places}))}; "
                        "cure: put it there")
    return found
