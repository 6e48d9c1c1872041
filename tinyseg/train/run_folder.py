"""A run is a folder: last.npz holds all that the next step depends on, metrics.csv and curves.png what was measured."""

import csv
import io
import math
from argparse import Namespace
from pathlib import Path

import numpy as np

from .. import __version__, checkpoint, report
from .average import Average, averaged


def save_run(
    out: Path, model, optimizer, task, at: dict, past: list[float], options: Namespace, average: Average | None
) -> None:
    """Write last.npz: all that the next step depends on. With an average its model is that; raw/ has the weights."""
    model.info.epoch, model.info.step = at["epoch"], at["step"]
    with averaged(average):
        header, arrays = checkpoint.model_parts(model)
    if average:
        arrays |= {f"raw/{name}": a for name, a in model.state_dict().items()}
    told = {k: v for k, v in vars(options).items() if k not in ("command_line", "resume")}
    header["training"] = {"at": at, "options": told, "random": model.random_state(), "tinyseg": __version__}
    arrays |= {f"optimizer/{name}": a for name, a in optimizer.state_dict().items()}
    arrays |= {f"task/{name}": a for name, a in task.state().items()}
    checkpoint.write(out / "last.npz", header, {**arrays, "training/losses": np.asarray(past, np.float64)})


def resume(path: Path, model, optimizer, task, average: Average | None) -> tuple[dict, list[float]]:
    """Take model, average and optimiser back to where last.npz was written; returns what `train` remembers."""
    header, arrays = checkpoint.read(path)
    info = model.info
    checkpoint.fill(path, header, arrays, model)
    try:
        if (model.info.class_names, model.info.mean) != (info.class_names, info.mean):
            raise ValueError(f"it knows the classes {model.info.class_names}, the data has {info.class_names}")
        if average:
            average.restart()
            model.load_state_dict(checkpoint.part(arrays, "raw"))
        optimizer.load_state_dict(checkpoint.part(arrays, "optimizer"))
        task.load_state(checkpoint.part(arrays, "task"))
        model.set_random_state(header["training"]["random"])
        at, past = header["training"]["at"], arrays["training/losses"].tolist()
        if missing := {"epoch", "batch", "step", "seconds", "best", "history"} - set(at):
            raise ValueError(f"it does not say {', '.join(sorted(missing))}")
        if at["step"] != len(past):
            raise ValueError(f"{len(past)} losses for {at['step']} steps")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise checkpoint.CheckpointError(
            f"{path}: no run can go on from it ({error}); cure: the last.npz of this run"
        ) from error
    return at, past


def write_metrics(out: Path, history: list[dict], past: list[float], curves: dict[str, str]) -> None:
    """metrics.csv, a row a validation, and curves.png of the loss and of the columns that `curves` names."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(history[0]))
    table.writeheader()
    table.writerows(history)
    checkpoint.write_atomically(out / "metrics.csv", lambda file: file.write(text.getvalue().encode()))
    report.curves(
        out / "curves.png",
        past,
        [row["step"] for row in history],
        {
            name: [row[key] if row[key] is not None else math.nan for row in history]
            for name, key in curves.items()
        },
    )
