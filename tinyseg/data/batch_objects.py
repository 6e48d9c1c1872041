"""Batches of images of different sizes with their objects: padded below and on the right to one size."""

from dataclasses import dataclass

import numpy as np

from .objects import Objects, objects_of
from .sample import DataError, Sample
from .transforms import to_float


@dataclass(frozen=True)
class ObjectBatch:
    """Shapes: images (N,H,W,C) float32, 0 in the padding; sizes: (H,W) of each image without it; objects: of each."""

    images: np.ndarray
    sizes: tuple[tuple[int, int], ...]
    objects: tuple[Objects, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def stack_objects(samples: list[Sample], multiple: int = 32) -> ObjectBatch:
    """A batch of samples of any size; height and width become multiples of `multiple`. Crowds are left out.

    Raises: DataError where channels differ, or nothing says what the objects are.
    Example: Loader(Shapes(), batch_size=4, collate=stack_objects)
    """
    channels = {s.image.shape[2] for s in samples}
    if len(channels) != 1:
        raise DataError(f"one batch needs one number of channels, but its images have {sorted(channels)}")
    sizes = tuple(s.image.shape[:2] for s in samples)
    height, width = (-(-max(side) // multiple) * multiple for side in zip(*sizes))
    images = np.zeros((len(samples), height, width, *channels), np.float32)
    for image, sample, (h, w) in zip(images, samples, sizes):
        image[:h, :w] = to_float(sample.image)
    objects = (objects_of(s) for s in samples)
    return ObjectBatch(images, sizes, tuple(o.take(~o.crowd) for o in objects), tuple(s.name for s in samples))
