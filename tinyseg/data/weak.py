"""A data set in which each image is labelled by what it has: a full mask, scribbles, points, boxes or tags."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from . import weaken
from .files import Files
from .image import listed, read_image
from .sample import IGNORE, DataError, Sample
from .voc import root_of
from .weak_files import background_of, labels_at, read_scribbles, read_voc_boxes

KINDS = ("masks", "scribbles", "points", "boxes", "tags")


class Weak:
    """The samples of a data set, each with the first kind of label, in the order of `kinds`, that it has.

    kinds: some of "masks", "scribbles", "points", "boxes", "tags". path: the folder with scribbles/, points/,
    boxes.json or boxes/, tags.txt (see `weak_files`); None makes the weak labels from the masks instead, with `seed`,
    scribbles of the given `length` and `width`. With ("scribbles", "masks") images without scribbles use their masks.
    masked: how many of the images, evenly spread, keep their masks whatever `kinds` says.

    Raises: DataError where an image has none of the kinds, or a file is damaged; ValueError for an unknown kind.
    Example: Weak(ts.data.open("voc", masks_needed=False), ("masks", "tags"), "voc")[0].supervision
    """

    def __init__(
        self, dataset, kinds: Sequence[str], path: str | Path | None = None, length: float = 1.0, width: int = 3,
        masked: int = 0, seed: int = 0,
    ):  # fmt: skip
        if not kinds or set(kinds) - set(KINDS):
            raise ValueError(f"Weak: kinds are {list(kinds)}, expected some of {', '.join(KINDS)}")
        self.dataset, self.kinds = dataset, tuple(kinds)
        self.path = None if path is None else Path(path)
        self.length, self.width, self.seed = length, width, seed
        self.class_names, self.num_classes = dataset.class_names, dataset.num_classes
        self.palette, self.in_channels = dataset.palette, dataset.in_channels
        self.background = background_of(self.class_names)
        count = len(dataset)
        self.masked = {i * count // masked for i in range(min(masked, count))}
        if self.path is not None:
            self._find()

    def _find(self):
        """What there is at `path`, and for each image the kind that it uses."""
        root = self.path
        self.found = labels_at(root, self.kinds, self.class_names, root_of(root) / "Annotations")
        bare = [self.name(i) for i in range(len(self)) if self.kind(i) is None]
        if bare:
            raise DataError(
                f"{root}: {len(bare)} of {len(self)} images have no {' and no '.join(self.kinds)} ({listed(bare)}); "
                f"expected {_expected(self.kinds)}; cure: add them, name a second kind, or make them from masks: "
                f"tinyseg weaken DIR --to {self.kinds[0]}"
            )

    def kind(self, i: int) -> str | None:
        """The kind of label that image i uses; None if it has none of `kinds`."""
        has_mask = not isinstance(self.dataset, Files) or self.dataset.items[i].mask is not None
        if i in self.masked and has_mask:
            return "masks"
        if self.path is None:
            return self.kinds[0]
        name = self.name(i)
        return next((k for k in self.kinds if (has_mask if k == "masks" else name in self.found[k])), None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __repr__(self) -> str:
        return f"Weak({self.dataset!r}, {self.kinds})"

    def name(self, i: int) -> str:
        """The i-th sample's name."""
        return self.dataset.name(i)

    def __getitem__(self, i: int) -> Sample:
        sample, kind = self.dataset[i], self.kind(i)
        if kind == "masks":
            return replace(sample, instances=None, supervision=kind)  # in one batch all have them, or none
        label = self._made(kind, sample) if self.path is None else self._read(kind, i, sample.image.shape[:2])
        nothing = np.full(sample.image.shape[:2], IGNORE, np.int32)
        weak = replace(sample, mask=nothing, instances=None, supervision=kind)
        return replace(weak, **{{"boxes": "boxes", "tags": "tags"}.get(kind, "mask"): label})

    def _made(self, kind, sample):
        """The weak label made from the mask; a function of the name and the seed."""
        seed = [self.seed, zlib.crc32(sample.name.encode())]
        mask, instances = sample.mask, sample.instances
        if kind == "scribbles":
            return weaken.scribbles(mask, instances, self.length, self.width, seed)
        if kind == "points":
            k, x, y = weaken.points(mask, instances, seed).T
            label = np.full(mask.shape, IGNORE, np.int32)
            label[y, x] = k
            return label
        if kind == "boxes":
            return weaken.boxes(mask, instances, self.background)
        return weaken.tags(mask, self.num_classes)

    def _read(self, kind, i, size):
        """The weak label of image i from its file, at the size at which the image was read."""
        label = self.found[kind][self.name(i)]
        if kind == "tags":
            return label
        whole = size
        if self.dataset.scale is not None or getattr(self.dataset, "size", None) is not None:
            whole = read_image(self.dataset.image_path(i)).shape[:2]
        if kind == "boxes":
            boxes = read_voc_boxes(label, self.class_names) if isinstance(label, Path) else label
            y, x = (n / m for n, m in zip(size, whole))
            return boxes * np.float32([x, y, x, y, 1])
        drawn = read_scribbles(label, whole, self.class_names)
        label = np.full(size, IGNORE, np.int32)
        y, x = np.nonzero(drawn != IGNORE)  # every labelled pixel keeps its say, however small the image becomes
        label[y * size[0] // whole[0], x * size[1] // whole[1]] = drawn[y, x]
        return label


def _expected(kinds):
    places = {
        "masks": "a mask", "scribbles": "scribbles/NAME.png, .xml or .txt", "points": "points/NAME.txt, .png or .xml",
        "boxes": "boxes.json (COCO) or boxes/NAME.xml (VOC)", "tags": "a line 'NAME: class, class' in tags.txt",
    }  # fmt: skip
    return ", or ".join(places[kind] for kind in kinds)
