"""tinyseg weaken: weak labels from the masks of a data set, to try weak supervision or to measure it."""

import shlex
import zlib
from pathlib import Path

from .common import (
    UsageError,
    add_command,
    count,
    make_folder,
    naming_check,
    not_negative,
    progress_line,
    whole,
    whole_or_not,
)


def add(commands) -> None:
    p = add_command(commands, "weaken", weaken, "Weak labels from masks: scribbles, points, boxes or tags.")
    p.add_argument("data", metavar="DIR", help="a data set (see `tinyseg check`)")
    p.add_argument("--to", required=True, choices=["scribbles", "points", "boxes", "tags"])
    p.add_argument("--split", default="train", metavar="NAME", help="the split whose masks are weakened (train)")
    p.add_argument("--out", metavar="DIR", help="where scribbles/, points/, boxes.json or tags.txt go (the data set)")
    p.add_argument("--length", type=not_negative, default=1.0, metavar="PART", help="of a whole scribble, 0 to 1 (1)")
    p.add_argument("--width", type=count, default=3, metavar="PIXELS", help="of a scribble (3)")
    p.add_argument("--seed", type=whole, default=0, help="of the places of scribbles and points (0)")


def weaken(options) -> int:
    """tinyseg weaken"""
    from ..data import IGNORE, weak_files, write_mask
    from ..data import open as open_data
    from ..data import weaken as make
    from ..data.image import counted

    if options.length > 1:
        raise UsageError(f"--length {options.length:g}: expected a part of the whole scribble, from 0 to 1")
    with naming_check(options.data):
        dataset = open_data(options.data, split=options.split)
    out, progress, kind = Path(options.out or options.data), progress_line(), options.to
    there = out / {"boxes": "boxes.json", "tags": "tags.txt"}.get(kind, kind)
    if there.exists():
        raise UsageError(f"{there} exists and would be written over; cure: --out DIR, or take it away")
    make_folder(out)
    names, found, sizes, drawn, pixels = dataset.class_names, {}, {}, 0, 0
    with naming_check(options.data), whole_or_not(there):
        for i in range(len(dataset)):
            sample = dataset[i]
            seed, name = [options.seed, zlib.crc32(sample.name.encode())], sample.name
            if kind == "scribbles":
                labels = make.scribbles(sample.mask, sample.instances, options.length, options.width, seed)
                (there / name).parent.mkdir(parents=True, exist_ok=True)  # a name may hold folders
                write_mask(there / f"{name}.png", labels, dataset.palette)
                drawn += int((labels != IGNORE).sum())
            elif kind == "points":
                points = make.points(sample.mask, sample.instances, seed)
                weak_files.write_points(there / f"{name}.txt", points)
                drawn += len(points)
            elif kind == "boxes":
                background = weak_files.background_of(names)
                found[name], sizes[name] = make.boxes(sample.mask, sample.instances, background), sample.mask.shape
                drawn += len(found[name])
            else:
                found[name] = make.tags(sample.mask, len(names))
                drawn += int(found[name].sum())
            pixels += sample.mask.size
            progress.show(f"{kind} {i + 1}/{len(dataset)}")
        if kind == "boxes":
            weak_files.write_coco_boxes(there, found, sizes, names)
        elif kind == "tags":
            weak_files.write_tags(there, found, names)
    amount = f"{100 * drawn / pixels:.2f} % of the pixels" if kind == "scribbles" else f"{drawn} {kind}"
    progress.say(f"{there}: {amount} in {counted(len(dataset), 'image')}")
    labels = ["--labels", out] * bool(options.out)
    progress.say(shlex.join(map(str, ["tinyseg", "train", "--data", options.data, "--supervision", kind, *labels])))
    return 0
