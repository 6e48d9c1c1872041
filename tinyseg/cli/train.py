"""tinyseg train: its options, their defaults, and what they mean together."""

import argparse
from pathlib import Path

from .common import (
    UsageError,
    add_command,
    count,
    naming_check,
    not_negative,
    others,
    positive,
    progress_line,
    share,
    whole,
)

# What `tinyseg train` does where nothing else is said. None: it depends, see `complete`.
TRAIN = {
    "model": "unet", "width": None, "data": None, "split": "train", "val_split": "val", "scale": 1.0, "crop": None,
    "augment": ["flip"], "batch": None, "workers": 2, "device": "auto", "epochs": None, "steps": None, "lr": None,
    "optimizer": "adamw", "schedule": None, "warmup": None, "weight_decay": 0.01, "clip": None, "class_weights": None,
    "loss": "cross_entropy", "seed": 0, "out": None, "save_every": 60.0, "resume": False, "amp": None,
    "cache": 1.0, "border_weights": False, "supervision": ["masks"], "method": None, "labels": None, "masked": 0,
    "turns": 3, "scribble_length": 1.0, "scribble_width": 3, "crf_weight": None, "crf_sxy": 100.0, "crf_srgb": 15.0,
    "superpixel_scale": 100.0, "superpixel_size": 20, "crf_pool": 2, "tag_pool": 4, "warm_start": None, "recipe": None,
    "init": None, "recompute": False, "average": None, "validate_every": 1,
}  # fmt: skip
# what may differ from before on --resume
FREE_ON_RESUME = {
    "out", "resume", "workers", "device", "data", "labels", "cache", "save_every", "epochs", "steps", "validate_every",
}  # fmt: skip


def add(commands) -> None:
    p = add_command(
        commands, "train", train, "Train a model. Without options: a small U-Net on synthetic shapes.", defaults=False
    )
    add = p.add_argument
    # fmt: off
    add("--data", metavar="DIR", help="a data set (see `tinyseg check`); without it, the synthetic shapes")
    add("--split", metavar="NAME", help="the split to train on (train)")
    add("--val-split", metavar="NAME", help="the split to validate on (val)")
    add("--scale", type=positive, help="resize all images by this factor on reading (1)")
    add("--crop", type=count, nargs=2, metavar=("H", "W"), help="random windows (the first image's size, at most 512)")
    add("--augment", nargs="+", help="random changes of the training images (flip); rot90: quarter turns",
        choices=["none", "flip", "vflip", "rotate", "elastic", "scale", "rot90", "color", "blur"])
    add("--batch", type=count, metavar="N", help="images a step (8, or all where there are fewer)")
    add("--workers", type=whole, metavar="N", help="threads that load images (2)")
    add("--cache", type=not_negative, metavar="GB", help="memory for images that were read once, in GiB (1)")
    add("--model", metavar="NAME", help="see `tinyseg models` (unet)")
    add("--recipe", choices=["paper"],
        help="train as the model's paper did (`tinyseg models NAME` tells how); options beside it take precedence")
    add("--init", metavar="RUN", help="begin with the weights of a run, .npz, .pth or .safetensors, as far as they fit")
    add("--recompute", action="store_true",
        help="blocks keep their inputs alone and are computed again: less memory, a third more time")
    add("--width", type=count, metavar="N", help="channels of the first stage (the model's own; 16 for the shapes)")
    add("--loss", metavar="NAME", help="cross_entropy (ce), dice, focal, lovasz, or a sum such as ce+dice (ce)")
    add("--class-weights", choices=["median"], help="weigh classes by median frequency")
    add("--border-weights", action="store_true",
        help="weigh pixels between objects that nearly touch as the U-Net paper does (in cross_entropy)")
    add("--supervision", nargs="+", choices=["masks", "scribbles", "points", "boxes", "tags"],
        help="what the training images are labelled by; of several kinds each image uses the first that it has (masks)")
    add("--labels", metavar="DIR", help="the folder with scribbles/, points/, boxes.json, tags.txt (--data's)")
    add("--masked", type=whole, metavar="N", help="so many images, evenly spread, use their masks all the same (0)")
    add("--method", nargs="+", help="scribbles: crf, pce, ncut, scribblesup; boxes: seg, rect, box_em, boxinst; tags: "
        "em_adapt, ccnn, ccnn_hard, em_fixed, mil (the first of each kind)")
    add("--turns", type=count, metavar="N", help="of scribblesup, labels and network in alternation (3)")
    add("--superpixel-scale", type=positive, metavar="K",
        help="of scribblesup: larger, larger superpixels; for images smaller than VOC's 500x375 less (100)")
    add("--superpixel-size", type=count, metavar="PIXELS", help="the least that one of them has (20)")
    add("--scribble-length", type=not_negative, metavar="PART", help="of the scribbles on the synthetic shapes (1)")
    add("--scribble-width", type=count, metavar="PIXELS", help="of the scribbles on the synthetic shapes (3)")
    add("--crf-weight", type=not_negative, metavar="W",
        help="of a dense CRF loss beside any of weak labels (0.1 in crf, ncut; 0)")
    add("--crf-sxy", type=positive, metavar="PIXELS", help="how far that loss looks (100)")
    add("--crf-srgb", type=positive, metavar="LEVELS", help="how unlike colours may be for it, of 255 (15)")
    add("--crf-pool", type=count, metavar="N", help="it looks at images coarser by this factor (2)")
    add("--tag-pool", type=count, metavar="N", help="ccnn solves for labels on a map coarser by this factor (4)")
    add("--warm-start", type=not_negative, metavar="PART",
        help="of the steps, in which tags teach what an image shows, and box_em begins as seg (0.5; with --init 0)")
    add("--optimizer", choices=["sgd", "adam", "adamw"], help="(adamw)")
    add("--lr", type=positive, help="learning rate (0.001; 0.01 with sgd; 0.004 for the shapes)")
    add("--schedule", choices=["constant", "poly", "cosine", "step"],
        help="of the learning rate (poly; cosine for objects)")
    add("--warmup", type=whole, metavar="STEPS", help="in which the learning rate rises from 0 (0; 50 for the shapes)")
    add("--weight-decay", type=not_negative, metavar="W", help="of filters, not of biases (0.01)")
    add("--clip", type=not_negative, metavar="NORM", help="longest gradient allowed; 0: any (0; 10 for objects)")
    add("--epochs", type=count, metavar="N", help="passes over the training images (30; 5 over the shapes)")
    add("--steps", type=count, metavar="N", help="steps in all, instead of --epochs")
    add("--validate-every", type=count, metavar="N", help="epochs from one validation to the next; the last always (1)")
    add("--average", type=share, metavar="DECAY", help="validate and save a running average of the weights, of about "
        "1 / (1 - DECAY) steps, such as 0.999; last.npz keeps both (none)")
    add("--seed", type=whole, help="of weights, order and augmentation (0)")
    add("--device", help="cpu, cuda, cuda:1, emulated or auto (auto)")
    add("--out", metavar="DIR", help="the run folder (runs/MODEL-DATA)")
    add("--save-every", type=not_negative, metavar="SECONDS",
        help="between two last.npz; each validation writes one too (60)")
    add("--resume", action="store_true", help="go on with the run in --out, to the bit")
    add("--amp", nargs="?", const="float16", choices=["float16", "bfloat16"], metavar="TYPE",
        help="mixed precision on a GPU: convolutions in float16, with a scaled loss, or in bfloat16 (float32)")
    # fmt: on


def train(options) -> int:
    """tinyseg train"""
    options = complete(options)
    from ..train import train as run

    try:
        with naming_check(options.data):
            return 0 if run(options, progress_line()) else 130
    except MemoryError as error:
        raise MemoryError(f"{error}; cure: --recompute, or a smaller --batch, --crop, --scale or --width") from error


def complete(options) -> argparse.Namespace:
    """The options of `train`: those given, on top of the resumed run's or of the defaults."""
    given = {k: v for k, v in vars(options).items() if k in TRAIN}
    base = dict(TRAIN)
    if "none" in given.get("augment", []):
        if len(given["augment"]) > 1:
            raise UsageError(f"--augment {' '.join(given['augment'])}: none, and others; cure: one or the other")
        given["augment"] = []
    if given.get("resume"):
        if "out" not in given:
            raise UsageError("--resume needs --out DIR, the run folder to go on with")
        last = Path(given["out"]) / "last.npz"
        if not last.is_file():
            raise UsageError(f"--resume: {given['out']} holds no run (no last.npz){others(given['out'])}")
        base |= options_of(last)
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
    elif given.get("recipe"):
        base |= of_recipe(given.get("model", base["model"]))
        if "epochs" in given:
            base["steps"] = None
    full = argparse.Namespace(**{**base, **given}, command_line=options.command_line)
    demo = full.data is None
    full.data = full.data if demo else str(Path(full.data).resolve())  # `eval` may be called from elsewhere
    if full.resume and not demo and not Path(full.data).exists():
        raise UsageError(f"--resume: the run's data are not in {full.data}; cure: --data DIR, where they are now")
    if full.epochs and full.steps and not full.resume:
        raise UsageError("--epochs and --steps: give one of them")
    if demo and full.scale != 1:
        raise UsageError("--scale resizes images of files; the synthetic shapes are 64 pixels large; cure: --data DIR")
    if full.border_weights and not {"ce", "cross_entropy"} & set(full.loss.split("+")):
        raise UsageError(f"--border-weights need cross-entropy; --loss is {full.loss}; cure: --loss ce+{full.loss}")
    check_supervision(full)
    check_use(full, given)
    objects = finds_objects(full.model)
    if full.steps is None and full.epochs is None:
        full.epochs = (2 if objects else 5) if demo else 30
    if not full.recipe:  # whose rate may depend on the number of pixels
        adam = 0.002 if objects else 0.004 if demo else 0.001
        full.lr = full.lr or (0.01 if full.optimizer == "sgd" else adam)
    if full.warmup is None:
        full.warmup = 50 if (demo or objects) and not full.recipe else 0
    if full.clip is None:
        full.clip = 10.0 if objects else 0.0
    full.schedule = full.schedule or ("cosine" if objects else "poly")
    full.width = full.width or (16 if demo and full.model == "unet" else None)
    full.out = full.out or str(
        fresh(Path("runs") / f"{full.model}-{'shapes' if demo else Path(full.data).resolve().name}")
    )
    if not full.resume and has_steps(Path(full.out) / "last.npz"):
        raise UsageError(f"{full.out} already holds a run; cure: --resume to go on with it, or another --out")
    return full


def finds_objects(model: str) -> bool:
    """Whether a model is one of objects, not of classes of pixels."""
    from .. import models

    return getattr(models.MODELS.get(model), "task", "semantic") == "instance"


def check_supervision(full: argparse.Namespace) -> None:
    """UsageError where options of weak supervision are given that would do nothing."""
    weak = full.supervision != ["masks"]
    for name in ("method", "labels", "masked"):
        if getattr(full, name) and not weak:
            raise UsageError(
                f"--{name} is about weak labels, but --supervision is masks; cure: --supervision scribbles, points, "
                "boxes or tags"
            )
    if full.labels and full.data is None:
        raise UsageError("--labels needs --data; the weak labels of the synthetic shapes are made from their masks")
    if full.scribble_length > 1:
        raise UsageError(f"--scribble-length {full.scribble_length:g}: expected a part of the whole scribble, 0 to 1")
    if (full.warm_start or 0) > 1:
        raise UsageError(f"--warm-start {full.warm_start:g}: expected a part of the steps, 0 to 1")
    if weak and full.border_weights:
        raise UsageError("--border-weights need the masks of all images; cure: --supervision masks")
    if full.labels:
        full.labels = str(Path(full.labels).resolve())


def check_use(full: argparse.Namespace, given: dict) -> None:
    """UsageError where an option is given that none of the methods in use looks at."""
    from ..train.weak import ASKING, methods_of, warm_part_of

    kinds = {"scribbles" if kind == "points" else kind for kind in full.supervision} - {"masks"}
    used = {methods_of(full)[kind] for kind in kinds}
    affinity = used - {"pce", "scribblesup", "seg"}  # the others take a dense CRF loss beside their own
    looks = bool(affinity & {"crf", "ncut"} or affinity and full.crf_weight)
    drawn = full.data is None and "scribbles" in full.supervision
    masks = "masks" in full.supervision or bool(full.masked or used & {"scribblesup", "seg"})
    masks = masks or "box_em" in used and warm_part_of(full) > 0
    rules = {
        **dict.fromkeys(("loss", "class_weights"), (masks, "a --method that learns masks, such as seg")),
        **dict.fromkeys(("turns", "superpixel_scale", "superpixel_size"),
                        ("scribblesup" in used, "--method scribblesup")),
        "tag_pool": (bool(used & {"ccnn", "ccnn_hard"}), "--method ccnn"),
        "warm_start": (bool(used & set(ASKING)), "a --method of tags, or box_em"),
        "crf_weight": (bool(affinity), "another --method than pce, scribblesup and seg"),
        **dict.fromkeys(("crf_sxy", "crf_srgb", "crf_pool"), (looks, "--method crf, or --crf-weight W")),
        **dict.fromkeys(("scribble_length", "scribble_width"), (drawn, "--supervision scribbles without --data")),
    }
    for name, (used_here, cure) in rules.items():
        if given.get(name, TRAIN[name]) != TRAIN[name] and not used_here:
            method = f" by {', '.join(sorted(used))}" * bool(used)
            raise UsageError(
                f"--{name.replace('_', '-')} would do nothing with --supervision {' '.join(full.supervision)}{method}; "
                f"cure: leave it out, or {cure}"
            )


def of_recipe(model: str) -> dict:
    """The options of `train` that the recipe of the model's paper sets; rates and the rest follow in the task."""
    from .. import models

    recipe = models.recipe(model)
    return {
        "batch": recipe.batch,
        "steps": recipe.steps,
        "optimizer": recipe.optimizer,
        "schedule": recipe.schedule,
        "weight_decay": None,
        "crop": None if recipe.crop is None else list(recipe.crop),
        "augment": list(recipe.augment),
        "loss": recipe.loss,
        "class_weights": recipe.class_weights,
    }


def options_of(path: Path) -> dict:
    """The options of `train` that a last.npz was made with."""
    from ..checkpoint import CheckpointError, read

    training = read(path)[0].get("training")
    options = training.get("options") if isinstance(training, dict) else None
    if not isinstance(options, dict) or not isinstance(options.get("augment", []), list):
        raise CheckpointError(f"{path}: it does not say how the run was trained; cure: the last.npz of a run folder")
    return {name: value for name, value in options.items() if name in TRAIN}


def has_steps(path: Path) -> bool:
    """Whether a last.npz holds work that must not be lost: a run that failed before its first step does not."""
    from ..checkpoint import CheckpointError, read

    if not path.exists():
        return False
    try:
        return read(path)[0]["training"]["at"]["step"] > 0
    except (CheckpointError, KeyError, TypeError):
        return True


def fresh(path: Path) -> Path:
    """The path, or path-2, path-3 ... where it is taken; not by a run that failed before its first step."""
    tries = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in range(1, 10**6))
    return next(p for p in tries if not p.exists() or ((p / "last.npz").exists() and not has_steps(p / "last.npz")))
