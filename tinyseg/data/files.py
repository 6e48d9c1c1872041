"""What every data set of files has in common: a list of items, read, checked, and scaled one by one.

A layout (`Folder`, `CamVid`, `VOC`) adds where the files lie, by three static methods that open no image, so that `check`
can look through them at a damaged set: `recognises(path)`, `splits(path)`, `items(path, split)`.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .image import _list, header, palette_of, read_image, read_index, read_mask, say, voc_palette
from .resample import as_size, resize_image, resize_labels
from .sample import IGNORE, DataError, Sample

IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm"}
SPLITS = ("train", "val", "test")  # names of splits start so: trainval, train_small ...
SURVEY = 200  # files to look at, spread over the set, where nothing says what they hold
CLASS_FILES = ("classes.txt", "class_names.txt")


@dataclass(frozen=True)
class Item:
    """The files of one sample; None where a file is missing."""

    name: str
    image: Path | None
    mask: Path | None
    instances: Path | None = None


class Files:
    """Samples from image and mask files; the base of `Folder`, `CamVid` and `VOC`.

    scale: resize everything by this factor on reading (images smooth, labels nearest); size: or to (height, width).
    in_channels: 1 or 3; every image is converted to it.
    meaning: of the numbers in a mask: "classes", "binary" (0/255 -> 0/1) or "instances" (0 background, 1.. objects).
    ignore_label: a further number that means ignore, beside 255. colours: (K, 3), for masks saved as RGB.

    Raises: DataError where the split is empty or a mask is missing, and on reading where a file is damaged, sizes differ,
        or a label is no class; each names the file.
    """

    def __init__(self, items: list[Item], class_names: tuple[str, ...], *, scale: float | None = None, size=None,
                 in_channels: int = 3, meaning: str = "classes", ignore_label: int | None = None,
                 colours: np.ndarray | None = None, where: str = "data set"):
        if not items:
            raise DataError(f"{where}: the split is empty: no image is listed or found in it")
        for what in ("image", "mask"):
            missing = [item.name for item in items if getattr(item, what) is None]
            if missing:
                raise DataError(f"{where}: {len(missing)} of {len(items)} names have no {what} file ({_list(missing)}): add the "
                                "files, or list only complete pairs in the split's text file; `tinyseg check` shows all")
        if scale is not None and size is not None:
            raise ValueError(f"scale={scale} and size={size} are both given: give one")
        self.items, self.class_names, self.meaning = list(items), tuple(class_names), meaning
        self.scale, self.size = scale, None if size is None else as_size(size)
        self.ignore_label, self.colours = ignore_label, colours
        self.palette = voc_palette() if colours is None else palette_of(colours)
        if in_channels not in (1, 3):
            raise ValueError(f"in_channels is {in_channels} but 1 (grey) or 3 (RGB) is expected")
        self.in_channels = in_channels

    @property
    def num_classes(self) -> int:
        """How many classes there are, background included, ignore not."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} samples, {self.num_classes} classes, {self.in_channels} channels)"

    def name(self, i: int) -> str:
        """The i-th sample's name: its file's name without ending."""
        return self.items[i].name

    def __getitem__(self, i: int) -> Sample:
        item = self.items[i]
        image = read_image(item.image, self.in_channels)
        mask, instances = self._labels(item)
        for path, labels in ((item.mask, mask), (item.instances, instances)):
            if labels is not None and labels.shape != image.shape[:2]:
                raise DataError(f"{path}: the mask is {_by(labels)} (height x width) but its image {item.image.name} is "
                                f"{_by(image)}, after any EXIF rotation: export both at one size")
        sample = Sample(image, mask, instances, item.name)
        size = self.size or (self.scale and tuple(max(1, round(n * self.scale)) for n in image.shape[:2]))
        if size:
            sample = sample.map(lambda a: resize_image(a, size), lambda a, _: resize_labels(a, size))
        return sample

    def _labels(self, item):
        """(mask, instances) of an item; every label is a class or 255."""
        if self.meaning == "instances":
            ids = read_index(item.mask)
            return (ids > 0).astype(np.int32), ids
        mask = read_mask(item.mask, binary=self.meaning == "binary", colours=self.colours)
        if self.ignore_label is not None:
            mask[mask == self.ignore_label] = IGNORE
        if ((mask >= self.num_classes) & (mask != IGNORE)).any():
            raise DataError(f"{item.mask}: the mask holds {_list(np.unique(mask))} but there are {self.num_classes} classes "
                            f"(0..{self.num_classes - 1}, 255 = ignore): name them all in classes.txt, or renumber the mask")
        instances = None
        if item.instances is not None:
            instances = read_index(item.instances)
            if instances.shape == mask.shape:
                instances[mask == IGNORE] = 0  # VOC draws its 255 border here too; it is no object
        return mask, instances


def by_stem(directory: Path) -> dict[str, Path]:
    """The image files of a directory by their name without ending, sorted; {} where there is none."""
    if not directory.is_dir():
        return {}
    files = (p for p in directory.iterdir() if p.suffix.lower() in IMAGE_ENDINGS and not p.name.startswith("."))
    return {p.stem: p for p in sorted(files)}


def pair(images: dict, masks: dict, instances: dict | None = None, names: list[str] | None = None) -> list[Item]:
    """Items by equal stems ('a.jpg' with 'a.png' or 'a_mask.png'), of the given names or of all images."""
    objects = instances or {}
    return [Item(name, images.get(name), masks.get(name, masks.get(f"{name}_mask")), objects.get(name))
            for name in (images if names is None else names)]


def text_splits(lists: Path) -> list[str]:
    """The splits that a directory has text files for; train and val, by the rule of fifths, where it has none."""
    found = [p.stem for p in sorted(lists.glob("*.txt")) if p.stem.startswith(SPLITS)]
    return sorted(found, key=lambda s: not s.startswith("train")) or ["train", "val"]


def split_names(lists: Path, known: dict[str, Path], split: str) -> list[str]:
    """The names of a split: from `<split>.txt`; else what the other text file leaves; else every fifth name is val."""
    if split == "all":
        return list(known)
    if (lists / f"{split}.txt").is_file():
        return _read_names(lists / f"{split}.txt", known)
    other = {"train": "val", "val": "train"}.get(split)
    if other is None:
        raise DataError(f"{lists}: there is no split '{split}' ({split}.txt): there are {', '.join(text_splits(lists))} and all")
    if (lists / f"{other}.txt").is_file():
        taken = set(_read_names(lists / f"{other}.txt", known))
        say(f"{lists}: no {split}.txt; {split} is what {other}.txt leaves")
        return [name for name in known if name not in taken]
    say(f"{lists}: no train.txt or val.txt; every fifth image is val, the others are train")
    fifth = {name for k, name in enumerate(known) if k % 5 == 4 or (k == len(known) - 1 and 1 < len(known) < 5)}
    return [name for name in known if (name in fifth) == (split == "val")]


def _read_names(path, known):
    """The names in a text file, one a line; folders and endings are dropped, as is a second column."""
    names = []
    for line in read_text(path).splitlines():
        if line.strip():
            whole, first = Path(line.strip()), Path(line.split()[0])
            bare = first.stem if first.suffix.lower() in IMAGE_ENDINGS else first.name
            names.append(next((n for n in (whole.name, whole.stem, first.name) if n in known), bare))
    return names


def class_file(path: Path) -> Path | None:
    """The file with the class names, classes.txt or class_names.txt, or None."""
    return next((path / name for name in CLASS_FILES if (path / name).is_file()), None)


def read_classes(path: Path) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Class names, and their colours or None, from classes.txt: a line 'name' or 'name red green blue' each.

    A number before the name ('0 road') and a bracket behind it are dropped; a first line '__ignore__' too.
    Example: read_classes(Path("classes.txt")) -> (("background", "cell"), None)
    """
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if lines and lines[0] == "__ignore__":
        lines = lines[1:]
    if all(re.match(rf"{i}\s+\S", line) for i, line in enumerate(lines)):
        lines = [line.split(None, 1)[1] for line in lines]
    coloured = [re.fullmatch(r"(.*?)[\s,:]+(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})", line) for line in lines]
    colours = None
    if lines and all(coloured):
        lines = [found[1] for found in coloured]
        colours = np.array([[int(v) for v in found.groups()[1:]] for found in coloured])
        if colours.max() > 255:
            raise DataError(f"{path}: a colour is {colours.max()} but red, green and blue lie in 0..255")
    if len(lines) < 2:
        raise DataError(f"{path}: {len(lines)} class names but at least 2 are expected (class 0 is the background): one a line")
    return tuple(re.sub(r"\s*\([^)]*\)$", "", line).strip("_") or line for line in lines), colours


def read_text(path: Path) -> str:
    """A text file's contents, UTF-8 with or without byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def evenly(things: list, most: int) -> list:
    """At most so many of the things, spread over the whole list."""
    return things if len(things) <= most else [things[k * len(things) // most] for k in range(most)]


def channels_of(paths: list[Path]) -> int:
    """1 where all images (of SURVEY, spread over the list) are grey, else 3."""
    modes = (header(path)[0] for path in evenly(paths, SURVEY))
    return 1 if all(mode in ("1", "L", "LA", "La", "F") or mode.startswith("I") for mode in modes) else 3


def _by(array):
    return f"{array.shape[0]}x{array.shape[1]}"
