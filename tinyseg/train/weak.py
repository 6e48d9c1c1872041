"""The task of segmentation from labels that cost seconds: scribbles, points, boxes, tags, and any mix with masks.

Each image is labelled by what it has (`Weak`), and its loss is that of its kind of label, by one method a kind:

    scribbles, points   pce, crf, ncut: partial cross-entropy, alone or with a dense CRF or normalised cut loss
                        scribblesup: labels for all pixels by graph cuts, anew in each turn
    boxes               rect, box_em, boxinst; seg: labels for all pixels by a dense CRF
    tags                em_adapt, em_fixed, mil, ccnn; ccnn_hard: with what the paper has for classes that are known
                        to be large, for all that an image shows (10 % of it at any price, hardness 1000)
    masks               --loss

Those of tags, and box_em, ask the network where things are. The papers began with one that had learned ImageNet's
classes; one that begins with nothing has no opinion worth asking. So for the first part of the steps (--warm-start) it
learns from tags which classes an image shows (`losses.cam`), and from boxes the labels of a dense CRF (seg).

With --crf-weight the dense CRF loss stands beside those of boxes and tags too. The loss of a batch is the mean over its
images. Validation is against full masks.
"""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import losses, ops, report
from ..data import Sample, Weak, read_index, write_mask
from ..data import open as open_data
from ..data import transforms as t
from ..predict import predict
from .semantic import Semantic, augmentation, make_loader, match, open_set
from .task import TrainError

METHODS = {
    "scribbles": ("crf", "pce", "ncut", "scribblesup"),
    "boxes": ("seg", "rect", "box_em", "boxinst"),
    "tags": ("em_adapt", "ccnn", "ccnn_hard", "em_fixed", "mil"),
}  # the first of each is what is done where nothing is said
ASKING = ("box_em", *METHODS["tags"])
WARM_START = 0.5  # of the steps, where the weights begin with nothing


class WeaklySupervised(Semantic):
    """Semantic segmentation in which the training images have weak labels; see above."""

    def __init__(self, options: Namespace):
        self.methods, self.warm_part = methods_of(options), warm_part_of(options)
        super().__init__(options)
        self.background = self.train_set.background
        self.masks_loss, self.loss_of = self.loss_of, self.loss_of_kinds
        self.cuts = None
        if self.methods["scribbles"] == "scribblesup":
            folder = Path(options.out) / "labels"
            self.cuts = GraphCuts(self.train_set, folder, options.superpixel_scale, options.superpixel_size)
            steps = [self.cuts, augmentation(options, self.size, self.mean, self.std)]
            self.loader = make_loader(options, self.train_set, t.Compose(steps))
        epochs = options.epochs or -(-options.steps // len(self.loader))
        self.turns = turns_of(epochs, options.turns)
        self.step, self.warm_until = 0, round(self.warm_part * (options.steps or epochs * len(self.loader)))

    def open_training_set(self):
        """The images with the labels that the network sees; their class weights are of these too."""
        weak, method = open_weak_set(self.options), self.methods["boxes"]
        if method == "seg" or method == "box_em" and self.warm_part:
            return Segmented(weak, boxes_too=method == "box_em")
        return weak

    def begin_epoch(self, model, epoch, progress):
        self.step = epoch * len(self.loader)
        if self.cuts is not None and self.turns.get(epoch, 0) > self.cuts.number:  # more epochs move the turns
            progress.say(self.cuts.turn(model, self.turns[epoch], progress))

    def state(self):
        turn = self.cuts.number if self.cuts else 0
        return {name: np.asarray(n) for name, n in (("turn", turn), ("step", self.step), ("warm", self.warm_until))}

    def load_state(self, arrays):
        self.step, self.warm_until = int(arrays["step"]), int(arrays.get("warm", self.warm_until))
        if self.cuts is not None and int(arrays["turn"]):
            self.cuts.read(int(arrays["turn"]))

    def loss(self, model, batch):
        self.step += 1
        return super().loss(model, batch)

    def uploads(self, batch):
        return [batch.images]  # masks are cut up by kind

    def loss_of_kinds(self, logits, batch):
        """The mean over the images of the loss of their kind of label."""
        if logits.dtype == np.float16:  # lattices, and the search for labels, count in float32
            logits = ops.astype(logits, np.float32)
        total = 0.0
        kinds = ["scribbles" if kind == "points" else kind for kind in batch.supervision]
        for kind in sorted(set(kinds)):
            rows = [n for n, k in enumerate(kinds) if k == kind]
            some = logits if len(rows) == len(kinds) else logits[np.array(rows)]
            part = replace(
                batch,
                images=batch.images[rows],
                masks=batch.masks[rows],
                weights=None if batch.weights is None else batch.weights[rows],
                tags=tuple(batch.tags[n] for n in rows),
                boxes=tuple(batch.boxes[n] for n in rows),
            )
            total = total + self._of_kind(kind, some, part) * (len(rows) / len(kinds))
        return total

    def _of_kind(self, kind, logits, batch):
        method, size = self.methods.get(kind), logits.shape[1:3]
        if kind == "masks":
            return self.masks_loss(logits, batch)
        if kind == "scribbles":
            loss = losses.partial_cross_entropy(logits, match(batch.masks, size))
            if method == "pce":
                return loss
            beside = losses.dense_crf_loss if method == "crf" else losses.normalized_cut_loss
            return loss + self._affinity(beside, logits, batch, 0.1)
        if self.step <= self.warm_until and method in ASKING:
            return self._of_tags("cam", logits, batch) if kind == "tags" else self.masks_loss(logits, batch)
        of_kind = self._of_tags if kind == "tags" else self._of_boxes
        return of_kind(method, logits, batch) + self._affinity(losses.dense_crf_loss, logits, batch, 0.0)

    def _affinity(self, beside, logits, batch, usual):
        """The loss that looks at the picture alone, by its weight; 0 where it has none."""
        s = self.options
        weight = usual if s.crf_weight is None else s.crf_weight
        if not weight:
            return 0.0
        pictures = self._pictures(batch, logits.shape[1:3])
        return weight * beside(logits, pictures, sigma_xy=s.crf_sxy, sigma_rgb=s.crf_srgb, pool=s.crf_pool)

    def _of_tags(self, method, logits, batch):
        tags, options = np.stack(batch.tags), {"background": self.background}
        if method == "cam":
            return losses.cam(logits, tags, **options)
        if method == "mil":
            return losses.mil(logits, tags)
        if method == "em_fixed":
            return losses.em_fixed(logits, tags, **options)
        if method == "em_adapt":
            return losses.em_adapt(logits, tags, seed=self.step, **options)
        large = tags if method == "ccnn_hard" else None
        return losses.ccnn(logits, tags, large=large, pool=self.options.tag_pool, **options)

    def _of_boxes(self, method, logits, batch):
        size = logits.shape[1:3]
        y, x = ((have - want) // 2 for have, want in zip(batch.masks.shape[1:3], size))
        boxes = [b - np.float32([x, y, x, y, 0]) for b in batch.boxes]
        if method == "rect":
            return losses.bbox_rect(logits, boxes, background=self.background)
        if method == "box_em":
            return losses.bbox_em_fixed(logits, boxes, background=self.background)
        return losses.boxinst(logits, boxes, self._pictures(batch, size), background=self.background)

    def _pictures(self, batch, size):
        """The images as on the screen, in [0, 1]: what the augmentation has normalised, taken back."""
        pixels = np.clip(batch.images * np.float32(self.std) + np.float32(self.mean), 0, 1)
        y, x = ((have - want) // 2 for have, want in zip(pixels.shape[1:3], size))
        return pixels[:, y : y + size[0], x : x + size[1]]


class Segmented:
    """A data set whose boxes have become masks, by a dense CRF (Bbox-Seg); or have masks beside them (boxes_too)."""

    def __init__(self, dataset: Weak, boxes_too: bool = False):
        self.dataset, self.boxes_too = dataset, boxes_too

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i: int) -> Sample:
        sample = self.dataset[i]
        if sample.supervision != "boxes":
            return sample
        mask = losses.segment_boxes(sample.image, sample.boxes, self.num_classes, self.background)
        if self.boxes_too:
            return replace(sample, mask=mask)
        return replace(sample, mask=mask, boxes=None, supervision="masks")


class GraphCuts:
    """A transform that gives images with scribbles the labels of the last turn; `turn` makes new ones.

    The labels of turn 2 are files in labels/2/, so that a run goes on from them.
    """

    def __init__(self, dataset: Weak, folder: Path, scale: float = 100.0, min_size: int = 20):
        self.dataset, self.folder, self.number, self.masks = dataset, folder, 0, {}
        self.scale, self.min_size = scale, min_size  # of the superpixels

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        mask = self.masks.get(sample.name)
        return sample if mask is None else replace(sample, mask=mask.astype(np.int32), supervision="masks")

    def turn(self, model, number: int, progress: report.Progress) -> str:
        """Label every image anew, with the network's opinion from the second turn on; says what happened to E."""
        before = after = 0.0
        images = [i for i in range(len(self.dataset)) if self.dataset.kind(i) in ("scribbles", "points")]
        for count, i in enumerate(images, 1):
            sample = self.dataset[i]
            graph = losses.ScribbleGraph(sample.image, sample.mask, scale=self.scale, min_size=self.min_size)
            scales = (1 / model.info.scale,)  # the images of the data set are resized already
            p = predict(model, sample.image, scales=scales, probabilities=True) if number > 1 else None
            start = None
            if number > 1 and len(graph.classes):
                start = graph.labels_of(self.masks[sample.name])
                before += graph.energy(start, p).total
            labels, energy = graph.label(p, start)
            after += energy.total
            mask, file = graph.paint(labels), self.folder / str(number) / f"{sample.name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)  # a name may be that of a folder and a file in it
            write_mask(file, mask)
            self.masks[sample.name] = mask.astype(np.uint8)
            progress.show(f"labels by graph cuts {count}/{len(images)}")
        self.number = number
        was = f"{before:.1f} -> " if number > 1 else ""
        return f"turn {number}: labels of {len(images)} images by graph cuts, energy {was}{after:.1f}"

    def read(self, number: int) -> None:
        """The labels of a turn from its files."""
        self.number = number
        for i in range(len(self.dataset)):
            if self.dataset.kind(i) in ("scribbles", "points"):
                name = self.dataset.name(i)
                self.masks[name] = read_index(self.folder / str(number) / f"{name}.png").astype(np.uint8)


# The parts


def warm_part_of(options: Namespace) -> float:
    """The part of the steps that is a warm start: --warm-start, else 0.5 where the weights begin with nothing."""
    if options.warm_start is not None:
        return options.warm_start
    return 0.0 if options.init else WARM_START


def open_weak_set(options: Namespace) -> Weak:
    """The training set with its weak labels: files beside the data or in --labels; on the shapes, made from masks."""
    kinds, settings = options.supervision, {"masked": options.masked, "seed": options.seed}
    if options.data is None:
        settings |= {"length": options.scribble_length, "width": options.scribble_width}
        return Weak(open_set(options, options.split), kinds, **settings)
    scale = {} if options.scale == 1 else {"scale": options.scale}
    dataset = open_data(options.data, split=options.split, masks_needed=False, **scale)
    return Weak(dataset, kinds, options.labels or options.data, **settings)


def turns_of(epochs: int, turns: int) -> dict[int, int]:
    """Which turn begins with which epoch. The first has three quarters: an unformed opinion would spoil the labels."""
    later = turns - 1
    first = max(min(epochs * 3 // 4, epochs - later), 0)
    begins = {first + i * (epochs - first) // max(later, 1): i + 2 for i in range(later)}
    return {0: 1} | {epoch: turn for epoch, turn in begins.items() if epoch > 0}


def methods_of(options: Namespace) -> dict[str, str]:
    """The method of each kind of label; TrainError for one that is of none of the kinds in use."""
    methods = {kind: names[0] for kind, names in METHODS.items()}
    asked = {"scribbles" if kind == "points" else kind for kind in options.supervision}
    for name in options.method or []:
        kind = next((kind for kind, names in METHODS.items() if name in names), None)
        if kind not in asked:
            there = ", ".join(name for kind in sorted(asked) for name in METHODS.get(kind, ()))
            raise TrainError(
                f"--method {name}: not a method for --supervision {' '.join(options.supervision)}; there are "
                f"{there or 'none: masks take --loss'}"
            )
        methods[kind] = name
    return methods
