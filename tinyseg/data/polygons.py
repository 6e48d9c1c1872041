"""Outlines drawn by hand: LabelMe's files, one JSON a picture, and VIA's, one for all pictures of a folder.

    DIR/a.jpg DIR/a.json ...                 LabelMe: shapes with points, a label and a shape_type
    DIR/via_region_data.json DIR/a.jpg ...   VIA: regions with shape_attributes and region_attributes

Polygons, rectangles, circles, ellipses and polylines become masks by COCO's rule (`rle.from_polygons`); points and
lines have no inside and are left out. Pictures lie beside the JSON or in images/.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import rle
from .coco import class_map
from .files import split_names, text_splits, why_empty
from .image import channels_of, listed, read_image, say, voc_palette, words
from .labels import SURVEY, class_file, evenly, read_classes
from .objects import Objects
from .resample import resize_image, resize_labels
from .sample import DataError, Sample

CORNERS = 64  # of the polygon that stands for a circle or an ellipse


@dataclass(frozen=True)
class Outline:
    """One object: its class, and its corners x0 y0 x1 y1 ... in pixels."""

    label: str
    corners: tuple[float, ...]


class Polygons:
    """Images with objects outlined in LabelMe or VIA. Class 0 is the background, the others are the labels by name.

    split: as in train.txt and val.txt (a name a line); without them every fifth image is val. The classes are those of
    classes.txt, or the labels that occur. scale, in_channels: see `Files`.

    Raises: DataError naming file and shape where something is missing or makes no sense.
    Example: Polygons("balloons", split="val")[0].objects.labels
    """

    expects = "a LabelMe JSON beside each image, or VIA's via_region_data.json"

    def __init__(self, path: str | Path, split: str = "train", *, scale: float | None = None,
                 in_channels: int | None = None):
        path, self.scale = Path(path), scale
        if scale is not None and scale <= 0:
            raise ValueError(f"Polygons: scale is {scale}, expected a number above 0")
        everything = _outlines(path)
        if not everything:
            raise DataError(f"{path}: no outlines found; expected {self.expects}")
        names = split_names(path, dict.fromkeys(everything), split)
        unknown = [name for name in names if name not in everything]
        if unknown:
            raise DataError(f"{path} ({split}): {listed(unknown)} have no outlines")
        self.items = [(name, *everything[name]) for name in names]
        missing = [name for name, image, _ in self.items if image is None]
        if missing or not self.items:
            why = f"no image file for {listed(missing)}" if missing else why_empty(split, everything)
            raise DataError(f"{path} ({split}): {why}")
        labels = sorted({o.label for _, outlines in everything.values() for o in outlines})
        named = class_file(path)
        self.class_names = read_classes(named)[0] if named else ("background", *labels)
        strange = [label for label in labels if label not in self.class_names]
        if strange:
            raise DataError(f"{named}: no class {listed(strange)}, which outlines have: add them")
        self.palette = voc_palette()
        images = [image for image, _ in everything.values() if image]
        self.in_channels = in_channels or max(channels_of(image) for image in evenly(images, SURVEY))

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether there are outlines."""
        return any(_kind(file) for file in sorted(path.glob("*.json"))[:3])

    @staticmethod
    def splits(path: Path) -> list[str]:
        """The splits that can be asked for, beside 'all'."""
        return text_splits(path)

    @property
    def num_classes(self) -> int:
        """How many classes there are, background included."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"Polygons({len(self)} images, {self.num_classes} classes)"

    def name(self, i: int) -> str:
        """The i-th image's file name without ending."""
        return self.items[i][0]

    def file_name(self, i: int) -> str:
        """The i-th image's file."""
        return self.items[i][1].name

    def image_path(self, i: int) -> Path:
        """Where the i-th image lies."""
        return self.items[i][1]

    def __getitem__(self, i: int) -> Sample:
        name, file, outlines = self.items[i]
        image = read_image(file, self.in_channels)
        size, masks, labels = image.shape[:2], [], []
        for outline in outlines:
            try:
                masks.append(rle.decode(rle.from_polygons([outline.corners], size), size))
            except ValueError as error:
                raise DataError(f"'{name}': the outline of {outline.label!r}: {error}") from error
            labels.append(self.class_names.index(outline.label))
        objects = Objects.of(size, labels, masks, name=name)
        sample = Sample(image, class_map(objects), None, name, objects=objects)
        if self.scale not in (None, 1):
            size = tuple(max(1, round(n * self.scale)) for n in size)
            sample = sample.map(lambda a: resize_image(a, size), lambda a, _: resize_labels(a, size))
        return sample


def _kind(file: Path) -> str | None:
    """"labelme", "via" or None, by the beginning of the JSON; None where it is damaged."""
    try:
        return _kind_of(json.loads(file.read_text()))
    except (OSError, ValueError):
        return None


def _kind_of(whole) -> str | None:
    if not isinstance(whole, dict):
        return None
    if isinstance(whole.get("shapes"), list):
        return "labelme"
    whole = whole.get("_via_img_metadata", whole)
    return "via" if whole and all(isinstance(v, dict) and "regions" in v for v in whole.values()) else None


def _outlines(path: Path) -> dict[str, tuple[Path | None, list[Outline]]]:
    """The picture and the outlines of each name."""
    found = {}
    for file in sorted(path.glob("*.json")):
        try:
            whole = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: cannot be read as JSON ({words(error)}): mend it, or take it away") from error
        kind = _kind_of(whole)
        if kind == "labelme":
            image = _image(path, Path(str(whole.get("imagePath") or file.stem).replace("\\", "/")).name, file.stem)
            shapes = [_labelme(shape, f"{file}: shape {i}") for i, shape in enumerate(whole["shapes"])]
            found[file.stem] = image, [s for s in shapes if s]
        elif kind == "via":
            for key, entry in whole.get("_via_img_metadata", whole).items():
                name, regions = entry.get("filename"), entry["regions"]
                regions = list(regions.values()) if isinstance(regions, dict) else regions
                if not isinstance(name, str) or not isinstance(regions, list):
                    raise DataError(f"{file}: {key!r}: no filename, or no list of regions; expected VIA's annotations")
                shapes = [_via(region, f"{file}: '{name}', region {i}") for i, region in enumerate(regions)]
                found[Path(name).stem] = _image(path, name, Path(name).stem), [s for s in shapes if s]
    return found


def _image(path, name, stem):
    """The picture of this name, or of this stem, beside the JSON or in images/."""
    for folder in (path, path / "images"):
        if (folder / name).is_file():
            return folder / name
        found = [f for f in sorted(folder.glob(f"{stem}.*")) if f.suffix.lower() not in (".json", ".txt")]
        if found:
            return found[0]
    return None


def _labelme(shape, where) -> Outline | None:
    try:
        points, kind = np.asarray(shape["points"], float).reshape(-1, 2), shape.get("shape_type", "polygon")
        label = str(shape["label"])
        if kind in ("rectangle", "circle") and len(points) < 2:
            raise ValueError(f"a {kind} needs two points")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where}: {_why(error)}; expected label, points, shape_type") from error
    if kind == "rectangle":
        return Outline(label, _rectangle(*points.min(0), *np.ptp(points, axis=0)))  # of two corners, or of four
    if kind == "circle":  # its middle, and a point on it
        radius = float(np.hypot(*(points[1] - points[0])))
        return Outline(label, _ellipse(*points[0], radius, radius, 0))
    if kind in ("polygon", "linestrip") and len(points) > 2:
        return Outline(label, tuple(points.reshape(-1)))
    say(f"{where}: a {kind} has no inside; left out")
    return None


def _via(region, where) -> Outline | None:
    try:
        shape, attributes = region["shape_attributes"], region.get("region_attributes") or {}
        label = next((v for v in attributes.values() if isinstance(v, str) and v), "object")
        kind = shape["name"]
        if kind in ("polygon", "polyline"):
            return Outline(label, tuple(np.stack([shape["all_points_x"], shape["all_points_y"]], 1).reshape(-1) * 1.0))
        if kind == "rect":
            return Outline(label, _rectangle(*(float(shape[k]) for k in ("x", "y", "width", "height"))))
        if kind == "circle":
            return Outline(label, _ellipse(shape["cx"], shape["cy"], shape["r"], shape["r"], 0))
        if kind == "ellipse":
            sizes = (shape[k] for k in ("cx", "cy", "rx", "ry"))
            return Outline(label, _ellipse(*sizes, shape.get("theta", 0)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where}: {_why(error)}; expected VIA's shape_attributes") from error
    say(f"{where}: a {kind} has no inside; left out")
    return None


def _why(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _rectangle(x, y, width, height):
    return tuple(float(v) for v in (x, y, x + width, y, x + width, y + height, x, y + height))


def _ellipse(x, y, rx, ry, theta):
    t = np.arange(CORNERS) * (2 * np.pi / CORNERS)
    u, v = rx * np.cos(t), ry * np.sin(t)
    corners = np.stack([x + np.cos(theta) * u - np.sin(theta) * v, y + np.sin(theta) * u + np.cos(theta) * v], axis=1)
    return tuple(corners.reshape(-1))
