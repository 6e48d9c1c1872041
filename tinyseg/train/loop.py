"""The loop, from the first line to the last: task, model, optimiser, then steps and epochs.

A run is a folder. last.npz holds all that the next step depends on (weights, running statistics, the optimiser's
arrays, generators, the number of the next batch), and the loader's batches depend on (seed, epoch, number) alone, so a
run that was killed goes on to the bit. metrics.csv and curves.png are written anew from what last.npz knows;
best.npz and samples.png at each validation that is the best so far.
"""

import math
import shlex
import time
from argparse import Namespace
from pathlib import Path

import numpy as np

from .. import __version__, checkpoint, optim, report
from ..amp import LossScaler, autocast
from ..data.image import counted
from ..device import get_device
from .average import Average, averaged
from .interrupt import Interrupt
from .optimisation import make_optimizer, make_schedule
from .run_folder import resume, save_run, write_metrics
from .task import TrainError, task_of

SAVE_BEFORE_VALIDATION = 10  # seconds since the last save
FIRST_STEPS = 3  # they compile kernels: speed and time left are those of the steps behind them
MOST_SKIPPED = 25  # steps in a row, with --amp: by then the loss's scale is not what overflows


def train(options: Namespace, progress: report.Progress) -> bool:
    """Train as the options of `tinyseg train` say; True if the run came to its end, False if Ctrl-C stopped it."""
    out, device = Path(options.out), get_device(options.device)
    task = task_of(options)
    loader = task.loader
    steps = options.steps or options.epochs * len(loader)
    model = task.make_model().to(device)
    optimizer = make_optimizer(options, model)
    schedule = make_schedule(options, steps)
    narrow = {"dtype": options.amp or "float16", "enabled": bool(options.amp)}
    scaler = LossScaler() if options.amp == "float16" else None

    def send(batch):  # to the device, while the step before is computed
        for array in task.uploads(batch):
            device.send(array)

    loader.ready = send
    average = Average(model, options.average) if options.average else None

    # What a run remembers: where it is, the loss of every step, a row for every validation
    found = None
    at = {"epoch": 0, "batch": 0, "step": 0, "seconds": 0.0, "best": -1.0, "history": []}
    past = []
    if options.resume:
        at, past = resume(out / "last.npz", model, optimizer, task, average)
        if scaler and at.get("scaler"):
            scaler.load_state_dict(at["scaler"])
        done = "" if at["step"] < steps or at["batch"] else "; nothing is left to do, but for more --epochs or --steps"
        progress.say(f"resumed at step {at['step']} of {steps}{done}")
    progress.say(
        f"{options.model} ({model.parameter_count():,} parameters, {device.name}), "
        f"{counted(len(task.train_set), 'image')} to train on, {len(task.val_set)} to validate, "
        f"{counted(steps, 'step')} of {counted(options.batch, 'image')}; {out}"
    )

    if options.amp and not device.half:
        progress.say(f"--amp: device {device.name} has no arithmetic of 16 bits, it computes in float32")

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainError(f"--out {out}: no folder can be made there ({error.strerror}); cure: another --out") from error
    for left_behind in out.glob(".*.tmp"):  # by a run that was killed while it wrote
        left_behind.unlink()
    with open(out / "command.txt", "a") as file:
        file.write(f"{options.command_line}    # tinyseg {__version__}\n")
    if not options.resume:
        save_run(out, model, optimizer, task, at, past, options, average)
    clock, saved, warm, warned = time.monotonic() - at["seconds"], time.monotonic(), None, []
    compiling = at["step"] + min(FIRST_STEPS, max(1, (steps - at["step"]) // 2))
    with Interrupt(progress) as interrupt:
        while at["step"] < steps or at["batch"]:
            if not at["batch"]:
                task.begin_epoch(model, at["epoch"], progress)
            model.train()
            began, waited, first = time.monotonic(), loader.wait_seconds, at["step"]
            for batch in loader.batches(at["epoch"], at["batch"]):
                if at["step"] >= steps:
                    break
                with autocast(**narrow):
                    loss = task.loss(model, batch)
                value = loss.item()
                if not math.isfinite(value) and not (scaler and scaler.skipped_in_a_row < MOST_SKIPPED):
                    raise TrainError(
                        f"the loss is {value} at step {at['step'] + 1} (epoch {at['epoch'] + 1}): training diverged. "
                        f"The last good state is in {out / 'last.npz'}. Cure: a smaller --lr (it is {options.lr:.3g}), "
                        "--clip 1, or --warmup 100; start anew with another --out."
                    )
                optimizer.zero_grad()
                updated = True
                if scaler is None:
                    loss.backward()
                    if options.clip:
                        optim.clip_grad_norm(model.parameters(), options.clip)
                    optimizer.step(schedule(at["step"]))
                elif not (updated := update_scaled(scaler, loss, value, optimizer, schedule(at["step"]), options.clip)):
                    progress.say(f"step {at['step'] + 1}: {scaler.message}")
                    if scaler.skipped_in_a_row >= MOST_SKIPPED:
                        raise TrainError(
                            f"{MOST_SKIPPED} steps in a row had nan or inf in a gradient, the last of them step "
                            f"{at['step'] + 1}. The last good state is in {out / 'last.npz'}. Cure: --amp bfloat16, a "
                            "smaller --lr, or no --amp; start anew with another --out."
                        )
                if average and updated:
                    average.update(at["step"])
                at["scaler"] = scaler and scaler.state_dict()
                past.append(value)
                at["step"] += 1
                at["batch"] += 1
                at["seconds"] = time.monotonic() - clock

                now = time.monotonic()
                if at["step"] == compiling:  # the steps so far say nothing about the others
                    warm = now, at["step"]
                    began, waited, first = now, loader.wait_seconds, at["step"]
                spent, done = now - began, at["step"] - first
                speed = "measuring speed"
                if warm and done:
                    left = (steps - at["step"]) * (now - warm[0]) / (at["step"] - warm[1])
                    speed = (
                        f"{options.batch * done / spent:.1f} images/s  "
                        f"data {100 * (loader.wait_seconds - waited) / spent:.0f} %  {report.duration(left)} left"
                    )
                progress.show(
                    f"epoch {at['epoch'] + 1}  step {at['step']}/{steps}  loss {mean_loss(past[-20:]):.4f}  "
                    f"lr {options.lr * schedule(at['step'] - 1):.2e}  {speed}"
                )
                if interrupt.asked or now - saved >= options.save_every:
                    save_run(out, model, optimizer, task, at, past, options, average)
                    saved = time.monotonic()
                if interrupt.asked:
                    progress.say(stopped(at, out))
                    return False

            # The end of an epoch: validate, write down, draw. A failure in validation must not cost a long epoch
            if (at["epoch"] + 1) % options.validate_every and at["step"] < steps:
                at["epoch"], at["batch"] = at["epoch"] + 1, 0
                continue
            if time.monotonic() - saved >= SAVE_BEFORE_VALIDATION:
                save_run(out, model, optimizer, task, at, past, options, average)
            at["epoch"], at["batch"] = at["epoch"] + 1, 0
            with averaged(average), autocast(**narrow):
                found = task.validate(model, progress)
            at["seconds"] = time.monotonic() - clock
            row = {
                "epoch": at["epoch"],
                "step": at["step"],
                "seconds": round(at["seconds"], 1),
                "lr": options.lr * schedule(at["step"] - 1),
                "train_loss": mean_loss(past[at["history"][-1]["step"] if at["history"] else 0 :]),
                **found.row,
            }
            at["history"].append(checkpoint.plain(row))
            progress.say(headline(row, found.metrics))
            for line in found.lines + [w for w in found.warnings if w not in warned]:
                progress.say(line)
            warned = found.warnings
            model.info.epoch, model.info.step, model.info.metrics = at["epoch"], at["step"], found.metrics
            if not found.score < at["best"]:  # also where it is nan: there nothing is ever better
                at["best"] = found.score if math.isfinite(found.score) else at["best"]
                with averaged(average):
                    checkpoint.save(out / "best.npz", model)
                found.draw(out / "samples.png")
            write_metrics(out, at["history"], past, task.curves)
            save_run(out, model, optimizer, task, at, past, options, average)
            saved = time.monotonic()
            if interrupt.asked and at["step"] < steps:
                progress.say(stopped(at, out))
                return False

    if found and found.table:
        progress.say(found.table)
    name = task.score_name
    best = f"best {name} {at['best']:.4f}" if at["best"] >= 0 else f"no {name}: nothing could be measured"
    progress.say(
        f"{best}; {report.duration(at['seconds'])}, peak memory {report.peak_memory()}\n"
        f"{out}: samples.png curves.png metrics.csv best.npz last.npz command.txt"
    )
    return True


def update_scaled(scaler: LossScaler, loss, value: float, optimizer, factor: float, clip: float) -> bool:
    """Backward and the optimiser's step with a scaled loss; False if nan or inf was found and nothing was updated."""
    if not math.isfinite(value):
        scaler.overflow()
        return False
    scaler.scale(loss).backward()
    return scaler.step(optimizer, factor, clip)


def mean_loss(losses: list[float]) -> float:
    """Of the steps that were not skipped."""
    good = [value for value in losses if math.isfinite(value)]
    return float(np.mean(good)) if good else math.nan


def headline(row: dict, metrics: dict[str, float]) -> str:
    """The line of an epoch: its loss and the metrics of its validation."""
    words = {name: name.replace("_", " ").replace("iou", "IoU").replace(" ap", " AP") for name in metrics}
    told = "  ".join(f"{words[name]} {value:.4f}" for name, value in metrics.items())
    return (
        f"epoch {row['epoch']:3}  step {row['step']:5}  loss {row['train_loss']:.4f}  {told}  "
        f"{report.duration(row['seconds'])}"
    )


def stopped(at: dict, out: Path) -> str:
    return f"stopped at step {at['step']}; go on: tinyseg train --out {shlex.quote(str(out))} --resume"
