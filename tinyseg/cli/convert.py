"""tinyseg convert: the objects of any data set as a COCO JSON."""

from pathlib import Path

from .common import (
    UsageError,
    add_command,
    naming_check,
    progress_line,
)


def add(commands) -> None:
    p = add_command(commands, "convert", convert, "Write the objects of any data set as a COCO JSON.")
    p.add_argument("data", metavar="DIR", help="COCO, LabelMe, VIA, Penn-Fudan, VOC, or masks with instances")
    p.add_argument("--split", default="all", metavar="NAME", help="(all)")
    p.add_argument("--out", type=Path, default=Path("instances.json"), metavar="FILE", help="(instances.json)")


def convert(options) -> int:
    """tinyseg convert"""
    from ..data import open_objects, write_coco
    from ..data.image import counted

    if options.out.exists():
        raise UsageError(f"{options.out} exists already; cure: another --out")
    progress = progress_line()
    with naming_check(options.data):
        dataset = open_objects(options.data, options.split)
        whole = write_coco(dataset, options.out, lambda i: progress.show(f"image {i + 1} of {len(dataset)}"))
    counts = [0] * dataset.num_classes
    for annotation in whole["annotations"]:
        counts[annotation["category_id"]] += 1
    named = (f"{name} {count}" for name, count in zip(dataset.class_names, counts) if count)
    progress.say(f"{options.out}: {counted(len(whole['images']), 'image')}, {', '.join(named) or 'no objects'}")
    return 0
