"""`tinyseg check` of annotated objects (COCO JSON, LabelMe, VIA): every picture and every annotation is read once."""

from collections import Counter
from pathlib import Path

import numpy as np

from .coco import Coco, candidates
from .files import SPLITS
from .labels import Labels
from .sample import DataError


def check_objects(report, layout: type) -> None:
    """Fill a `check.Report` of a data set of this layout; what cannot be read is a problem, not an error."""
    report.layout, objects, crowds = layout.__name__, Counter(), 0
    names, seen = ("background", "object"), set()
    for name, (split, source) in _splits(layout, report.path).items():
        try:
            dataset = layout(source, split)
        except DataError as error:
            report.problems["annotations"].append(str(error))
            continue
        report.splits[name], names = len(dataset), dataset.class_names
        if layout is Coco and (lost := dataset.lost()):
            report.problems["annotations"].append(f"{source}: {lost} annotations are of images that it does not list")
        files = [dataset.image_path(i) for i in range(len(dataset))]
        report.problems["in two splits"] += [file.name for file in files if file in seen]
        seen.update(files)
        report.images += len(dataset)
        for i in range(len(dataset)):
            try:
                sample = dataset[i]
            except DataError as error:
                report.problems["annotations"].append(str(error))
                continue
            report.pairs += 1
            report.instances += 1
            report.sizes[sample.image.shape[:2]] += 1
            report.channels[sample.image.shape[2]] += 1
            classes, counts = np.unique(sample.mask, return_counts=True)
            report.pixels.update(dict(zip(classes.tolist(), counts.tolist())))
            report.masks.update(classes.tolist())
            objects.update(names[k] for k in sample.objects.labels[~sample.objects.crowd])
            crowds += int(sample.objects.crowd.sum())
    told = ", ".join(f"{name} {count}" for name, count in objects.most_common() if count)
    remark = f"{objects.total()} objects" + f" ({told})" * bool(told) + f", and {crowds} crowds" * bool(crowds)
    if not report.problems["in two splits"]:
        del report.problems["in two splits"]
    report.labels = Labels(names, remark=remark) if len(names) > 1 else None


def _splits(layout, path: Path) -> dict[str, tuple[str, Path]]:
    """By the name to tell: what to open as which split, each JSON of COCO, or the folder's lists, or all of it."""
    if layout is Coco:
        files = [path] if path.is_file() else candidates(path)
        return {file.stem: (next((s for s in SPLITS if s in file.stem), "all"), file) for file in files}
    return {split: (split, path) for split in layout.splits(path)}
