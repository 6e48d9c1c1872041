"""The task of semantic segmentation: a class for every pixel, from masks."""

import logging
import math
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import checkpoint, interop, losses, models, report
from ..checkpoint import Info
from ..components import connected_components
from ..data import IGNORE, DataError, Loader, Sample, Shapes
from ..data import open as open_data
from ..data import transforms as t
from ..data.image import counted
from ..evaluate import evaluate
from ..nn import batch_norm_statistics, recompute_blocks
from ..tensor import tensor
from .optimisation import follow, recipe_of
from .task import Task, TrainError, Validation

log = logging.getLogger("tinyseg")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's photographs, in [0, 1]; the usual choice
LOSSES = {
    "cross_entropy": losses.cross_entropy,
    "ce": losses.cross_entropy,
    "dice": losses.dice,
    "focal": losses.focal,
    "lovasz": losses.lovasz_softmax,
}
AUGMENTATIONS = {
    "flip": t.RandomFlip(),
    "vflip": t.RandomFlip(0, 0.5),
    "rotate": t.RandomRotation(15),
    "elastic": t.ElasticDeformation(),
    "scale": t.RandomScale(0.75, 1.5),
    "rot90": t.RandomQuarterTurn(),
    "color": t.ColorJitter(),
    "blur": t.Blur(),
}


class Semantic(Task):
    """Masks in, logits (N,H,W,K) out; measured by the IoU of each class over the whole validation set."""

    score_name = "mean IoU"
    curves = {"mean IoU": "mean_iou", "pixel accuracy": "pixel_accuracy"}

    def __init__(self, options: Namespace):
        self.options = options
        self.train_set, self.val_set = self.open_training_set(), open_set(options, options.val_split)
        settle_batch(options, self.train_set)
        self.channels, self.names = self.train_set.in_channels, list(self.train_set.class_names)
        self.recipe = recipe_of(options)
        self.mean, self.std = (MEAN, STD) if self.channels == 3 else ((0.45,), (0.23,))
        if self.recipe and self.recipe.mean and len(self.recipe.mean) == self.channels:
            self.mean, self.std = self.recipe.mean, self.recipe.std
        self.size = crop_of(options, self.train_set)
        follow(options, options.batch * self.size[0] * self.size[1])
        self.loader = make_loader(options, self.train_set, augmentation(options, self.size, self.mean, self.std))
        self.loss_of = make_loss(options, self.train_set)

    def open_training_set(self):
        return open_set(self.options, self.options.split)

    def make_model(self):
        model = make_model(self.options, len(self.names), self.channels)
        check_crop(model, self.options.model, self.size)
        palette = np.asarray(self.train_set.palette)[: len(self.names)].tolist()
        model.info = Info(self.names, palette, list(self.mean), list(self.std), self.options.scale)
        if self.options.init and not self.options.resume:
            begin_with(model, self.options.init)
        if self.recipe and self.options.init:
            self.recipe.prepare(model)
        elif self.recipe and self.recipe.pretrained:
            log.info(begins_with_nothing(self.recipe))
        if self.options.recompute:
            recompute_blocks(model)
        return model

    def loss(self, model, batch):
        """That of the logits, and of auxiliary ones behind them (a model returns them in training) by their weights."""
        device = next(iter(model.parameters())).device
        outputs = model(tensor(batch.images, device))
        if not isinstance(outputs, tuple):
            return self.loss_of(outputs, batch)
        weights = models.recipe(self.options.model).aux_weights
        return sum(w * self.loss_of(y, batch) for w, y in zip((1.0, *weights), outputs, strict=True))

    def uploads(self, batch):
        return [array for array in (batch.images, batch.masks, batch.weights) if array is not None]

    def validate(self, model, progress: report.Progress) -> Validation:
        if self.recipe and self.recipe.batch_norm_pass:
            device = next(iter(model.parameters())).device
            batch_norm_statistics(model, (tensor(batch.images, device) for batch in self.loader.batches(0)))
        result, names = evaluate(model, self.val_set, progress), self.names
        row = {
            "val_loss": result["loss"],
            "mean_iou": result["mean_iou"],
            "pixel_accuracy": result["pixel_accuracy"],
            **{f"iou_{name}": float(v) for name, v in zip(names, result["iou"])},
        }
        return Validation(
            row,
            score=row["mean_iou"],
            metrics={name: row[name] for name in ("val_loss", "mean_iou", "pixel_accuracy")},
            lines=[classes_line(result, names)],
            warnings=warnings_of(row, result, names),
            table=report.class_table(names, result["iou"], result["share"]),
            draw=lambda path: report.samples(path, result["samples"], names, model.info.palette),
        )


# The parts, in the order in which the task needs them


def open_set(options: Namespace, split: str):
    """The data set of a split: --data, or the shapes, 800 to train on."""
    if options.data is None:
        return shapes(split, 800)
    return open_data(options.data, split=split, **({} if options.scale == 1 else {"scale": options.scale}))


def shapes(split: str, length: int) -> Shapes:
    """The synthetic shapes, 64 pixels large: so many to train on, or 100 to validate, which come from another seed."""
    if split not in ("train", "val"):
        raise DataError(f"the synthetic shapes have no split {split!r}; cure: --split train or val, or --data DIR")
    return Shapes(size=64, length=length, seed=1) if split == "train" else Shapes(size=64, length=100, seed=10_000)


def settle_batch(options: Namespace, dataset) -> None:
    """Set the --batch that was not given: 8, or all images where there are fewer. Raises TrainError for one that is
    too large."""
    if options.batch is None:
        options.batch = min(8, len(dataset))
    if len(dataset) < options.batch:
        raise TrainError(
            f"--batch {options.batch}: there are {counted(len(dataset), 'image')} to train on, not one batch; "
            f"cure: --batch {len(dataset)}"
        )


def make_loader(options: Namespace, dataset, transform: t.Transform) -> Loader:
    """Whole batches of --batch images."""
    return Loader(
        dataset,
        options.batch,
        seed=options.seed,
        workers=options.workers,
        drop_last=True,
        transform=transform,
        cache_bytes=int(options.cache * 2**30),
    )


LARGE = 1024  # sides of a crop from which on padding alone may fill the memory


def crop_of(options: Namespace, dataset) -> tuple[int, int]:
    """The size of the training images: --crop, or the first image's, at most 512."""
    if options.crop is None:
        return tuple(min(n, 512) for n in dataset[0].image.shape[:2])
    if options.data is None and any(want > have for want, have in zip(options.crop, dataset.size)):
        have = _sides(dataset.size)
        raise TrainError(
            f"--crop {_sides(options.crop)}: the synthetic shapes are {have} pixels large; cure: --crop {have}, or "
            "--data DIR"
        )
    if max(options.crop) > LARGE:
        have = dataset[0].image.shape[:2]
        if any(want > 2 * side for want, side in zip(options.crop, have)):
            raise TrainError(
                f"--crop {_sides(options.crop)} is more than twice as large as the first image, {_sides(have)}: most "
                "of it would be padding, for which memory may not last; cure: a smaller --crop"
            )
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
    table = {**AUGMENTATIONS, "rot90": t.RandomQuarterTurn(size)}
    chosen = [table[name] for name in table if name in options.augment]
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


def begins_with_nothing(recipe: models.Recipe) -> str:
    """What a run from scratch leaves out of a recipe. Batch norms that are frozen before their statistics were ever
    measured normalise nothing, and in a hundred layers the activations grow without bound: they are trained."""
    trained = ", and trains the batch norms that the paper kept frozen" * recipe.frozen_batch_norm
    return (
        f"--recipe paper: the paper began with {recipe.pretrained}; this run begins with nothing{trained} "
        "(--init WEIGHTS does as the paper)"
    )


def begin_with(model, path: str) -> None:
    """The weights of a run, an .npz or a file of PyTorch's, as far as names and shapes fit: FCN's warm start, another
    number of classes, a backbone trained on ImageNet."""
    folder = Path(path)
    if not folder.exists():
        raise TrainError(
            f"--init {path}: no such run or file of weights; cure: a run folder, an .npz, a .pth or a .safetensors"
        )
    if folder.suffix in (".pth", ".pt", ".safetensors"):
        try:
            skipped = interop.load_torch(model, folder)
        except ValueError as error:
            raise TrainError(f"--init {error}") from error
        log.info("\n".join([f"--init {path}: loaded, but for {len(skipped) or 'nothing'}", *skipped]))
        return
    files = [folder / name for name in ("best.npz", "last.npz") if (folder / name).is_file()]
    _, arrays = checkpoint.read(files[0] if files else folder)
    state = checkpoint.part(arrays, "model")
    own = model.state_dict()
    new = [name for name in own if name not in state or state[name].shape != own[name].shape]
    if len(new) == len(own):
        raise TrainError(f"--init {path}: nothing in it fits this model; cure: a run of the same kind of model")
    model.load_state_dict(state, strict=False)
    layers = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in new))
    log.info(f"--init {path}: {len(own) - len(new)} of {len(own)} arrays; as drawn: {layers or 'none'}")


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
    if masks.shape[1:3] == tuple(size):
        return masks
    y, x = ((have - want) // 2 for have, want in zip(masks.shape[1:3], size))
    return np.ascontiguousarray(masks[:, y : y + size[0], x : x + size[1]])


def classes_line(result: dict, names: list[str]) -> str:
    """The IoU of each class."""
    each = [f"{name} {v:.3f}" if np.isfinite(v) else f"{name} -" for name, v in zip(names, result["iou"])]
    return f"           IoU  {'  '.join(each)}"


def warnings_of(row: dict, result: dict, names: list[str]) -> list[str]:
    """Warnings where the masks are ignored, or all is predicted as one class."""
    lines = []
    if not math.isfinite(row["mean_iou"]):
        lines.append(
            "warning: nothing could be measured: every pixel of the validation masks is 255 (ignored); cure: another "
            "--val-split, or other masks (tinyseg check DIR)"
        )
    if result["found"].max() > 0.999 and result["share"].max() < 0.99:
        lines.append(
            f"warning: nearly every pixel is predicted as {names[int(result['found'].argmax())]!r}. Early on this is "
            "normal; later look at the masks (tinyseg check DIR), try --class-weights median or another --lr"
        )
    return lines
