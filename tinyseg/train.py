"""Training, from the first line to the last: data, model, loss, optimiser, then steps and epochs.

A run is a folder. last.npz holds all that the next step depends on (weights, running statistics, the optimiser's
arrays, generators, the number of the next batch), and the loader's batches depend on (seed, epoch, number) alone, so a
run that was killed goes on to the bit. metrics.csv and curves.png are written anew from what last.npz knows;
best.npz and samples.png at each validation that is the best so far.
"""

import csv
import io
import math
import shlex
import signal
import threading
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np

from . import __version__, checkpoint, losses, models, optim, report
from .checkpoint import Info
from .data import IGNORE, DataError, Loader, Sample, Shapes
from .data import open as open_data
from .data import transforms as t
from .device import get_device
from .evaluate import evaluate
from .losses.border import connected_components
from .tensor import tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's photographs, in [0, 1]; the usual choice
LOSSES = {
    "cross_entropy": losses.cross_entropy,
    "ce": losses.cross_entropy,
    "dice": losses.dice,
    "focal": losses.focal,
    "lovasz": losses.lovasz_softmax,
}
OPTIMIZERS = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}
SAVE_BEFORE_VALIDATION = 10  # seconds since the last save
AUGMENTATIONS = {
    "flip": t.RandomFlip(),
    "vflip": t.RandomFlip(0, 0.5),
    "rotate": t.RandomRotation(15),
    "elastic": t.ElasticDeformation(),
    "scale": t.RandomScale(0.75, 1.5),
    "color": t.ColorJitter(),
    "blur": t.Blur(),
}


class TrainError(RuntimeError):
    """A run that cannot start or cannot go on; the message says why and what to do."""


def train(options: Namespace, progress: report.Progress) -> bool:
    """Train as the options of `tinyseg train` say; True if the run came to its end, False if Ctrl-C stopped it."""
    out, device = Path(options.out), get_device(options.device)

    # Data
    train_set, val_set = open_set(options, options.split), open_set(options, options.val_split)
    channels, names = train_set.in_channels, list(train_set.class_names)
    mean, std = (MEAN, STD) if channels == 3 else ((0.45,), (0.23,))
    size = crop_of(options, train_set)
    if len(train_set) < options.batch:
        raise TrainError(
            f"--batch {options.batch}: there are {len(train_set)} images to train on, not one batch; "
            f"cure: --batch {len(train_set)}"
        )
    loader = Loader(
        train_set,
        options.batch,
        seed=options.seed,
        workers=options.workers,
        drop_last=True,
        transform=augmentation(options, size, mean, std),
        cache_bytes=int(options.cache * 2**30),
    )
    steps = options.steps or options.epochs * len(loader)

    # Model, loss, optimiser
    model = make_model(options, len(names), channels).to(device)
    check_crop(model, options.model, size)
    model.info = Info(names, np.asarray(train_set.palette)[: len(names)].tolist(), list(mean), list(std), options.scale)
    loss_of = make_loss(options, train_set)
    optimizer = make_optimizer(options, model)
    schedule = make_schedule(options, steps)

    # What a run remembers: where it is, the loss of every step, a row for every validation
    result = None
    at = {"epoch": 0, "batch": 0, "step": 0, "seconds": 0.0, "best": -1.0, "history": []}
    past = []
    if options.resume:
        at, past = resume(out / "last.npz", model, optimizer)
        progress.say(f"resumed at step {at['step']} of {steps}")
    progress.say(
        f"{options.model} ({model.parameter_count():,} parameters, {device.name}), {len(train_set)} images to "
        f"train on, {len(val_set)} to validate, {steps} steps of {options.batch} images; {out}"
    )

    out.mkdir(parents=True, exist_ok=True)
    for left_behind in out.glob(".*.tmp"):  # by a run that was killed while it wrote
        left_behind.unlink()
    with open(out / "command.txt", "a") as file:
        file.write(f"{options.command_line}    # tinyseg {__version__}\n")
    if not options.resume:
        save_run(out, model, optimizer, at, past, options)
    clock, saved, warm = time.monotonic() - at["seconds"], time.monotonic(), None
    with Interrupt(progress) as interrupt:
        while at["step"] < steps or at["batch"]:
            model.train()
            began, waited, first = time.monotonic(), loader.wait_seconds, at["step"]
            epoch_began = at["step"] - at["batch"]
            for batch in loader.batches(at["epoch"], at["batch"]):
                if at["step"] >= steps:
                    break
                loss = loss_of(model(tensor(batch.images, device)), batch)
                value = loss.item()
                if not math.isfinite(value):
                    raise TrainError(
                        f"the loss is {value} at step {at['step'] + 1} (epoch {at['epoch'] + 1}): training diverged. "
                        f"The last good state is in {out / 'last.npz'}. Cure: a smaller --lr (it is {options.lr:.3g}), "
                        "--clip 1, or --warmup 100; start anew with another --out."
                    )
                optimizer.zero_grad()
                loss.backward()
                if options.clip:
                    optim.clip_grad_norm(model.parameters(), options.clip)
                optimizer.step(schedule(at["step"]))
                past.append(value)
                at["step"] += 1
                at["batch"] += 1
                at["seconds"] = time.monotonic() - clock

                now = time.monotonic()
                spent, done = now - began, at["step"] - first
                warm = warm or (now, at["step"])  # the first step compiles kernels: it says nothing about the others
                left = (steps - at["step"]) * (now - warm[0]) / max(1, at["step"] - warm[1])
                progress.show(
                    f"epoch {at['epoch'] + 1}  step {at['step']}/{steps}  loss {np.mean(past[-20:]):.4f}  "
                    f"lr {options.lr * schedule(at['step'] - 1):.2e}  {options.batch * done / spent:.1f} images/s  "
                    f"data {100 * (loader.wait_seconds - waited) / spent:.0f} %  "
                    f"{report.duration(left) if at['step'] > warm[1] else '?'} left"
                )
                if interrupt.asked or now - saved >= options.save_every:
                    save_run(out, model, optimizer, at, past, options)
                    saved = time.monotonic()
                if interrupt.asked:
                    progress.say(stopped(at, out))
                    return False

            # The end of an epoch: validate, write down, draw. A failure in validation must not cost a long epoch
            if time.monotonic() - saved >= SAVE_BEFORE_VALIDATION:
                save_run(out, model, optimizer, at, past, options)
            at["epoch"], at["batch"] = at["epoch"] + 1, 0
            result = evaluate(model, val_set, progress)
            at["seconds"] = time.monotonic() - clock
            row = {
                "epoch": at["epoch"],
                "step": at["step"],
                "seconds": round(at["seconds"], 1),
                "lr": options.lr * schedule(at["step"] - 1),
                "train_loss": float(np.mean(past[epoch_began:])),
                "val_loss": result["loss"],
                "mean_iou": result["mean_iou"],
                "pixel_accuracy": result["pixel_accuracy"],
                **{f"iou_{name}": float(v) for name, v in zip(names, result["iou"])},
            }
            at["history"].append(checkpoint.plain(row))
            show_epoch(progress, row, result, names)
            model.info.epoch, model.info.step = at["epoch"], at["step"]
            model.info.metrics = {k: row[k] for k in ("mean_iou", "pixel_accuracy", "val_loss")}
            if not row["mean_iou"] < at["best"]:  # also where it is nan: there nothing is ever better
                at["best"] = row["mean_iou"] if math.isfinite(row["mean_iou"]) else at["best"]
                checkpoint.save(out / "best.npz", model)
                report.samples(out / "samples.png", result["samples"], names, model.info.palette)
            write_metrics(out, at["history"], past)
            save_run(out, model, optimizer, at, past, options)
            saved = time.monotonic()
            if interrupt.asked and at["step"] < steps:
                progress.say(stopped(at, out))
                return False

    if result:
        progress.say(report.class_table(names, result["iou"], result["share"]))
    best = f"best mean IoU {at['best']:.4f}" if at["best"] >= 0 else "no mean IoU: nothing could be measured"
    progress.say(
        f"{best}; {report.duration(at['seconds'])}, peak memory {report.peak_memory()}\n"
        f"{out}: samples.png curves.png metrics.csv best.npz last.npz command.txt"
    )
    return True


# The parts, in the order in which the loop above needs them


def open_set(options: Namespace, split: str):
    """The data set of a split: --data, or Shapes, whose validation images come from another seed."""
    if options.data is None:
        if split == "train":
            return Shapes(size=64, length=800, seed=1)
        if split == "val":
            return Shapes(size=64, length=100, seed=10_000)
        raise DataError(f"the synthetic shapes have no split {split!r}; cure: --split train or val, or --data DIR")
    return open_data(options.data, split=split, **({} if options.scale == 1 else {"scale": options.scale}))


def crop_of(options: Namespace, dataset) -> tuple[int, int]:
    """The size of the training images: --crop, or the first image's, at most 512."""
    if options.crop is None:
        return tuple(min(n, 512) for n in dataset[0].image.shape[:2])
    if options.data is None and any(want > have for want, have in zip(options.crop, dataset.size)):
        raise TrainError(f"--crop {_sides(options.crop)}: the synthetic shapes are {_sides(dataset.size)} pixels large")
    return tuple(options.crop)


def check_crop(model, name: str, size: tuple[int, int]) -> None:
    """Raise TrainError where a model of valid convolutions cannot take the crop, naming crops that it can."""
    valid = getattr(model, "valid_size", lambda n: n)
    if all(valid(n) == n for n in size):
        return
    larger = [valid(n) for n in size]
    smaller = [next((m for m in range(n, 0, -1) if valid(m) == m), valid(n)) for n in size]
    cures = " or ".join(f"--crop {_sides(sides)}" for sides in dict.fromkeys((tuple(smaller), tuple(larger))))
    raise TrainError(
        f"--model {name} cannot take training images of {_sides(size)} pixels (height, width); cure: {cures}, or "
        "--model unet, which takes any size"
    )


def _sides(size):
    return " ".join(map(str, size))


def augmentation(options: Namespace, size: tuple[int, int], mean, std) -> t.Compose:
    """What happens to a training image: --augment in the table's order, a crop of one size for all, normalisation."""
    chosen = [AUGMENTATIONS[name] for name in AUGMENTATIONS if name in options.augment]
    borders = [border_weights] * options.border_weights  # behind the crop: of what the network sees
    return t.Compose([*chosen, t.RandomCrop(size), *borders, t.Normalize(mean, std)])


def border_weights(sample: Sample, rng: np.random.Generator | None = None) -> Sample:
    """A transform: U-Net's weight map, from the instances where the sample has them, else from the mask's parts."""
    if sample.instances is None:
        cells = parts_of(sample.mask)
    else:  # numbered anew: in the map's eyes 255 could mean ignore
        cells = np.searchsorted(np.union1d([0], sample.instances), sample.instances)
    return replace(sample, weights=losses.unet_border_weights(cells))


def parts_of(mask: np.ndarray) -> np.ndarray:
    """Instances as a mask shows them: the parts of each class (but 0 and 255) that hang together, (H, W) int32."""
    cells = np.zeros(mask.shape, np.int32)
    for k in np.unique(mask[(mask != 0) & (mask != IGNORE)]):
        part = connected_components(mask == k)
        cells[part > 0] = part[part > 0] + cells.max()
    return cells


def make_model(options: Namespace, classes: int, channels: int):
    """The model by name, its width if one is given."""
    width = {} if options.width is None else {"width": options.width}
    return models.create(options.model, num_classes=classes, in_channels=channels, seed=options.seed, **width)


def make_loss(options: Namespace, dataset):
    """The function (logits, batch) -> scalar Tensor of --loss, such as "ce+dice", with --class-weights.

    The weights of a batch's pixels (--border-weights) are those of cross-entropy; the other losses take none.
    """
    unknown = [name for name in options.loss.split("+") if name not in LOSSES]
    if unknown:
        raise TrainError(
            f"--loss {options.loss}: there is no {unknown[0]!r}; there are {', '.join(LOSSES)}, and sums a+b"
        )
    parts = [LOSSES[name] for name in options.loss.split("+")]
    weight = (
        losses.median_frequency_weights(dataset, len(dataset.class_names))
        if options.class_weights == "median"
        else None
    )

    def loss_of(logits, batch):
        target = match(batch.masks, logits.shape[1:3])
        pixels = {} if batch.weights is None else {"pixel_weight": match(batch.weights, logits.shape[1:3])}
        return sum(
            part(logits, target, weight=weight, **(pixels if part is losses.cross_entropy else {})) for part in parts
        )

    return loss_of


def match(masks: np.ndarray, size) -> np.ndarray:
    """The middle of the masks, for a network of valid convolutions whose output is smaller than its input."""
    y, x = ((have - want) // 2 for have, want in zip(masks.shape[1:3], size))
    return np.ascontiguousarray(masks[:, y : y + size[0], x : x + size[1]])


def make_optimizer(options: Namespace, model) -> optim.Optimizer:
    """--optimizer with --lr and --weight-decay; vectors (biases, batch norm) are not decayed."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}]
    groups += [{"params": vectors, "weight_decay": 0.0}] * bool(vectors)
    if options.optimizer == "sgd":
        return optim.SGD(groups, lr=options.lr, momentum=0.9)
    return OPTIMIZERS[options.optimizer](groups, lr=options.lr)


def make_schedule(options: Namespace, steps: int) -> optim.Schedule:
    """--schedule over the whole run, after --warmup steps."""
    schedule = {
        "constant": optim.constant(),
        "poly": optim.poly(steps),
        "cosine": optim.cosine(steps),
        "step": optim.step([steps // 2, steps * 3 // 4]),
    }[options.schedule]
    return optim.warm_up(schedule, options.warmup) if options.warmup else schedule


def show_epoch(progress: report.Progress, row: dict, result: dict, names: list[str]) -> None:
    """Two lines an epoch, the second with the IoU of each class, and a warning where all is one class, or ignored."""
    each = [f"{name} {v:.3f}" if np.isfinite(v) else f"{name} -" for name, v in zip(names, result["iou"])]
    progress.say(
        f"epoch {row['epoch']:3}  step {row['step']:5}  loss {row['train_loss']:.4f}  val loss {row['val_loss']:.4f}  "
        f"mean IoU {row['mean_iou']:.4f}  pixel accuracy {row['pixel_accuracy']:.4f}  {report.duration(row['seconds'])}"
    )
    progress.say(f"           IoU  {'  '.join(each)}")
    if not math.isfinite(row["mean_iou"]):
        progress.say(
            "warning: nothing could be measured: every pixel of the validation masks is 255 (ignored); cure: another "
            "--val-split, or other masks (tinyseg check DIR)"
        )
    if result["found"].max() > 0.999 and result["share"].max() < 0.99:
        progress.say(
            f"warning: nearly every pixel is predicted as {names[int(result['found'].argmax())]!r}. Early on this is "
            "normal; later look at the masks (tinyseg check DIR), try --class-weights median or another --lr"
        )


def stopped(at: dict, out: Path) -> str:
    return f"stopped at step {at['step']}; go on: tinyseg train --out {shlex.quote(str(out))} --resume"


# The run folder


def save_run(out: Path, model, optimizer, at: dict, past: list[float], options: Namespace) -> None:
    """Write last.npz: all that the next step depends on."""
    model.info.epoch, model.info.step = at["epoch"], at["step"]
    header, arrays = checkpoint.model_parts(model)
    told = {k: v for k, v in vars(options).items() if k not in ("command_line", "resume")}
    header["training"] = {"at": at, "options": told, "random": model.random_state(), "tinyseg": __version__}
    arrays |= {f"optimizer/{name}": a for name, a in optimizer.state_dict().items()}
    checkpoint.write(out / "last.npz", header, {**arrays, "training/losses": np.asarray(past, np.float64)})


def resume(path: Path, model, optimizer) -> tuple[dict, list[float]]:
    """Take model and optimiser back to where last.npz was written; returns what `train` remembers."""
    header, arrays = checkpoint.read(path)
    info = model.info
    checkpoint.fill(path, header, arrays, model)
    try:
        if (model.info.class_names, model.info.mean) != (info.class_names, info.mean):
            raise ValueError(f"it knows the classes {model.info.class_names}, the data has {info.class_names}")
        optimizer.load_state_dict(checkpoint.part(arrays, "optimizer"))
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


def write_metrics(out: Path, history: list[dict], past: list[float]) -> None:
    """metrics.csv, a row a validation, and curves.png."""
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
            for name, key in (("mean IoU", "mean_iou"), ("pixel accuracy", "pixel_accuracy"))
        },
    )


class Interrupt:
    """Ctrl-C as a question: the first sets `asked`, the second stops at once."""

    def __init__(self, progress: report.Progress):
        self.progress, self.asked = progress, False

    def __enter__(self):
        self.mine = threading.current_thread() is threading.main_thread()  # only there signals can be caught
        if self.mine:
            self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_):
        if self.mine:
            signal.signal(signal.SIGINT, self.before)

    def _ask(self, *_):
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.progress.say("stopping after this step (Ctrl-C again stops at once)")
