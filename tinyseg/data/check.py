"""`tinyseg check`: what is in a data set, what is wrong with it, and the cure. Nothing in the set can make it fail."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .check_objects import check_objects
from .check_weak import find_weak
from .files import Files, Item, by_stem, twins
from .image import counted, listed, read_image, read_index
from .labels import Labels
from .layouts import LAYOUTS, layout_of, layout_of_objects
from .sample import IGNORE, ColourError, DataError

CURES = {
    "no data set": "arrange the files in one of the ways above",
    "annotations": "mend the file, or take the picture out of it",
    "class names": "write classes.txt, one name a line, background included",
    "split": "list names of images in its text file, a line each, or put images into its folder",
    "no picture": "put pictures (.png, .jpg, .tif ...) into the folder of images, masks of their names beside it",
    "no image file": "add it, or take its name out of the split's text file",
    "no mask file": "add it under the image's name, or list only the annotated images in train.txt and val.txt",
    "no instances file": "add it (zeros where there is no object), or take instances/ away",
    "weak labels": "mend the file: README, and the docstring of tinyseg/data/weak_files.py, say what it holds",
    "weak label without image": "add the image or delete the label; the names must agree up to the ending",
    "mask without image": "add the image or delete the mask; the names must agree up to the ending",
    "two files of one name": "delete or rename one: only the last is read; names must differ in more than the ending",
    "in two splits": "take it out of one: a model must not be judged on what it was trained on",
    "unreadable image": "copy or export it again, or take it out of the set",
    "unreadable mask": "export it again as index PNG (8-bit class ids, not JPEG), or take it out of the set",
    "coloured mask": "export it as index PNG, or say each class's colour in classes.txt, a line 'name red green blue' "
                     "each",
    "image and mask differ in size": "export both at one size; beware of photos that an EXIF tag turns",
    "number of no class": "name all classes in classes.txt, or renumber the masks (255 = ignore)",
    "nothing to measure by": "draw the masks of one or a few images, and list them in val.txt: training from weak "
                             "labels needs masks there, to measure by",
    "nothing but ignore": "take it out of the set: nothing can be learned from it",
}


@dataclass
class Report:
    """What `check` found; str(report) is a page to read, `ok` is True where nothing is wrong.

    splits: images by split. images: all in the splits; pairs: those with a mask, where both can be read and fit;
    unused: images in no split; instances: images whose objects are known. sizes: images by (height, width). channels:
    images by channels. values: masks by the numbers found in them; sets: files of masks by all their numbers, as
    printed. pixels, masks: pixels and masks by class id, 255 = ignore. weak: images by kind of weak label. masked_val:
    images of the split val that have masks. problems: what is wrong -> where.
    """

    path: Path
    layout: str = "none"
    labels: Labels | None = None
    splits: dict[str, int] = field(default_factory=dict)
    images: int = 0
    pairs: int = 0
    unused: int = 0
    instances: int = 0
    sizes: Counter = field(default_factory=Counter)
    channels: Counter = field(default_factory=Counter)
    values: Counter = field(default_factory=Counter)
    sets: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pixels: Counter = field(default_factory=Counter)
    masks: Counter = field(default_factory=Counter)
    weak: Counter = field(default_factory=Counter)
    masked_val: int = 0
    problems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def shares(self) -> dict[int, float]:
        """The share of each class in the pixels that are not ignored, in [0, 1]."""
        total = max(1, self.pixels.total() - self.pixels[IGNORE])
        return {k: self.pixels[k] / total for k in range(len(self.labels.class_names))} if self.labels else {}

    def __str__(self) -> str:
        pairs = f"{counted(self.pairs, 'pair')} of image and mask"
        if self.pairs != self.images:
            pairs += f" that can be used, of {counted(self.images, 'image')}"
        lines = [f"{self.path}: layout {self.layout}, {pairs}"] if self.layout != "none" else []
        if self.splits:
            told = [f"{split} {n}" for split, n in self.splits.items()] + [f"in none {self.unused}"] * bool(self.unused)
            lines.append("splits    " + ", ".join(told))
        if self.weak:
            lines.append("weak      " + ", ".join(f"{kind} {n}" for kind, n in self.weak.items())
                         + f"   (images); tinyseg train --supervision {' '.join(self.weak)} learns from them")
        if self.sizes:
            sizes = [f"{height}x{width} ({n})" for (height, width), n in self.sizes.most_common()]
            lines.append(f"sizes     {listed(sizes, 5)}   height x width (images)")
            lines.append("channels  " + ", ".join(f"{c} ({n})" for c, n in sorted(self.channels.items())))
        if self.values:
            lines.append(f"values    {listed(sorted(self.values), 20)}   as found in the masks")
            if self.labels is None or self.labels.meaning != "instances":
                lines += self._sets()
        if self.images:
            lines.append(self._objects())
        if self.labels and self.labels.remark and self.images:
            lines.append(f"note      {self.labels.remark}")
        if self.labels and self.labels.ignore_label is not None:
            lines.append(f"note      {self.labels.ignore_label} is read as 255 = ignore: pixels without a label")
        if self.labels and self.pixels:
            lines.append(f"classes   {len(self.labels.class_names)}, with their share of the pixels that count")
            lines += [f"{k:>9} {name:<20}{100 * self.shares[k]:7.2f} %   in {counted(self.masks[k], 'mask')}"
                      + ", never occurs" * (not self.masks[k]) for k, name in enumerate(self.labels.class_names)]
            ignored = self.pixels[IGNORE] / self.pixels.total()
            lines.append(f"      255 {'ignored':<20}{100 * ignored:7.2f} %   in {counted(self.masks[IGNORE], 'mask')}")
        for what, where in self.problems.items():
            lines += [f"WRONG     {what} ({len(where)}): {listed(where, 5)}", f"  cure    {CURES[what]}"]
        return "\n".join([*lines, "nothing is wrong" if self.ok else f"{counted(len(self.problems), 'kind')} of fault"])

    def _objects(self) -> str:
        """Whether models of objects can be trained on the set."""
        if self.instances == self.images:
            return "objects   told apart in all images"
        some = f"in {self.instances} of {counted(self.images, 'image')}" if self.instances else "nowhere"
        return f"objects   told apart {some}; mask_rcnn_... needs PNGs in instances/ that number them, for all images"

    def _sets(self, most: int = 8) -> list[str]:
        """A line for each set of numbers that masks hold, the frequent ones first."""
        sets = sorted(self.sets.items(), key=lambda entry: -len(entry[1]))
        lines = [f"{len(names):>9} mask{'s' * (len(names) > 1)} with {numbers}   such as {names[0]}"
                 for numbers, names in sets[:most]]
        if len(sets) > most:
            rest = sum(len(names) for _, names in sets[most:])
            lines.append(f"{rest:>9} masks with {len(sets) - most} other sets of numbers")
        return lines


def check(path: str | Path) -> Report:
    """Look at every file of a data set: pairs, sizes, values in masks, share of each class, what is wrong, the cure.

    Reads each image and mask once, and raises for nothing that it finds.
    Example: print(check("isbi2012"))
    """
    report = Report(Path(path))
    if not any(layout.recognises(report.path) for layout in LAYOUTS) and (layout := layout_of_objects(report.path)):
        check_objects(report, layout)
        return report
    try:
        layout = layout_of(path)
    except (DataError, OSError) as error:
        report.problems["no data set"].append(str(error))
        return report
    report.layout = layout.__name__
    items = _items(layout, report)
    without = [item.name for item in items if item.mask and not item.instances]
    if without and any(item.instances for item in items):
        report.problems["no instances file"] += without
    report.labels = _labels(layout, [item.mask for item in items if item.mask], report)
    weak = find_weak(report, items)
    for item in items:
        _look_at(item, report, weak)
    if report.weak and not report.masked_val:
        report.problems["nothing to measure by"].append(f"{path}, split val")
    return report


def _items(layout: type[Files], report: Report) -> list[Item]:
    """The items of all splits, each once, and what is wrong with the lists of files."""
    items = {}
    for split in layout.splits(report.path):
        try:
            found = layout.find(report.path, split)
        except (DataError, OSError) as error:
            report.problems["split"].append(str(error))
            continue
        report.splits[split] = len(found)
        report.masked_val += sum(item.mask is not None for item in found if split == "val")
        for item in found:
            if item in items:
                report.problems["in two splits"].append(item.name)
        items |= dict.fromkeys(found)
    report.images = sum(item.image is not None for item in items)
    if not items and not report.problems:
        report.problems["no picture"].append(str(report.path))
    if items and (empty := [f"{split} is empty" for split, count in report.splits.items() if not count]):
        report.problems["split"] += empty
    if double := twins(list(items)):
        report.problems["two files of one name"] += double
    images = {stem for folder in {item.image.parent for item in items if item.image} for stem in by_stem(folder)}
    report.unused = len(images - {item.image.stem for item in items if item.image})
    for folder in {item.mask.parent for item in items if item.mask}:
        for stem, file in by_stem(folder).items():
            if stem not in images and stem.removesuffix("_mask") not in images:
                report.problems["mask without image"].append(str(file))
    return list(items)


def _labels(layout, masks, report):
    """What the numbers mean, by the masks that can be read."""
    try:
        return layout.labels_of(report.path, masks)
    except DataError:
        sound = [mask for mask in masks if _numbers(mask, None)[1] is None]
    try:
        return layout.labels_of(report.path, sound)
    except DataError as error:
        report.problems["class names"].append(str(error))
        return None


def _numbers(path, colours):
    """The numbers in a mask file, or None, and what is wrong with it, or None: the kind of fault and the message."""
    try:
        return read_index(path, colours), None
    except ColourError as error:
        return None, ("coloured mask", str(error))
    except DataError as error:
        return None, ("unreadable mask", str(error))


def _look_at(item, report, weak):
    """Read the files of one item and note what is in them. weak: names of images that have another label."""
    report.instances += item.mask is not None and bool(report.labels and report.labels.has_instances(item.instances))
    shape = None
    if item.image is None:
        report.problems["no image file"].append(item.name)
    else:
        if item.mask is None and item.name not in weak:
            report.problems["no mask file"].append(item.name)
        try:
            shape = read_image(item.image).shape
            report.sizes[shape[:2]] += 1
            report.channels[shape[2]] += 1
        except DataError as error:
            report.problems["unreadable image"].append(str(error))
    for path in (item.mask, item.instances):
        if path is None:
            continue
        numbers, wrong = _numbers(path, report.labels.colours if report.labels and path == item.mask else None)
        if wrong:
            report.problems[wrong[0]].append(wrong[1])
            continue
        if shape is not None and numbers.shape != shape[:2]:
            report.problems["image and mask differ in size"].append(f"{path} {numbers.shape} but image {shape[:2]}")
        elif path == item.mask:
            report.pairs += shape is not None
        if path == item.mask:
            _count(path, numbers, report)


def _count(path, numbers, report):
    """Add the numbers of one mask to the totals, and note those that mean nothing."""
    counts = np.bincount(numbers.ravel())
    values = np.flatnonzero(counts)
    counts = counts[values]
    report.values.update(values.tolist())
    report.sets[listed(values, 20)].append(path.name)
    if report.labels is None:
        return
    ids = report.labels.of(values)
    for k in set(ids.tolist()):
        report.pixels[k] += int(counts[ids == k].sum())
        report.masks[k] += 1
    if (ids < 0).any():
        report.problems["number of no class"].append(f"{path}: {listed(values[ids < 0])}")
    if (ids == IGNORE).all():
        report.problems["nothing but ignore"].append(str(path))
