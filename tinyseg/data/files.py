"""What all data sets of files have in common: pairs of files by name, read, checked, and scaled one by one.

A layout (`Folder`, `CamVid`, `VOC`) adds where the files lie and what their numbers mean, by four static methods:
`recognises(path)`, `splits(path)`, `find(path, split)`, `labels_of(path, masks)`. The first three open no image, so
that `check` can use them on a damaged set.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .image import channels_of, listed, palette_of, read_image, read_index, read_text, say, voc_palette
from .labels import SURVEY, Labels, evenly
from .resample import as_size, resize_image, resize_labels
from .sample import IGNORE, DataError, Sample

IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm"}
SPLITS = ("train", "val", "test")  # names of splits start so: trainval, train_small ...


@dataclass(frozen=True)
class Item:
    """The files of one sample; None where a file is missing."""

    name: str
    image: Path | None
    mask: Path | None
    instances: Path | None = None


class Files:
    """Samples from image and mask files; the base of `Folder`, `CamVid` and `VOC`.

    split: "train", "val", "test" or "all". scale: resize on reading by this factor (images smooth, labels nearest);
    size: or to (height, width). in_channels: 1 or 3, to which every image is converted; None takes 1 where all images
    of the set are grey, else 3. labels: what the numbers in the masks mean; None finds out. masks_needed: False lets
    images in that have no mask file, whose samples have None there.

    Raises: DataError where the split is missing, empty or incomplete, and on reading where a file is damaged, sizes
        differ, or a label is no class; each names the file.
    """

    def __init__(self, path: str | Path, split: str = "train", *, scale: float | None = None,
                 size: int | tuple[int, int] | None = None, in_channels: int | None = None,
                 labels: Labels | None = None, masks_needed: bool = True):
        path = Path(path)
        if scale is not None and (size is not None or scale <= 0):
            raise ValueError(f"scale={scale}, size={size}, but one of them is expected, and scale > 0")
        if in_channels not in (None, 1, 3):
            raise ValueError(f"in_channels is {in_channels} but 1 (grey), 3 (RGB) or None is expected")
        self.items = self.find(path, split)
        everything = self.find(path, "all")  # so that train and val agree on classes and channels
        if not self.items:
            raise DataError(f"{path} ({split}): {why_empty(split, everything)}")
        _refuse_gaps(self.items, f"{path} ({split})", ("image", "mask") if masks_needed else ("image",))
        if double := twins(self.items):
            raise DataError(f"{path} ({split}): two files of one name ({listed(double)}), of which only one would be "
                            "read: delete or rename the other; names must differ in more than their ending")
        self.labels = labels or self.labels_of(path, [item.mask for item in everything if item.mask])
        if self.labels.remark:
            say(f"{path}: {self.labels.remark}")
        self.class_names = self.labels.class_names
        self.palette = voc_palette() if self.labels.colours is None else palette_of(self.labels.colours)
        images = [item.image for item in everything if item.image]
        self.in_channels = in_channels or max(channels_of(image) for image in evenly(images, SURVEY))
        self.scale, self.size = scale, None if size is None else as_size(size)

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

    def file_name(self, i: int) -> str:
        """The i-th image's file."""
        return self.items[i].image.name

    def image_path(self, i: int) -> Path:
        """Where the i-th image lies."""
        return self.items[i].image

    def __getitem__(self, i: int) -> Sample:
        item = self.items[i]
        image = read_image(item.image, self.in_channels)
        mask = instances = None
        if item.mask is not None:
            mask, instances = self.labels.read(item.mask)
            _refuse_sizes(image, item.image, mask, item.mask)
        if item.instances is not None and mask is not None:
            instances = read_index(item.instances)
            _refuse_sizes(image, item.image, instances, item.instances)
            instances[mask == IGNORE] = 0  # VOC draws its 255 border here too; it is no object
        sample = Sample(image, mask, instances, item.name)
        size = self.size
        if self.scale is not None:
            size = tuple(max(1, round(n * self.scale)) for n in image.shape[:2])
        if size is not None:
            sample = sample.map(lambda a: resize_image(a, size), lambda a, _: resize_labels(a, size))
        return sample


def bare_name(file: str) -> str:
    """The path of an image without its ending, with / on every system: a/1 for a/1.jpg and for ./a/1.jpg."""
    path = PurePosixPath(str(file).replace("\\", "/"))
    return str(path.with_suffix("")) if path.name else ""


def why_empty(split: str, everything) -> str:
    """What to say of a split without images, of all that there are."""
    if not everything:
        return f"there is no picture in its folders; expected files that end in {', '.join(sorted(IMAGE_ENDINGS))}"
    if len(everything) == 1:
        return ("the only picture belongs to another split; cure: more pictures, or the split 'all' for both (--split "
                "all --val-split all), which measures on what was trained on")
    return (f"the split is empty; cure: list images in {split}.txt, a name a line, or put some into its folder; "
            f"there are {len(everything)} in other splits")


def _refuse_gaps(items, where, needed):
    for what in needed:
        missing = [item.name for item in items if getattr(item, what) is None]
        if missing:
            raise DataError(f"{where}: {len(missing)} of {len(items)} names have no {what} file ({listed(missing)}): "
                            "add the files, or list only complete pairs in the split's text file")


def _refuse_sizes(image, image_path, labels, path):
    if labels.shape != image.shape[:2]:
        raise DataError(f"{path}: the mask is {labels.shape} (height, width) but its image {image_path.name} is "
                        f"{image.shape[:2]}, after any EXIF rotation: export both at one size")


def by_stem(directory: Path) -> dict[str, Path]:
    """The image files of a directory by their name without ending, sorted; {} where there is none."""
    return {p.stem: p for p in _image_files(directory)}


def twins(items: list[Item]) -> list[str]:
    """Files of the items that have a namesake beside them, such as a.jpg and a.png: only the last was paired."""
    chosen = {p for item in items for p in (item.image, item.mask, item.instances) if p is not None}
    double = []
    for folder in sorted({p.parent for p in chosen}):
        files = _image_files(folder)
        count = Counter(p.stem for p in files)
        paired = {p.stem for p in chosen if p.parent == folder}
        double += [str(p) for p in files if count[p.stem] > 1 and p.stem in paired]
    return double


def _image_files(directory):
    if not directory.is_dir():
        return []
    return sorted(p for p in directory.iterdir() if p.suffix.lower() in IMAGE_ENDINGS and not p.name.startswith("."))


def pair(images: dict, masks: dict, instances: dict | None = None, names: list[str] | None = None) -> list[Item]:
    """Items by equal stems ('a.jpg' with 'a.png' or 'a_mask.png'), of the given names or of all images."""
    objects = instances or {}
    return [Item(name, images.get(name), masks.get(name, masks.get(f"{name}_mask")), objects.get(name))
            for name in (images if names is None else names)]


def text_splits(lists: Path) -> list[str]:
    """The splits that a directory has text files for; train and val, by the rule of fifths, where it has none."""
    found = {p.stem for p in lists.glob("*.txt") if p.stem.startswith(SPLITS)}
    return sorted(found or {"train", "val"}, key=lambda split: (not split.startswith("train"), split))


def split_names(lists: Path, known: dict[str, Path], split: str) -> list[str]:
    """The names of a split: from `<split>.txt`; else what the other text file leaves; else every fifth name is val."""
    if split == "all":
        return list(known)
    if (lists / f"{split}.txt").is_file():
        return _read_names(lists / f"{split}.txt", known)
    other = {"train": "val", "val": "train"}.get(split)
    if other is None:
        raise DataError(f"{lists}: no split '{split}' ({split}.txt): there are {', '.join(text_splits(lists))} and all")
    if (lists / f"{other}.txt").is_file():
        taken = set(_read_names(lists / f"{other}.txt", known))
        say(f"{lists}: no {split}.txt; {split} is what {other}.txt leaves")
        return [name for name in known if name not in taken]
    if known:
        say(f"{lists}: no train.txt or val.txt; every fifth image is val, the others are train")
    fifth = set(list(known)[4::5] or list(known)[1:][-1:])  # the last of two, three or four
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
