"""The task of instance segmentation: a class, a box and a mask for every object."""

import math
from argparse import Namespace

import numpy as np

from .. import report
from ..checkpoint import Info
from ..data import Loader, open_objects, stack_objects
from ..data import transforms as t
from ..evaluate import evaluate_objects
from ..tensor import tensor
from .semantic import AUGMENTATIONS, MEAN, STD, make_model, settle_batch, shapes
from .task import Task, TrainError, Validation


class Instance(Task):
    """Objects in, the sum of Mask R-CNN's five losses out; measured by COCO's AP of masks.

    Images keep their shapes: they are resized as the model says, and padded to the largest of their batch; --crop makes
    it large-scale jitter into windows of one size.
    """

    score_name = "mask AP"
    curves = {"mask AP": "mask_ap", "mask AP50": "mask_ap50", "box AP": "box_ap"}

    def __init__(self, options: Namespace):
        self.options = options
        refuse(options)
        self.train_set, self.val_set = open_set(options, options.split), open_set(options, options.val_split)
        settle_batch(options, self.train_set)
        self.channels, self.names = self.train_set.in_channels, list(self.train_set.class_names)
        self.mean, self.std = (MEAN, STD) if self.channels == 3 else ((0.45,), (0.23,))
        model = make_model(options, len(self.names), self.channels)
        self.loader = Loader(
            self.train_set,
            options.batch,
            seed=options.seed,
            workers=options.workers,
            drop_last=True,
            transform=augmentation(options, model, self.mean, self.std),
            cache_bytes=int(options.cache * 2**30),
            collate=stack_objects,
        )

    def make_model(self):
        model = make_model(self.options, len(self.names), self.channels)
        palette = np.asarray(self.train_set.palette)[: len(self.names)].tolist()
        model.info = Info(self.names, palette, list(self.mean), list(self.std), self.options.scale)
        return model

    def loss(self, model, batch):
        device = next(iter(model.parameters())).device
        return sum(model(tensor(batch.images, device), batch.sizes, batch.objects).values())

    def validate(self, model, progress: report.Progress) -> Validation:
        result = evaluate_objects(model, self.val_set, progress)
        mask, box = result["mask"], result["box"]
        row = {"mask_ap": mask["AP"], "mask_ap50": mask["AP50"], "mask_ap75": mask["AP75"], "box_ap": box["AP"],
               "box_ap50": box["AP50"], "detections": len(result["results"])}  # fmt: skip
        warnings = []
        if not len(result["results"]):
            warnings.append("warning: nothing was found. Early on this is normal; later try another --lr or more steps")
        if not math.isfinite(mask["AP"]):
            warnings.append("warning: nothing could be measured: the validation images have no objects")
        return Validation(
            row,
            score=mask["AP"],
            metrics={name: row[name] for name in ("mask_ap", "mask_ap50", "box_ap")},
            warnings=warnings,
            table=report.ap_table(self.names, result["classes"], result["category_ids"]),
            draw=lambda path: report.object_samples(path, result["samples"], self.names, model.info.palette),
        )


def refuse(options: Namespace) -> None:
    """Raise TrainError for options that mean nothing here."""
    given = {
        "--class-weights": options.class_weights,
        "--border-weights": options.border_weights,
        "--supervision": options.supervision != ["masks"],
        "--loss": options.loss not in ("cross_entropy", "ce"),
    }
    for name, value in given.items():
        if value:
            raise TrainError(f"{name} is not for {options.model}, which has losses of its own; cure: leave it out")


def open_set(options: Namespace, split: str):
    """The data set of a split: --data, or the shapes, 4000 to train on."""
    if options.data is None:
        return shapes(split, 4000)
    return open_objects(options.data, split, **({} if options.scale == 1 else {"scale": options.scale}))


def augmentation(options: Namespace, model, mean, std) -> t.Compose:
    """--augment in the table's order, then the model's size, or with --crop large-scale jitter; normalisation."""
    chosen = [AUGMENTATIONS[name] for name in AUGMENTATIONS if name in options.augment]
    if options.crop is not None:
        size = t.LargeScaleJitter(tuple(options.crop), 0.5, 2.0)
    else:
        size = t.ResizeShortest(model.min_size, model.max_size)
    return t.Compose([*chosen, size, t.Normalize(mean, std)])
