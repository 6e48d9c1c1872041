"""Files of weak labels: scribbles, points, boxes, tags. Arrays in, files out, and back.

    scribbles/NAME.png    index image of class ids, 255 = not labelled
    scribbles/NAME.xml    ScribbleSup's: <polygon><tag>cat</tag><point><X>3</X><Y>7</Y></point> ... </polygon> ...
    scribbles/NAME.txt    a line for each scribble: class, then x,y of its points, all separated by commas
    points/NAME.txt       the same, one point a line (.png and .xml too)
    boxes.json            COCO's: images, categories, annotations with bbox = [x, y, width, height]
    boxes/NAME.xml        PASCAL VOC's: <object><name>cat</name><bndbox><xmin>1</xmin> ... </bndbox></object> ...
    tags.txt              a line for each image: NAME: class, class ...

NAME is the image's file, from the folder of the images on, without its ending: a/1 for a/1.jpg. Classes may be given by
name (VOC's also by ScribbleSup's short names) or by number.
"""

import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from .files import bare_name
from .image import listed, read_index, read_text
from .sample import IGNORE, DataError
from .weaken import line

WEAK = ("scribbles", "points", "boxes", "tags.txt")  # beside images/; with boxes.json alone it is a set of COCO's
LEAP = 20  # pixels between two points of one stroke, unless its points lie far apart in general
SHORT = {
    "plane": "aeroplane", "bike": "bicycle", "table": "diningtable", "motor": "motorbike", "plant": "pottedplant",
    "monitor": "tvmonitor", "tv": "tvmonitor",
}  # fmt: skip


def labels_at(root: Path, kinds: Sequence[str], class_names: Sequence[str], voc: Path | None = None) -> dict[str, dict]:
    """What weak labels a folder holds: for each of `kinds` a dict by the name of the image.

    Scribbles and points are files; boxes (B,5) arrays, or files of VOC's (from boxes/, or the folder `voc`) that
    `read_voc_boxes` reads; tags (K,) bool.
    Raises: DataError naming the file where boxes.json or tags.txt is damaged.
    """
    found = {kind: {} for kind in kinds}
    for kind in {"scribbles", "points"} & set(kinds):
        found[kind] = files_by_name(root / kind, (".txt", ".xml", ".png"))
    if "boxes" in kinds:
        folder = root / "boxes" if (root / "boxes").is_dir() or voc is None else voc
        coco = read_coco_boxes(root / "boxes.json", class_names) if (root / "boxes.json").is_file() else {}
        found["boxes"] = files_by_name(folder, (".xml",)) | coco
    if "tags" in kinds and (root / "tags.txt").is_file():
        found["tags"] = read_tags(root / "tags.txt", class_names)
    return found


def files_by_name(folder: Path, endings) -> dict[str, Path]:
    """The files of a folder, and of those in it, by their path in it without ending; a later ending wins."""
    files = [(ending, file) for ending in endings for file in sorted(folder.rglob(f"*{ending}"))]
    return {file.relative_to(folder).as_posix().removesuffix(ending): file for ending, file in files}


def class_id(word: str, class_names: Sequence[str], where) -> int:
    """The id of a class by name or number. Raises DataError, naming the file, where there is no such class."""
    names = [name.lower() for name in class_names]
    word = str(word).strip().lower()
    for candidate in (word, SHORT.get(word)):
        if candidate in names:
            return names.index(candidate)
    if word.isdigit() and int(word) < len(names):
        return int(word)
    raise DataError(f"{where}: no class {word!r}; there are {listed(list(class_names), 30)}, or their numbers from 0")


def read_scribbles(path: str | Path, size: tuple[int, int], class_names: Sequence[str]) -> np.ndarray:
    """Scribbles or points from .png, .xml or .txt; points of a stroke are joined, those outside the image left out.

    Shapes: size (height, width) -> (H,W) int32 class ids, 255 = not labelled.
    Raises: DataError naming the file where it is damaged, of another size, or of a class that does not exist.
    Example: read_scribbles("scribbles/2008_000003.txt", (333, 500), class_names)
    """
    path = Path(path)
    if path.suffix.lower() not in (".xml", ".txt"):
        drawn = read_index(path)
        if drawn.shape != tuple(size):
            raise DataError(f"{path}: the scribbles are {drawn.shape} (height, width) but the image is {tuple(size)}")
        strange = np.unique(drawn[(drawn != IGNORE) & (drawn >= len(class_names))])
        if len(strange):
            raise DataError(f"{path}: it holds {listed(strange)} but there are {len(class_names)} classes, 255 = none")
        return drawn
    strokes = _xml_strokes(path) if path.suffix.lower() == ".xml" else _text_strokes(path)
    drawn = np.full(size, IGNORE, np.int32)
    for word, xy in strokes:
        for stroke in _unbroken(np.array(xy, np.float64)):
            y, x = line(stroke[:, ::-1]).T
            inside = (y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1])
            drawn[y[inside], x[inside]] = class_id(word, class_names, path)
    return drawn


def _unbroken(xy):
    """The strokes of a list of points: files put several behind each other, and a leap betrays where one ends."""
    steps = np.abs(np.diff(xy, axis=0)).max(axis=1)
    leaps = np.flatnonzero(steps > max(LEAP, 10 * np.median(steps))) if len(steps) else []
    return np.split(xy, np.asarray(leaps, np.int64) + 1)


def _xml_strokes(path):
    for polygon in _xml(path).iter("polygon"):
        try:
            xy = [(float(p.find("X").text), float(p.find("Y").text)) for p in polygon.iter("point")]
            word = polygon.find("tag").text
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(f"{path}: a <polygon> without <tag>, or a <point> without <X> and <Y> ({error})") from error
        if xy:
            yield word, xy


def _text_strokes(path):
    for number, text in enumerate(read_text(path).splitlines(), 1):
        word, *xy = [part.strip() for part in text.strip().strip(",").split(",")]
        if not word:
            continue
        try:
            values = [float(v) for v in xy]
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}; expected class,x,y,x,y ...") from error
        if not values or len(values) % 2:
            raise DataError(f"{path}, line {number}: {len(values)} coordinates; expected class,x,y,x,y ...")
        yield word, list(zip(values[::2], values[1::2]))


def _xml(path):
    try:
        return ElementTree.fromstring(read_text(path))
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not XML ({error})") from error


def read_voc_boxes(path: str | Path, class_names: Sequence[str]) -> np.ndarray:
    """Boxes of a VOC annotation. Its pixels count from 1 and include xmax: x1 = xmin - 1, x2 = xmax. (B,5) float32."""
    found = []
    for thing in _xml(Path(path)).iter("object"):
        try:
            name = thing.find("name").text
            box = [float(thing.find("bndbox").find(side).text) for side in ("xmin", "ymin", "xmax", "ymax")]
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(f"{path}: an <object> without <name> or whole <bndbox> ({error})") from error
        found.append((box[0] - 1, box[1] - 1, box[2], box[3], class_id(name, class_names, path)))
    return sound_boxes(found, path)


def read_coco_boxes(path: str | Path, class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Boxes of a COCO file by image name; x, y, width, height become corners. Crowds are left out.

    An image in a folder, a/1.jpg, is found as a/1, and as 1 where no other image is called so.
    Shapes: (B,5) float32 for each image. Raises: DataError naming the file where it is damaged.
    """
    try:
        content = json.loads(read_text(Path(path)))
        names = {image["id"]: bare_name(image["file_name"]) for image in content["images"]}
        classes = {c["id"]: class_id(c["name"], class_names, path) for c in content["categories"]}
        boxes = {name: [] for name in names.values()}
        for thing in content["annotations"]:
            if not thing.get("iscrowd"):
                x, y, w, h = map(float, thing["bbox"])
                boxes[names[thing["image_id"]]].append((x, y, x + w, y + h, classes[thing["category_id"]]))
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not COCO's JSON ({type(error).__name__}: {error})") from error
    found = {name: sound_boxes(found, f"{path} ({name})") for name, found in boxes.items()}
    count = Counter(PurePosixPath(name).name for name in found)
    short = {PurePosixPath(name).name: b for name, b in found.items()}
    return {name: b for name, b in short.items() if count[name] == 1} | found


def sound_boxes(found, where) -> np.ndarray:
    """(B,5) float32; DataError for a box that is empty or turned around."""
    boxes = np.array(found, np.float32).reshape(-1, 5)
    bad = ~((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    if bad.any():
        raise DataError(f"{where}: box {boxes[bad][0, :4].tolist()} is empty; expected x1 < x2 and y1 < y2 (x1, y1, "
                        "x2, y2 in VOC, x, y, width, height in COCO)")
    return boxes


def read_tags(path: str | Path, class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """(K,) bool by image name, from lines 'NAME: class, class'; a class called background is always there."""
    found = {}
    for number, text in enumerate(read_text(Path(path)).splitlines(), 1):
        if not text.strip():
            continue
        name, colon, words = text.partition(":")
        if not colon:
            raise DataError(f"{path}, line {number}: {text!r}; expected NAME: class, class")
        tags = np.zeros(len(class_names), bool)
        for word in words.split(","):
            if word.strip():
                tags[class_id(word, class_names, f"{path}, line {number}")] = True
        if (background := background_of(class_names)) is not None:
            tags[background] = True
        found[name.strip()] = tags
    return found


def background_of(class_names: Sequence[str]) -> int | None:
    """0 where the first class is called background, else None: then all classes are things or stuff."""
    return 0 if class_names and class_names[0].lower().strip("_") == "background" else None


def write_points(path: str | Path, points: np.ndarray) -> None:
    """(P,3) class, x, y as text, one point a line; its folder is made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(f"{k},{x},{y}\n" for k, x, y in points.tolist()), encoding="utf-8")


def write_tags(path: str | Path, tags: dict[str, np.ndarray], class_names: Sequence[str]) -> None:
    """Tags by image name, (K,) bool each, as text; `read_tags` reads them."""
    lines = [f"{name}: {', '.join(class_names[k] for k in np.flatnonzero(t))}\n" for name, t in tags.items()]
    Path(path).write_text("".join(lines), encoding="utf-8")


def write_coco_boxes(path, boxes: dict[str, np.ndarray], sizes: dict[str, tuple[int, int]], class_names) -> None:
    """Boxes by image name, (B,5) each, as COCO's JSON; ids count from 1."""
    names = list(boxes)
    annotations = []
    for i, name in enumerate(names, 1):
        for x1, y1, x2, y2, k in boxes[name].tolist():
            annotations.append({
                "id": len(annotations) + 1, "image_id": i, "category_id": int(k) + 1, "iscrowd": 0,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1),
            })
    content = {
        "images": [{"id": i, "file_name": f"{name}.png", "height": int(sizes[name][0]), "width": int(sizes[name][1])}
                   for i, name in enumerate(names, 1)],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(class_names)],
        "annotations": annotations,
    }
    Path(path).write_text(json.dumps(content), encoding="utf-8")
