"""What a Mask R-CNN found in an image, and how it is chosen from the heads' numbers. He et al. 2017, section 3.1.

Softmax scores without the background; boxes decoded for each class and clipped; scores above 0.05, sides of at least
1/100 pixel; non-maximum suppression (IoU 0.5) class by class; the best 100.
"""

from dataclasses import dataclass

import numpy as np

from ... import ops, rle
from ...tensor import tensor
from .box_coding import BOX_WEIGHTS, clip, decode, large_enough

LEAST = 1e-2  # pixels


@dataclass
class Detections:
    """Objects found in an image of size (H,W), best first.

    Shapes: boxes (R,4) float32, x1 y1 x2 y2 in pixels; labels (R,) int32 class ids from 1; scores (R,) in [0, 1];
        masks (R,28,28) float32, the probability that a pixel of the box is the object.
    Example: found = ts.detect(model, image); inside = found.mask(0)
    """

    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def mask(self, k: int, threshold: float = 0.5) -> np.ndarray:
        """The pixels of object k, (H,W) bool: its mask pasted into the image."""
        return ops.paste_masks(self.masks[k : k + 1], self.boxes[k : k + 1], self.size).numpy()[0] >= threshold

    def rle(self, k: int, threshold: float = 0.5) -> dict:
        """The same as COCO's compressed run lengths: {"size": [H, W], "counts": text}."""
        return {"size": [int(n) for n in self.size], "counts": rle.to_text(rle.encode(self.mask(k, threshold)))}

    def take(self, which) -> "Detections":
        """Some of them, by number or by a flag each."""
        return Detections(self.size, self.boxes[which], self.labels[which], self.scores[which], self.masks[which])

    def resized(self, size: tuple[int, int]) -> "Detections":
        """The same objects in the image at another size."""
        ratio = np.float32(size) / np.float32(self.size)
        return Detections(size, self.boxes * ratio[[1, 0, 1, 0]], self.labels, self.scores, self.masks)

    def instances(self, threshold: float = 0.5) -> np.ndarray:
        """An id map (H,W) int32: k + 1 where object k is, the better object on top; masks are pasted one by one."""
        ids = np.zeros(self.size, np.int32)
        for k in range(len(self))[::-1]:
            ids[self.mask(k, threshold)] = k + 1
        return ids


def select(scores, offsets, proposals, size, heads, device) -> Detections:
    """The detections of one image, their masks still to come.

    Shapes: scores (R,K) softmax, offsets (R,K,4), proposals (R,4), size (H,W); heads: see `RoIHeads`.
    """
    classes = scores.shape[1]
    boxes = clip(decode(offsets, proposals[:, None], BOX_WEIGHTS), size)[:, 1:].reshape(-1, 4)
    labels = np.tile(np.arange(1, classes, dtype=np.int32), len(proposals))
    scores = scores[:, 1:].reshape(-1)
    good = np.flatnonzero((scores > np.float32(heads.score)) & large_enough(boxes, LEAST))
    boxes, labels, scores = boxes[good], labels[good], scores[good]
    kept = ops.batched_nms(tensor(boxes, device), scores, labels, heads.suppression).numpy()[: heads.most]
    masks = np.zeros((len(kept), 28, 28), np.float32)
    return Detections(tuple(size), boxes[kept], labels[kept], scores[kept], masks)
