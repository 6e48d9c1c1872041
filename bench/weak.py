"""What weak labels are worth: one network, one budget, labels of all kinds. A table of mean IoU against full masks.

    python -m bench.weak                      the synthetic shapes
    python -m bench.weak --data DIR           a data set; its weak labels are made by `tinyseg weaken` first
    python -m bench.weak --only 'tags'        rows by regular expression

Each row is a run of `tinyseg train` in --out; a row that is finished is read, one that was killed goes on.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np

import tinyseg as ts
from tinyseg.cli import main
from tinyseg.data import Shapes

SCRIBBLES, BOXES, TAGS = (["--supervision", kind, "--method"] for kind in ("scribbles", "boxes", "tags"))
WHOLE, HALF, SPOT = (["--length", part] for part in ("1", "0.5", "0"))
# name: (labels made with these options of `weaken`, options of `train`)
ROWS = {
    "masks": ([], []),
    "scribbles, ScribbleSup": (WHOLE, [*SCRIBBLES, "scribblesup"]),
    "scribbles of half the length, ScribbleSup": (HALF, [*SCRIBBLES, "scribblesup"]),
    "spots, ScribbleSup": (SPOT, [*SCRIBBLES, "scribblesup"]),
    "boxes, Bbox-Rect": ([], [*BOXES, "rect"]),
    "boxes, Bbox-EM-Fixed": ([], [*BOXES, "box_em"]),
    "boxes, Bbox-Seg": ([], [*BOXES, "seg"]),
    "tags, MIL": ([], [*TAGS, "mil"]),
    "tags, CCNN": ([], [*TAGS, "ccnn"]),
    "tags, CCNN, what is there is large": ([], [*TAGS, "ccnn_hard"]),
    "tags, EM-Adapt": ([], [*TAGS, "em_adapt"]),
    "tags, and every eighth image's mask, EM-Adapt": ([], [*TAGS, "em_adapt", "--masked", "eighth"]),
    "scribbles, partial cross-entropy": (WHOLE, [*SCRIBBLES, "pce"]),
    "scribbles, dense CRF loss": (WHOLE, [*SCRIBBLES, "crf"]),
    "spots, dense CRF loss": (SPOT, [*SCRIBBLES, "crf"]),
}
CRF = dict(gaussian_sxy=1, gaussian_weight=3, bilateral_sxy=20, bilateral_srgb=13, bilateral_weight=5)


def train_set(options):
    return Shapes(size=64, length=800, seed=1) if options.data is None else ts.data.open(options.data)


def val_set(options):
    """The images that `tinyseg train` validates on."""
    if options.data is None:
        return Shapes(size=64, length=100, seed=10_000)
    return ts.data.open(options.data, split="val", scale=options.scale)


def run(name: str, options) -> dict:
    """The result of a row: from its folder if it is there, else by training and measuring."""
    weaken, train = ROWS[name]
    folder = Path(options.out) / re.sub(r"[^\w.]+", "-", name)
    if (folder / "result.json").exists():
        return json.loads((folder / "result.json").read_text())
    if (folder / "last.npz").exists():
        command = ["train", "--out", str(folder), "--resume"]
    else:
        train = [str(len(train_set(options)) // 8) if word == "eighth" else word for word in train]
        command = ["train", "--out", str(folder), *train, *options.budget.split()]
        command += ["--crf-sxy", "20"] * ("crf" in train)
        if options.data is None:
            command += ["--scribble-width", "2", "--scribble-length", *weaken[1:]] * bool(weaken)
        else:
            command += ["--data", options.data, "--scale", str(options.scale)]
            scale, size = options.superpixels
            command += ["--superpixel-scale", scale, "--superpixel-size", size] * ("scribblesup" in train)
            if "--supervision" in train:
                command += ["--labels", labels(train[1], weaken, options)]
    print("tinyseg", *command, flush=True)
    if status := main(command):
        raise SystemExit(status)
    result = measure(folder / "last.npz", options) | {"command": " ".join(["tinyseg", *command])}
    (folder / "result.json").write_text(json.dumps(result))
    return result


def labels(kind, weaken, options) -> str:
    """The folder with the weak labels of a data set, made if it is not there."""
    folder = Path(options.out) / "labels" / "-".join([kind, *weaken[1:]])
    if not folder.exists() and main(["weaken", options.data, "--to", kind, "--out", str(folder), *weaken]):
        raise SystemExit(1)
    return str(folder)


def impossible(name: str, options) -> str:
    """Why a row makes no sense for a data set; empty where it does."""
    if "ccnn_hard" in ROWS[name][1] and train_set(options).num_classes > 10:
        return "a tenth of the image for each class that it shows is more than there is"
    return ""


def measure(path: Path, options) -> dict:
    """Mean IoU over the validation set, as the network says it and after a dense CRF."""
    model, data = ts.load(path), val_set(options)
    plain, refined = (ts.metrics.ConfusionMatrix(data.num_classes) for _ in range(2))
    for i in range(len(data)):
        sample = data[i]
        p = ts.predict(model, sample.image, scales=(1 / model.info.scale,), probabilities=True)
        plain.update(p.argmax(-1).astype(np.int32), sample.mask)
        q = ts.structured.dense_crf(sample.image, p, **CRF)
        refined.update(q.argmax(-1).astype(np.int32), sample.mask)
    return {"mean_iou": plain.mean_iou(), "with_crf": refined.mean_iou()}


def table(results: dict[str, dict]) -> str:
    """Markdown: mean IoU, and its part of what full masks reach, without and with CRF."""
    lines = ["| labels, method | mean IoU | of masks | with CRF | of masks |", "|---|---|---|---|---|"]
    full = results.get("masks")
    for name, result in results.items():
        cells = []
        for key in ("mean_iou", "with_crf"):
            part = f"{result[key] / full[key]:.2f}" if full else ""
            cells += [f"{result[key]:.3f}", part]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR")
    parser.add_argument("--scale", type=float, default=0.5, help="of a data set's images (0.5)")
    parser.add_argument(
        "--superpixels", nargs=2, default=["100", "20"], metavar=("K", "PIXELS"),
        help="--superpixel-scale and --superpixel-size of ScribbleSup on a data set (100 20)",
    )  # fmt: skip
    parser.add_argument("--only", metavar="REGEX", default="", help="the rows whose name it is found in")
    parser.add_argument("--budget", default="--width 8 --epochs 8 --batch 8 --lr 0.005", help="options of every row")
    parser.add_argument("--out", default="runs/weak")
    options = parser.parse_args()
    results = {}
    for name in ROWS:
        if not re.search(options.only, name):
            continue
        if why := impossible(name, options):
            print(f"{name}: left out, {why}", flush=True)
        else:
            results[name] = run(name, options)
            print(table(results), flush=True)
