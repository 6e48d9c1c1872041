"""python -m bench.models: every model in one table, beside PyTorch.

    python -m bench.models                        sizes, times, memory of all; --only PATTERN for some
    python -m bench.models --camvid DIR           and the mean IoU on CamVid after the same few steps from scratch
    python -m bench.models --parts plan camvid    only these of plan, tinyseg, torch (times and memory) and camvid
    python -m bench.models --table                measure nothing: the tables of what was measured before

Each model is measured in processes of its own and its results kept in --out, a file a model, part by part: what is
there is not measured again, and a run may be stopped and go on. At the end the two tables are printed and written to
--out: long.md (as in bench/RESULTS.md) and short.md (as in README.md).

Parameters are those for 11 classes; multiply-adds those of one image. PyTorch runs torchvision's network or the twin
in bench/twins.py, channels last. The column of CamVid is bench/camvid.py's.
"""

import argparse
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models", description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="models whose name matches this expression")
    parser.add_argument("--out", default="runs/bench-models", help="folder of the results")
    parser.add_argument("--size", type=int, default=128, help="side of the images (a model may need more)")
    parser.add_argument("--batch", type=int, default=2, help="images of a training step")
    parser.add_argument("--width", type=int, default=0, help="of all models in the timings (default: the paper's)")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls; the best counts")
    parser.add_argument("--camvid", metavar="DIR", help="CamVid, as of the SegNet tutorial")
    parser.add_argument("--steps", type=int, default=300, help="training steps on CamVid")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    options = parser.parse_args()
    names = [name for name in ts.models.names() if is_semantic(name)]
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for name in names if not options.table else ():
        if re.search(options.only, name):
            measure(name, out / f"{name}.json", options)
    found = {name: read(out / f"{name}.json") for name in names if (out / f"{name}.json").exists()}
    for file, rows in (("long.md", long_table(found)), ("short.md", short_table(found))):
        text = "\n".join([*rows, ""])
        (out / file).write_text(text)
        print(f"{out / file}, {machine.describe()}\n\n{text}")
    return 0


def is_semantic(name: str) -> bool:
    return getattr(ts.models.MODELS[name], "task", "semantic") == "semantic"


def read(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


# ------------------------------------------------------------------------------------------------------ measuring


def measure(name: str, path: Path, options) -> None:
    """Do what is not in the model's file yet, part by part."""
    parts = {
        "plan": lambda: plan(name, options),
        "tinyseg": lambda: side("tinyseg", name, options),
        "torch": lambda: side("torch", name, options),
        "camvid": lambda: process("bench.camvid", options.camvid, name, "--steps", options.steps),
    }
    for part in options.parts:
        if (part == "torch" and not has_twin(name)) or (part == "camvid" and options.camvid is None):
            continue
        if part not in read(path):
            result = parts[part]()
            path.write_text(json.dumps(read(path) | {part: result}, indent=1))
            print(f"{name} {part}: {result}", file=sys.stderr, flush=True)


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
        return twin(name, CLASSES) is not None


def side(library: str, name: str, options) -> dict:
    """Times and memory of one library, of a process that finds its kernels compiled."""
    numbers = size_of(name, options.size), options.batch, options.width, options.rounds
    result = process("bench.model_side", library, name, *numbers)
    if result.get("compiled"):  # the compiler's memory is not the model's
        result = process("bench.model_side", library, name, *numbers)
    return result


def process(module: str, *arguments) -> dict:
    """The line of JSON that a module prints, run in a process of its own; what went wrong under "failed"."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        return {"failed": (run.stderr.strip() or f"status {run.returncode}").splitlines()[-1]}
    return json.loads(run.stdout)


# --------------------------------------------------------------------------------------------------------- tables


def long_table(found: dict[str, dict]) -> list[str]:
    """Ours and PyTorch's of everything."""
    head = (
        "model | parameters | multiply-adds | training step, ms | PyTorch | prediction, ms | PyTorch "
        "| peak memory, step, MiB | PyTorch | prediction | PyTorch | mean IoU, CamVid"
    )
    rows = []
    for name, parts in found.items():
        ours, theirs = parts.get("tinyseg", {}), parts.get("torch", {})
        times = [number(side, key) for key in ("step", "predict") for side in (ours, theirs)]
        memory = [number(side, key, 2**20) for key in ("step_peak", "predict_peak") for side in (ours, theirs)]
        rows.append([*sizes(name, parts), *times, *memory, quality(parts)])
    return markdown(head, rows)


def short_table(found: dict[str, dict]) -> list[str]:
    """Ours, and how much less PyTorch's is or more: a ratio below 1 is less than PyTorch."""
    head = "model | parameters | multiply-adds | step, ms | prediction, ms | peak memory, MiB | mean IoU, CamVid"
    rows = []
    for name, parts in found.items():
        pairs = [("step", 1), ("predict", 1), ("step_peak", 2**20)]
        rows.append([*sizes(name, parts), *(beside(parts, *pair) for pair in pairs), quality(parts)])
    return markdown(head, rows)


def markdown(head: str, rows: list[list[str]]) -> list[str]:
    return [f"| {head} |", "|---" * (head.count("|") + 1) + "|", *(f"| {' | '.join(row)} |" for row in rows)]


def sizes(name: str, parts: dict) -> list[str]:
    """Name, parameters, multiply-adds."""
    if "plan" not in parts:
        return [f"`{name}`", "", ""]
    return [f"`{name}`", f"{parts['plan']['parameters']:,}", f"{parts['plan']['multiply_adds'] / 1e9:.1f} G"]


def number(side: dict, key: str, unit: float = 1) -> str:
    return f"{side[key] / unit:,.0f}" if key in side else side.get("failed", "")[:40]


def beside(parts: dict, key: str, unit: float) -> str:
    """Ours, and in brackets its ratio to PyTorch's."""
    ours, theirs = parts.get("tinyseg", {}), parts.get("torch", {})
    ratio = f" ({ours[key] / theirs[key]:.2f})" if key in ours and key in theirs else ""
    return number(ours, key, unit) + ratio


def quality(parts: dict) -> str:
    found = parts.get("camvid", {})
    return f"{100 * found['mean_iou']:.1f} %" if "mean_iou" in found else found.get("failed", "")[:40]


if __name__ == "__main__":
    sys.exit(main())
