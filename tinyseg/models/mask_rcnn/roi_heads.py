"""The heads that look at each proposal: which class, where exactly, and which pixels. He et al. 2017, section 3.

    box head    RoIAlign 7x7 -> two fully connected layers -> K class logits, 4K offsets
    mask head   RoIAlign 14x14 -> four 3x3 convolutions -> transposed convolution -> K masks of 28x28
"""

import numpy as np

from ... import ops
from ...nn import Conv2d, ConvTranspose2d, Linear, Module, ReLU, Sequential, init
from ...tensor import Tensor, no_grad
from . import losses
from .box_coding import BOX_WEIGHTS, encode
from .detections import Detections, select
from .sampling import balanced, match


def level_of(boxes: np.ndarray, levels: int) -> np.ndarray:
    """The level of the pyramid that a box is looked at on: 4 + log2(side / 224) of P2..P5. Lin et al. 2017, equation 1.

    A box of 224 x 224 pixels goes to P4, one of 112 x 112 to P3. Returns 0 for P2.
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    side = np.sqrt(sides[:, 0] * sides[:, 1], dtype=np.float32)
    with np.errstate(divide="ignore"):
        level = np.floor(4 + np.log2(side / np.float32(224)) + np.float32(1e-6))
    return (np.clip(level, 2, 1 + levels) - 2).astype(np.int32)


def dense(layer: Linear, x: Tensor) -> Tensor:
    """layer(x) of x (R,C), as a convolution of R pixels.

    A matrix product would run on the threads of BLAS, which go on spinning for a while: on few cores the kernels that
    follow wait for them, and a step of a small model takes three times as long.
    """
    if not len(x):
        return layer(x)
    weight = layer.weight.reshape(1, 1, *layer.weight.shape)
    return ops.conv2d(x.reshape(1, len(x), 1, -1), weight, layer.bias).reshape(len(x), -1)


class BoxHead(Module):
    """(R,7,7,C) -> (R,features): two fully connected layers with ReLU."""

    def __init__(self, channels: int, features: int):
        self.fc6 = Linear(7 * 7 * channels, features)
        self.fc7 = Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(dense(self.fc7, ops.relu(dense(self.fc6, ops.flatten(x, 1)))))


class BoxPredictor(Module):
    """(R,features) -> class logits (R,K) and offsets (R,K,4), one box a class."""

    def __init__(self, features: int, num_classes: int):
        self.cls_score = Linear(features, num_classes)
        self.bbox_pred = Linear(features, 4 * num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return dense(self.cls_score, x), dense(self.bbox_pred, x).reshape(x.shape[0], -1, 4)


class MaskPredictor(Module):
    """(R,14,14,C) -> (R,28,28,K): a transposed convolution, ReLU, 1x1."""

    def __init__(self, channels: int, num_classes: int):
        self.conv5_mask = ConvTranspose2d(channels, channels, 2, stride=2)
        self.mask_fcn_logits = Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mask_fcn_logits(ops.relu(self.conv5_mask(x)))


class RoIHeads(Module):
    """Maps and proposals -> detections, or in training the three losses.

    sampled: proposals of an image that learn, a quarter of them positive. score, suppression: detections need that
    score, and less IoU than that with a better one of their class; `most` of an image are kept.
    """

    def __init__(self, channels, num_classes, features, sampled=512, score=0.05, suppression=0.5, most=100):
        self.box_head = BoxHead(channels, features)
        self.box_predictor = BoxPredictor(features, num_classes)
        self.mask_head = Sequential(*(Sequential(Conv2d(channels, channels, 3, padding=1), ReLU()) for _ in range(4)))
        self.mask_predictor = MaskPredictor(channels, num_classes)
        self.sampled, self.score, self.suppression, self.most = sampled, score, suppression, most
        self.share, self.positive = 0.25, 0.5

    def reset_parameters(self, seed=0) -> None:
        generator = np.random.default_rng(seed)
        self.box_head.reset_parameters(generator)
        self.box_predictor.reset_parameters(generator)
        masks = [block[0] for block in self.mask_head]
        for layer in (*masks, self.mask_predictor.conv5_mask, self.mask_predictor.mask_fcn_logits):
            layer.weight.assign(init.kaiming_normal(layer.weight.shape, generator, "fan_out"))
            layer.bias.assign(init.zeros(layer.bias.shape))
        self.generator = np.random.default_rng(generator.integers(2**63))

    def forward(self, maps, image_size, sizes, proposals, targets=None):
        """Detections of each image, or with targets (data.Objects) the losses."""
        if targets is None:
            return self.detect(maps, image_size, sizes, proposals)
        return self.losses(maps, image_size, proposals, targets)

    def boxes_of(self, maps, image_size, proposals) -> tuple[Tensor, Tensor]:
        """Class logits (R,K) and offsets (R,K,4) of the proposals of all images, one behind the other."""
        return self.box_predictor(self.box_head(pool(maps, image_size, proposals, 7)))

    def masks_of(self, maps, image_size, boxes) -> Tensor:
        """Mask logits (R,28,28,K) of boxes of all images."""
        return self.mask_predictor(self.mask_head(pool(maps, image_size, boxes, 14)))

    def losses(self, maps, image_size, proposals, targets) -> dict[str, Tensor]:
        """Class, box and mask of a sample of proposals; the true boxes are among them."""
        boxes, labels, wanted, found, masks = [], [], [], [], []
        device = maps[0].device
        for proposed, objects in zip(proposals, targets):
            proposed = np.concatenate([proposed, objects.boxes])
            matched = match(proposed, objects.boxes, self.positive, self.positive, False, device)
            sample = balanced(matched, self.sampled, self.share, self.generator)
            proposed, matched = proposed[sample], matched[sample]
            positive = np.flatnonzero(matched >= 0)
            boxes.append(proposed)
            labels.append(np.where(matched >= 0, objects.labels[matched] if len(objects) else 0, 0))
            wanted.append(encode(objects.boxes[matched[positive]], proposed[positive], BOX_WEIGHTS))
            found.append(proposed[positive])
            crop = objects.bits, objects.places, matched[positive], proposed[positive], objects.size
            masks.append(ops.crop_masks(*crop, 28).numpy())
        labels, wanted, masks = (np.concatenate(a) for a in (labels, wanted, masks))
        positive = np.flatnonzero(labels > 0)
        if not len(labels):  # neither objects nor proposals
            return {name: ops.sum(maps[0]) * 0.0 for name in ("loss_classifier", "loss_box_reg", "loss_mask")}
        scores, offsets = self.boxes_of(maps, image_size, boxes)
        offsets = losses.OfClass(labels[positive])(offsets[positive].transpose(0, 2, 1))
        result = {
            "loss_classifier": losses.cross_entropy(scores, labels),
            "loss_box_reg": losses.smooth_l1(offsets, wanted) / len(labels),
            "loss_mask": ops.sum(scores) * 0.0,
        }
        if len(positive):
            logits = losses.OfClass(labels[positive])(self.masks_of(maps, image_size, found))
            result["loss_mask"] = losses.binary_cross_entropy(logits, masks)
        return result

    def detect(self, maps, image_size, sizes, proposals) -> list[Detections]:
        """Boxes, classes, scores and masks of each image."""
        with no_grad():
            scores, offsets = self.boxes_of(maps, image_size, proposals)
            scores, offsets = ops.softmax(scores).numpy(), offsets.numpy()
            ends = np.cumsum([0, *(len(p) for p in proposals)])
            found = [
                select(scores[a:b], offsets[a:b], p, size, self, maps[0].device)
                for a, b, p, size in zip(ends, ends[1:], proposals, sizes)
            ]
            labels = np.concatenate([d.labels for d in found])
            if len(labels):
                logits = losses.OfClass(labels)(self.masks_of(maps, image_size, [d.boxes for d in found]))
                masks, ends = ops.sigmoid(logits).numpy(), np.cumsum([0, *(len(d) for d in found)])
                for d, a, b in zip(found, ends, ends[1:]):
                    d.masks = masks[a:b]
        return found


def pool(maps, image_size, boxes: list[np.ndarray], bins: int) -> Tensor:
    """RoIAlign of the boxes of each image on the level of their size; P6 has none. -> (R,bins,bins,C)."""
    maps, image = maps[:-1], np.repeat(np.arange(len(boxes)), [len(b) for b in boxes])
    boxes = np.concatenate(boxes).astype(np.float32)
    scales = [2.0 ** np.round(np.log2(x.shape[1] / image_size[0])) for x in maps]
    return ops.multiscale_roi_align(maps, boxes, image, level_of(boxes, len(maps)), bins, scales, sampling_ratio=2)
