"""One picture and what is known about it: the value that datasets return and transforms pass on."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

IGNORE = 255  # the class id that no loss and no metric looks at


class DataError(ValueError):
    """Something is wrong with a file or a data set; the message names it, what was found, and the cure."""


class ColourError(DataError):
    """A mask in colours that no one said the classes of."""


@dataclass(frozen=True)
class Sample:
    """An image and its labels, all of one height and width.

    Shapes: image (H, W, C), C = 1 or 3, uint8 or uint16 as read from a file, float32 after `Normalize`;
        mask (H, W) int32 class ids, 255 = ignore; instances (H, W) int32, 0 = no object, 1.. = objects;
        weights (H, W) float32, a factor on the loss of each pixel (the border map of the U-Net paper);
        objects: the objects of the picture, which may overlap (see `data.objects`);
        tags (K,) bool, which classes the image shows; boxes (B, 5) float32: x1, y1, x2, y2 in pixels, class.
    supervision: what the image is labelled by: "masks", "scribbles", "points", "boxes" or "tags". With boxes and tags
        the mask is 255 everywhere.
    Raises: DataError where shapes disagree.
    Example: Sample(image, mask, name="street_07")
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    instances: np.ndarray | None = None
    name: str = ""
    weights: np.ndarray | None = None
    tags: np.ndarray | None = None
    boxes: np.ndarray | None = None
    supervision: str = "masks"
    objects: "Objects | None" = None  # noqa: F821  (objects.py, which imports this file)

    def __post_init__(self):
        if self.image.ndim != 3 or self.image.shape[2] not in (1, 3):
            raise DataError(f"sample '{self.name}': image has shape {self.image.shape} but (H, W, 1) or (H, W, 3) is "
                            "expected: add the channel axis with image[:, :, None]")
        for what in ("mask", "instances", "weights"):
            labels = getattr(self, what)
            if labels is not None and labels.shape != self.image.shape[:2]:
                raise DataError(f"sample '{self.name}': {what} has shape {labels.shape} but the image is "
                                f"{self.image.shape}: give both the same height and width")
        if self.objects is not None and tuple(self.objects.size) != self.image.shape[:2]:
            raise DataError(f"sample '{self.name}': its objects are of an image of {self.objects.size} but the image "
                            f"is {self.image.shape}: give both the same height and width")

    @property
    def arrays(self) -> list[np.ndarray]:
        """The arrays that are there."""
        every = (self.image, self.mask, self.instances, self.weights, self.tags, self.boxes)
        every += () if self.objects is None else self.objects.arrays
        return [array for array in every if array is not None]

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays hold."""
        return sum(array.nbytes for array in self.arrays)

    def map(self, on_image: Callable, on_labels: Callable) -> "Sample":
        """Apply `on_image(image)` and `on_labels(labels, outside)`; `outside` labels what lies beyond the image.

        This is the one place that moves image, mask, instances, weights and boxes together. Beyond the image the mask
        says 255 (ignore), instances say 0 (no object), weights say 0. A box becomes that of its moved pixels, and is
        gone where none is left. Tags stay: they say of the whole image what it shows.
        """

        def labels(array, outside):
            return None if array is None else on_labels(array, outside)

        return replace(self, image=on_image(self.image), mask=labels(self.mask, IGNORE),
                       instances=labels(self.instances, 0), weights=labels(self.weights, 0),
                       boxes=None if self.boxes is None else self._moved_boxes(on_labels),
                       objects=None if self.objects is None else self.objects.map(on_labels))

    def _moved_boxes(self, on_labels):
        moved = []
        for box in self.boxes:
            layer = on_labels(inside_box(box, self.image.shape[:2]).astype(np.int32), 0)
            rows, columns = (np.flatnonzero(layer.any(axis=axis)) for axis in (1, 0))
            if len(rows):
                moved.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1, box[4]))
        return np.array(moved, np.float32).reshape(-1, 5)


def inside_box(box, size: tuple[int, int]) -> np.ndarray:
    """Which pixels, (H, W) bool, have their centres in the box (x1, y1, x2, y2, ...)."""
    y, x = (np.arange(n) + 0.5 for n in size)
    return ((y > box[1]) & (y < box[3]))[:, None] & ((x > box[0]) & (x < box[2]))
