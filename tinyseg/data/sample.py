"""One picture and what is known about it: the value that datasets return and transforms pass on."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

IGNORE = 255  # the class id that no loss and no metric looks at


class DataError(ValueError):
    """Something is wrong with a file or a data set; the message names it, what was found, and the cure."""


@dataclass(frozen=True)
class Sample:
    """An image and its labels, all of one height and width.

    Shapes: image (H, W, C), C = 1 or 3, uint8 or uint16 as read from a file, float32 after `Normalize`;
        mask (H, W) int32 class ids, 255 = ignore; instances (H, W) int32, 0 = no object, 1.. = objects;
        weights (H, W) float32, a factor on the loss of each pixel (the border map of the U-Net paper).
    Raises: DataError where shapes disagree.
    Example: Sample(image, mask, name="street_07")
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    instances: np.ndarray | None = None
    name: str = ""
    weights: np.ndarray | None = None

    def __post_init__(self):
        if self.image.ndim != 3 or self.image.shape[2] not in (1, 3):
            raise DataError(f"sample '{self.name}': image has shape {self.image.shape} but (H, W, 1) or (H, W, 3) is "
                            "expected: add the channel axis with image[:, :, None]")
        for what in ("mask", "instances", "weights"):
            labels = getattr(self, what)
            if labels is not None and labels.shape != self.image.shape[:2]:
                raise DataError(f"sample '{self.name}': {what} has shape {labels.shape} but the image is "
                                f"{self.image.shape}: give both the same height and width")

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays hold."""
        return sum(a.nbytes for a in (self.image, self.mask, self.instances, self.weights) if a is not None)

    def map(self, on_image: Callable, on_labels: Callable) -> "Sample":
        """Apply `on_image(image)` and `on_labels(labels, outside)`; `outside` labels what lies beyond the image.

        This is the one place that moves image, mask, instances and weights together. Beyond the image the mask says
        255 (ignore), instances say 0 (no object), weights say 0.
        """

        def labels(array, outside):
            return None if array is None else on_labels(array, outside)

        return replace(self, image=on_image(self.image), mask=labels(self.mask, IGNORE),
                       instances=labels(self.instances, 0), weights=labels(self.weights, 0))
