"""The command line: tinyseg train | eval | predict | check | models | devices.

A command that fails prints one paragraph and ends with status 1 (2 where the command itself makes no sense); with
TINYSEG_DEBUG=1 it shows the whole traceback.
"""

import argparse
import logging
import os
import shlex
import sys
import textwrap
from pathlib import Path

import numpy as np

from . import __version__

# What `tinyseg train` does where nothing else is said. None: it depends, see `complete`.
TRAIN = {
    "model": "unet", "width": None, "data": None, "split": "train", "val_split": "val", "scale": 1.0, "crop": None,
    "augment": ["flip"], "batch": 8, "workers": 2, "device": "auto", "epochs": None, "steps": None, "lr": None,
    "optimizer": "adamw", "schedule": "poly", "warmup": None, "weight_decay": 0.01, "clip": 0.0, "class_weights": None,
    "loss": "cross_entropy", "seed": 0, "out": None, "save_every": 60.0, "resume": False, "amp": False,
    "cache": 1.0, "border_weights": False,
}  # fmt: skip
FREE_ON_RESUME = {
    "out",
    "resume",
    "workers",
    "device",
    "data",
    "cache",
    "save_every",
    "epochs",
    "steps",
}  # may differ from before


class UsageError(ValueError):
    """A command that makes no sense; the message says which."""


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    options, unknown = parser().parse_known_args(argv)
    if unknown:
        print(f"tinyseg {argv[0]}: unknown: {' '.join(unknown)}; see tinyseg {argv[0]} --help", file=sys.stderr)
        return 2
    options.command_line = shlex.join(["tinyseg", *argv])
    log = logging.getLogger("tinyseg")
    before = log.handlers[:], log.propagate, log.level
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("TINYSEG_DEBUG") == "1":
            raise
        expected = isinstance(error, ValueError | RuntimeError | OSError | MemoryError | FloatingPointError)
        text = str(error) if expected and str(error) else f"{type(error).__name__}: {error}"
        if not expected:
            text += " (this is a fault of tinyseg; TINYSEG_DEBUG=1 shows where)"
        print(f"tinyseg {argv[0]}: {text}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    finally:  # whoever called from Python finds the logger as it was
        log.handlers[:], log.propagate, _ = before
        log.setLevel(before[2])


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="tinyseg", description="Image segmentation from the gradient up.")
    top.add_argument("--version", action="version", version=f"tinyseg {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    p = _command(
        commands,
        "train",
        train,
        "Train a model. Without options: a small U-Net on synthetic shapes.",
    )
    add = p.add_argument
    # fmt: off
    add("--data", metavar="DIR", help="a data set (see `tinyseg check`); without it, the synthetic shapes")
    add("--split", metavar="NAME", help="the split to train on (train)")
    add("--val-split", metavar="NAME", help="the split to validate on (val)")
    add("--scale", type=_positive, help="resize all images by this factor on reading (1)")
    add("--crop", type=_count, nargs=2, metavar=("H", "W"), help="random windows (the first image's size, at most 512)")
    add("--augment", nargs="+", help="random changes of the training images (flip)",
        choices=["none", "flip", "vflip", "rotate", "elastic", "scale", "color", "blur"])
    add("--batch", type=_count, metavar="N", help="images a step (8)")
    add("--workers", type=int, metavar="N", help="threads that load images (2)")
    add("--cache", type=_not_negative, metavar="GB", help="memory for images that were read once, in GiB (1)")
    add("--model", metavar="NAME", help="see `tinyseg models` (unet)")
    add("--width", type=_count, metavar="N", help="channels of the first stage (the model's own; 16 for the shapes)")
    add("--loss", metavar="NAME", help="cross_entropy (ce), dice, focal, lovasz, or a sum such as ce+dice (ce)")
    add("--class-weights", choices=["median"], help="weigh classes by median frequency")
    add("--border-weights", action="store_true",
        help="weigh pixels between objects that nearly touch as the U-Net paper does (in cross_entropy)")
    add("--optimizer", choices=["sgd", "adam", "adamw"], help="(adamw)")
    add("--lr", type=_positive, help="learning rate (0.001; 0.01 with sgd; 0.004 for the shapes)")
    add("--schedule", choices=["constant", "poly", "cosine", "step"], help="of the learning rate (poly)")
    add("--warmup", type=int, metavar="STEPS", help="in which the learning rate rises from 0 (0; 50 for the shapes)")
    add("--weight-decay", type=float, metavar="W", help="of filters, not of biases (0.01)")
    add("--clip", type=float, metavar="NORM", help="longest gradient allowed; 0: any (0)")
    add("--epochs", type=_count, metavar="N", help="passes over the training images (30; 5 over the shapes)")
    add("--steps", type=_count, metavar="N", help="steps in all, instead of --epochs")
    add("--seed", type=int, help="of weights, order and augmentation (0)")
    add("--device", help="cpu, cuda, cuda:1, emulated or auto (auto)")
    add("--out", metavar="DIR", help="the run folder (runs/MODEL-DATA)")
    add("--save-every", type=float, metavar="SECONDS", help="between two last.npz; each epoch writes one too (60)")
    add("--resume", action="store_true", help="go on with the run in --out, to the bit")
    add("--amp", action="store_true", help="mixed precision; not in this version")
    # fmt: on

    p = _command(commands, "eval", evaluate, "Measure a model on a data set.")
    p.add_argument("model", metavar="RUN", help="a run folder or an .npz")
    p.add_argument("--data", metavar="DIR", help="a data set (what the run was trained on)")
    p.add_argument("--split", metavar="NAME", help="(what the run validated on, else val)")
    _prediction_options(p)

    p = _command(commands, "predict", predict, "Segment photographs of any size.")
    p.add_argument("model", metavar="RUN", help="a run folder or an .npz")
    p.add_argument("images", nargs="+", metavar="IMAGE", type=Path)
    p.add_argument("--out", type=Path, default=Path("predictions"), metavar="DIR", help="(predictions)")
    p.add_argument("--overlay", action="store_true", help="also NAME_overlay.png, the classes over the picture")
    p.add_argument("--probabilities", action="store_true", help="also NAME.npz with (H, W, K) float32")
    _prediction_options(p)

    p = _command(commands, "check", check, "What is in a data set, and what is wrong with it.")
    p.add_argument("data", metavar="DIR")

    p = _command(commands, "models", models, "The models, their papers and their sizes.")
    p.add_argument("name", nargs="?", metavar="NAME", help="tell all about this one")

    _command(commands, "devices", devices, "Where tinyseg can compute on this machine.")
    return top


def train(options) -> int:
    """tinyseg train"""
    options = complete(options)
    from .train import train as run

    return 0 if run(options, _progress()) else 130


def complete(options) -> argparse.Namespace:
    """The options of `train`: those given, on top of the resumed run's or of the defaults."""
    given = {k: v for k, v in vars(options).items() if k in TRAIN}
    base = dict(TRAIN)
    if given.get("resume"):
        if "out" not in given:
            raise UsageError("--resume needs --out DIR, the run folder to go on with")
        base |= _options_of(Path(given["out"]) / "last.npz")
        changed = [k for k in given if k not in FREE_ON_RESUME and given[k] != base.get(k)]
        if changed:
            raise UsageError(
                f"--resume goes on with the options of the run, but --{changed[0].replace('_', '-')} is "
                f"{given[changed[0]]} and was {base.get(changed[0])}; cure: leave it out, or start another run"
            )
        if "steps" in given:
            base["epochs"] = None
        elif "epochs" in given:
            base["steps"] = None
    full = argparse.Namespace(**{**base, **given}, command_line=options.command_line)
    demo = full.data is None
    full.data = full.data if demo else str(Path(full.data).resolve())  # `eval` may be called from elsewhere
    if full.amp:
        raise UsageError("--amp: mixed precision is not in this version; cure: leave it out")
    if full.epochs and full.steps and not full.resume:
        raise UsageError("--epochs and --steps: give one of them")
    if demo and full.scale != 1:
        raise UsageError("--scale resizes images of files; the synthetic shapes are 64 pixels large; cure: --data DIR")
    if full.border_weights and not {"ce", "cross_entropy"} & set(full.loss.split("+")):
        raise UsageError(f"--border-weights need cross-entropy; --loss is {full.loss}; cure: --loss ce+{full.loss}")
    if "none" in full.augment:
        full.augment = []
    if full.steps is None and full.epochs is None:
        full.epochs = 5 if demo else 30
    full.lr = full.lr or (0.01 if full.optimizer == "sgd" else 0.004 if demo else 0.001)
    if full.warmup is None:
        full.warmup = 50 if demo else 0
    full.width = full.width or (16 if demo and full.model == "unet" else None)
    full.out = full.out or str(
        _fresh(Path("runs") / f"{full.model}-{'shapes' if demo else Path(full.data).resolve().name}")
    )
    if not full.resume and _has_steps(Path(full.out) / "last.npz"):
        raise UsageError(f"{full.out} already holds a run; cure: --resume to go on with it, or another --out")
    return full


def _options_of(path: Path) -> dict:
    """The options of `train` that a last.npz was made with."""
    from .checkpoint import CheckpointError, read

    training = read(path)[0].get("training")
    options = training.get("options") if isinstance(training, dict) else None
    if not isinstance(options, dict) or not isinstance(options.get("augment", []), list):
        raise CheckpointError(f"{path}: it does not say how the run was trained; cure: the last.npz of a run folder")
    return {name: value for name, value in options.items() if name in TRAIN}


def evaluate(options) -> int:
    """tinyseg eval"""
    from . import report
    from .evaluate import evaluate
    from .train import open_set

    model, progress = _load(options), _progress()
    last = _model_file(options.model).with_name("last.npz")
    run = _options_of(last) if options.data is None and last.is_file() else {}
    data, split = options.data or run.get("data"), options.split or run.get("val_split") or "val"
    dataset = open_set(argparse.Namespace(data=data, scale=model.info.scale), split)
    expected, found = model.info.class_names, list(dataset.class_names)
    if found != expected:
        raise ValueError(
            f"{data or 'the synthetic shapes'}: the classes are {_some(found)}, but {options.model} knows "
            f"{_some(expected)}; cure: --data DIR, the data it was trained on"
        )
    progress.say(f"{data or 'synthetic shapes'}, {split}: {len(dataset)} images")
    result = evaluate(model, dataset, progress, _views(options), boundary=True, pictures=0)
    progress.say(report.class_table(model.info.class_names, result["iou"], result["share"]))
    progress.say(
        f"\nmean IoU                 {result['mean_iou']:.4f}\n"
        f"pixel accuracy           {result['pixel_accuracy']:.4f}\n"
        f"mean accuracy            {result['mean_accuracy']:.4f}\n"
        f"frequency-weighted IoU   {result['fw_iou']:.4f}\n"
        f"boundary F-score         {result['boundary_f']:.4f}\n"
        f"{len(dataset)} images" + (f", resized by {model.info.scale:g}" if model.info.scale != 1 else "")
    )
    return 0


def predict(options) -> int:
    """tinyseg predict"""
    from .data import image as files
    from .predict import predict

    _refuse_overwriting(options)
    model, progress = _load(options), _progress()
    palette = files.palette_of(np.asarray(model.info.palette))
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.images:
        image = files.read_image(path, len(model.info.mean) if len(model.info.mean) in (1, 3) else None)
        view = _views(options)
        result = predict(
            model, image, view["tile"], view["overlap"], view["flip"], view["scales"], options.probabilities
        )
        mask = result.argmax(-1).astype(np.int32) if options.probabilities else result
        target = options.out / f"{path.stem}.png"
        files.write_mask(target, mask, palette)
        if options.overlay:
            files.write_image(options.out / f"{path.stem}_overlay.png", files.overlay(image, mask, palette))
        if options.probabilities:
            np.savez(
                options.out / f"{path.stem}.npz", probabilities=result, class_names=np.array(model.info.class_names)
            )
        share = np.bincount(mask.ravel(), minlength=len(model.info.class_names)) / mask.size
        seen = [f"{model.info.class_names[k]} {100 * share[k]:.1f} %" for k in np.argsort(-share) if share[k] > 0]
        progress.say(f"{target}  {mask.shape[0]} x {mask.shape[1]} (height x width)  {', '.join(seen[:5])}")
    return 0


def _refuse_overwriting(options) -> None:
    """UsageError where `predict` would write over one of its inputs, or one file twice; before anything is done."""
    endings = [".png", *["_overlay.png"] * options.overlay, *[".npz"] * options.probabilities]
    taken = {_same(path): f"the input {path}" for path in (*options.images, _model_file(options.model))}
    for path in options.images:
        for ending in endings:
            target = options.out / f"{path.stem}{ending}"
            if other := taken.get(_same(target)):
                raise UsageError(
                    f"{target}, the result of {path}, would overwrite {other}; cure: another --out, or predict images "
                    "of like names one after the other into folders of their own"
                )
            taken[_same(target)] = f"the result of {path}"


def _same(path: Path) -> str:
    """Equal for equal files, behind links and on disks that take A for a."""
    return os.path.normcase(path.resolve())


def check(options) -> int:
    """tinyseg check"""
    from .data import check as look

    _progress()
    found = look(options.data)
    print(found)
    return 0 if found.ok else 1


def models(options) -> int:
    """tinyseg models"""
    import inspect

    from . import models as known

    for name in known.names() if options.name is None else [options.name]:
        model = known.create(name, num_classes=21)
        text = inspect.getdoc(type(model)) or ""
        print(f"{name:22}{model.parameter_count():>13,} parameters  {text.splitlines()[0]}")
        if options.name is not None:
            print(
                f"\n{textwrap.indent(text, '    ')}\n\nIts source, {Path(inspect.getfile(type(model))).name}, begins:\n"
            )
            print(textwrap.indent(inspect.getmodule(type(model)).__doc__.strip(), "    "))
    print("\nParameters are those for 3 channels and 21 classes.")
    return 0


def devices(options) -> int:
    """tinyseg devices"""
    from .device import usable_devices

    for name, words in usable_devices().items():
        print(f"{name:10}{words}")
    return 0


def _load(options):
    """The model of a run folder or of an .npz, on --device."""
    from .checkpoint import load
    from .device import get_device

    return load(_model_file(options.model), get_device(options.device))


def _model_file(run: str) -> Path:
    """The best model of a run folder, or the .npz itself."""
    from .checkpoint import CheckpointError

    path = Path(run)
    if not path.is_dir():
        return path
    found = [path / name for name in ("best.npz", "last.npz") if (path / name).is_file()]
    if not found:
        raise CheckpointError(f"{path}: no best.npz and no last.npz in it; cure: a run folder of `tinyseg train`")
    return found[0]


def _some(names) -> str:
    return ", ".join(names[:8]) + (f" ... ({len(names)} in all)" if len(names) > 8 else "")


def _views(options) -> dict:
    """The options of `predict` that eval and predict share."""
    return {"tile": options.tile, "overlap": options.overlap, "flip": options.flip, "scales": tuple(options.scales)}


def _prediction_options(p) -> None:
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, emulated or auto (auto)")
    p.add_argument("--tile", type=_count, metavar="N", help="side of the tiles that large images are cut into (768)")
    p.add_argument("--overlap", type=float, default=1 / 3, metavar="SHARE", help="of a tile with its neighbour (1/3)")
    p.add_argument("--flip", action="store_true", help="average with the mirrored image")
    p.add_argument(
        "--scales", type=_positive, nargs="+", default=[1.0], metavar="S", help="average over resized images (1)"
    )


def _command(commands, name, run, text):
    p = commands.add_parser(
        name, help=text, description=text, argument_default=argparse.SUPPRESS if name == "train" else None
    )
    p.set_defaults(run=run)
    return p


def _progress():
    """A progress line that also shows what the package logs."""
    from .report import Progress

    progress = Progress()
    handler = logging.Handler()
    handler.emit = progress.log
    log = logging.getLogger("tinyseg")
    log.handlers[:], log.propagate = [handler], False
    log.setLevel(logging.INFO)
    return progress


def _has_steps(path: Path) -> bool:
    """Whether a last.npz holds work that must not be lost: a run that failed before its first step does not."""
    from .checkpoint import CheckpointError, read

    if not path.exists():
        return False
    try:
        return read(path)[0]["training"]["at"]["step"] > 0
    except (CheckpointError, KeyError, TypeError):
        return True


def _fresh(path: Path) -> Path:
    """The path, or path-2, path-3 ... where it is taken."""
    tries = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in range(1, 10**6))
    return next(p for p in tries if not p.exists())


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a number of at least 0")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
    return value
