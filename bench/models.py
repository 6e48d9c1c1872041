"""python -m bench.models: every model in one table, beside PyTorch.

    python -m bench.models                        sizes, times, memory; --only PATTERN for some
    python -m bench.models --camvid DIR           and the mean IoU on CamVid after the same few steps from scratch
    python -m bench.models --parts plan camvid    only these of plan, tinyseg, torch (times and memory) and camvid
    python -m bench.models --table                only what was measured before

Each model is measured in processes of its own and its results kept in --out, part by part: what is there is not
measured again, and a long run may be stopped and go on. Parameters are those for 11 classes; multiply-adds those of one
image. PyTorch runs torchvision's network or the twin in bench/twins.py, channels last. CamVid: AdamW, poly, crops of
128 at half the resolution, auxiliary losses as the recipe says; all models at a quarter of their width.
"""

import argparse
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import tinyseg as ts
from tinyseg.estimate import estimate

from . import machine
from .example import CLASSES

PARTS = ("plan", "tinyseg", "torch", "camvid")
COLUMNS = (
    "model | parameters | multiply-adds | training step, ms | PyTorch | prediction, ms | PyTorch "
    "| peak memory, step, MiB | PyTorch | prediction | PyTorch | mean IoU, CamVid"
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models", description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="models whose name matches this expression")
    parser.add_argument("--out", default="runs/bench-models", help="folder of the results")
    parser.add_argument("--size", type=int, default=128, help="side of the images (a model may need more)")
    parser.add_argument("--batch", type=int, default=2, help="images of a training step")
    parser.add_argument(
        "--width", type=int, default=0, help="width of all models in the timings (default: the paper's)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed calls; the best counts")
    parser.add_argument("--camvid", metavar="DIR", help="CamVid, as of the SegNet tutorial")
    parser.add_argument("--steps", type=int, default=100, help="training steps on CamVid")
    parser.add_argument("--camvid-width", type=int, help="width on CamVid (default: a quarter of each model's own)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    options = parser.parse_args()
    names = [name for name in ts.models.names() if re.search(options.only, name) and is_semantic(name)]
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for name in names if not options.table else ():
        measure(name, out / f"{name}.json", options)
    print(f"{machine.describe()}\n\n| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}")
    for name in names:
        if (out / f"{name}.json").exists():
            print(row(name, json.loads((out / f"{name}.json").read_text())))
    return 0


def is_semantic(name: str) -> bool:
    return getattr(ts.models.MODELS[name], "task", "semantic") == "semantic"


def measure(name: str, path: Path, options) -> None:
    """Do what is not in the model's file yet, part by part."""
    parts = {
        "plan": lambda: plan(name, options),
        "tinyseg": lambda: side("tinyseg", name, options),
        "torch": lambda: side("torch", name, options),
        "camvid": lambda: camvid(name, options),
    }
    for part in options.parts:
        if (part == "torch" and not has_twin(name)) or (part == "camvid" and options.camvid is None):
            continue
        found = json.loads(path.read_text()) if path.exists() else {}
        if part not in found:
            found[part] = parts[part]()
            path.write_text(json.dumps(found, indent=1))
            print(f"{name} {part}: {found[part]}", file=sys.stderr, flush=True)


def size_of(name: str, size: int) -> int:
    """The side that the model can take, at least `size`."""
    return getattr(ts.models.MODELS[name], "valid_size", lambda self, n: n)(None, size)


def plan(name: str, options) -> dict:
    size = size_of(name, options.size)
    found = estimate(lambda: ts.models.create(name, CLASSES, width=options.width or None), (size, size))
    return {"parameters": found.parameters, "multiply_adds": found.multiply_adds}


def has_twin(name: str) -> bool:
    try:
        import torch

        from .twins import twin
    except ImportError:
        return False
    with torch.device("meta"):
        return name == "unet" or twin(name, CLASSES) is not None


def side(library: str, name: str, options) -> dict:
    numbers = size_of(name, options.size), options.batch, options.width, options.rounds
    run = subprocess.run(
        [sys.executable, "-m", "bench.model_side", library, name, *map(str, numbers)],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        return {"failed": (run.stderr.strip() or f"status {run.returncode}").splitlines()[-1]}
    return json.loads(run.stdout)


def camvid(name: str, options) -> dict:
    """Mean IoU on the validation images at half resolution, after a fixed number of steps from scratch."""
    import numpy as np

    from tinyseg.checkpoint import Info
    from tinyseg.data import Loader, transforms

    from .model_side import middle, several

    train, val = (ts.data.open(options.camvid, split=split, scale=0.5) for split in ("train", "val"))
    mean, std = (0.41, 0.42, 0.43), (0.30, 0.31, 0.30)
    side = size_of(name, 128)
    prepare = transforms.Compose(
        [transforms.RandomFlip(), transforms.RandomCrop((side, side)), transforms.Normalize(mean, std)]
    )
    width = options.camvid_width or inspect.signature(ts.models.MODELS[name]).parameters["width"].default // 4
    model = ts.models.create(name, train.num_classes, width=width, seed=0)
    model.info = Info(list(train.class_names), np.asarray(train.palette)[:11].tolist(), list(mean), list(std))
    weights = (1.0, *ts.models.MODELS[name].recipe.aux_weights)
    optimizer = ts.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = ts.optim.warm_up(ts.optim.poly(options.steps), 10)
    loader = Loader(train, batch_size=4, seed=0, transform=prepare)
    step = 0
    while step < options.steps:
        for batch in loader:
            y = several(model(ts.tensor(batch.images)))
            loss = sum(
                ts.losses.cross_entropy(logits, middle(batch.masks, logits.shape[1:3])) * weight
                for logits, weight in zip(y, weights)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(schedule(step))
            step += 1
            if step == options.steps:
                break
    confusion = ts.metrics.ConfusionMatrix(train.num_classes)
    for i in range(len(val)):
        sample = val[i]
        confusion.update(ts.predict(model, sample.image), sample.mask)
    return {"mean_iou": float(confusion.mean_iou()), "loss": loss.item(), "steps": step, "width": width}


def row(name: str, found: dict) -> str:
    ours, theirs, quality = (found.get(part, {}) for part in ("tinyseg", "torch", "camvid"))

    def cell(side, key, unit=1.0):
        return f"{side[key] / unit:,.0f}" if key in side else side.get("failed", "")[:40]

    cells = [f"`{name}`", "", ""]
    if plan := found.get("plan"):
        cells[1:] = f"{plan['parameters']:,}", f"{plan['multiply_adds'] / 1e9:.1f} G"
    for key, unit in (("step", 1), ("predict", 1), ("step_peak", 2**20), ("predict_peak", 2**20)):
        cells += [cell(ours, key, unit), cell(theirs, key, unit)]
    cells += [f"{100 * quality['mean_iou']:.1f} %" if quality else ""]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
