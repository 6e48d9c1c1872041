"""Mask R-CNN: He, Gkioxari, Dollar & Girshick, ICCV 2017 (arXiv 1703.06870), on a feature pyramid; as torchvision's.

    image -> ResNet -> pyramid P2..P6 -> proposals -> for each: class, box, mask
"""

import numpy as np

from ... import ops
from ...data.objects import Objects, check_boxes
from ...nn import Module
from ...tensor import Tensor
from .detections import Detections
from .fpn import ResNetFPN
from .roi_heads import RoIHeads
from .rpn import RegionProposalNetwork

MULTIPLE = 32  # to which images are padded, so that each level is half of the one before


class MaskRCNN(Module):
    """Finds objects: a class, a box and a mask each. Class 0 is the background.

    frozen_batch_norm, trainable_layers: see `ResNetFPN`. anchor_sizes: pixels, one a level, P2..P6. before, after,
    sampled_anchors, sampled_proposals: see `RegionProposalNetwork` and `RoIHeads`. min_size, max_size: `ts.detect` and
    training resize images so that the shorter side has min_size pixels and the longer at most max_size; None: not.

    Shapes: images (N,H,W,in_channels), normalised, of any size; sizes: (H,W) of each image without its padding.
    Raises DataError naming image and box where a target's box makes no sense; ValueError for other images.
    Example: losses = model(images, sizes, targets)      # a dict of scalars to add up
             found = model.eval()(images, sizes)         # a list of Detections
    """

    task = "instance"

    def __init__(
        self, num_classes, in_channels, depth, width, channels, features, anchor_sizes, before, after,
        sampled_anchors, sampled_proposals, frozen_batch_norm, trainable_layers, min_size, max_size, seed,
    ):  # fmt: skip
        if num_classes < 2:
            raise ValueError(f"mask_rcnn: {num_classes} classes, expected at least 2: the background is class 0")
        self.backbone = ResNetFPN(depth, in_channels, width, channels, frozen_batch_norm, trainable_layers)
        self.rpn = RegionProposalNetwork(channels, anchor_sizes, before, after, sampled_anchors)
        self.roi_heads = RoIHeads(channels, num_classes, features, sampled_proposals)
        self.min_size, self.max_size = min_size, max_size
        self.flattened = {"roi_heads.box_head.fc6.weight": (channels, 7, 7)}  # for weights from and for PyTorch
        self.reset_parameters(seed)

    def forward(
        self, images: Tensor, sizes: list[tuple[int, int]] | None = None, targets: list[Objects] | None = None
    ) -> list[Detections] | dict[str, Tensor]:
        """Detections of each image; the five losses where targets are given."""
        if images.ndim != 4 or 0 in images.shape:
            raise ValueError(f"mask_rcnn: images have shape {images.shape}, expected (N,H,W,C) with some pixels")
        sizes = [images.shape[1:3]] * len(images) if sizes is None else [tuple(int(n) for n in size) for size in sizes]
        if len(sizes) != len(images) or (targets is not None and len(targets) != len(images)):
            raise ValueError(f"mask_rcnn: {len(images)} images, {len(sizes)} sizes, expected one (and a target) each")
        if targets is not None:
            check_targets(targets, sizes, self.roi_heads.box_predictor.cls_score.bias.size)
        below, right = (-n % MULTIPLE for n in images.shape[1:3])
        if below or right:
            images = ops.pad(images, ((0, 0), (0, below), (0, right), (0, 0)))
        image_size = images.shape[1:3]
        maps = self.backbone(images)
        boxes = None if targets is None else [t.boxes for t in targets]
        proposals, losses = self.rpn(maps, image_size, sizes, boxes)
        result = self.roi_heads(maps, image_size, sizes, proposals, targets)
        return result if targets is None else {**losses, **result}


def check_targets(targets: list[Objects], sizes, num_classes: int) -> None:
    """Raise DataError (a ValueError) naming image and box where the model could only learn nonsense."""
    for i, (objects, size) in enumerate(zip(targets, sizes)):
        where = f"mask_rcnn: image {i}" + (f" ('{objects.name}')" if objects.name else "")
        if tuple(objects.size) != tuple(size):
            raise ValueError(f"{where}: its objects are of an image of {objects.size}, it has {size} (height, width)")
        check_boxes(objects.boxes, size, where)
        if len(objects) and not 1 <= objects.labels.min() <= objects.labels.max() < num_classes:
            bad = int(np.flatnonzero((objects.labels < 1) | (objects.labels >= num_classes))[0])
            raise ValueError(
                f"{where}: object {bad} has class {objects.labels[bad]}, expected 1 to {num_classes - 1} (0 is the "
                "background); cure: check num_classes and the annotations"
            )


class MaskRCNNResNet50FPN(MaskRCNN):
    """Mask R-CNN with ResNet-50 and a feature pyramid (He et al. 2017), for images of 800 pixels.

    44,401,393 parameters for 91 classes, batch norms frozen. Weights and layers are torchvision's, which divides by
    sqrt(var + 0), not by sqrt(var + 1e-5), in the batch norms of its published weights: set their `eps` to 0 for those.
    """

    name, depth = "mask_rcnn_resnet50_fpn", 50

    def __init__(
        self, num_classes: int, in_channels: int = 3, frozen_batch_norm: bool = True, trainable_layers: int = 5,
        min_size: int | None = 800, max_size: int = 1333, seed: int = 0,
    ):  # fmt: skip
        self.config = {
            "name": self.name, "num_classes": num_classes, "in_channels": in_channels,
            "frozen_batch_norm": frozen_batch_norm, "trainable_layers": trainable_layers,
            "min_size": min_size, "max_size": max_size,
        }  # fmt: skip
        super().__init__(
            num_classes, in_channels, self.depth, width=64, channels=256, features=1024,
            anchor_sizes=(32, 64, 128, 256, 512), before=(2000, 1000), after=(2000, 1000), sampled_anchors=256,
            sampled_proposals=512, frozen_batch_norm=frozen_batch_norm, trainable_layers=trainable_layers,
            min_size=min_size, max_size=max_size, seed=seed,
        )  # fmt: skip


class MaskRCNNResNet101FPN(MaskRCNNResNet50FPN):
    """Mask R-CNN with ResNet-101 and a feature pyramid (He et al. 2017): 63,341,297 parameters for 91 classes."""

    name, depth = "mask_rcnn_resnet101_fpn", 101


class MaskRCNNResNet18FPN(MaskRCNN):
    """A small Mask R-CNN that trains on a CPU, from nothing: ResNet-18, a narrow pyramid, small anchors, few proposals.

    width: channels of the first stage; the pyramid has twice as many. Batch norms are trained; images keep their size
    up to max_size pixels. anchor_size: of P2's anchors, in pixels; each level doubles it.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, width: int = 32, anchor_size: int = 16,
        frozen_batch_norm: bool = False, min_size: int | None = None, max_size: int = 1333, seed: int = 0,
    ):  # fmt: skip
        self.config = {
            "name": "mask_rcnn_resnet18_fpn", "num_classes": num_classes, "in_channels": in_channels, "width": width,
            "anchor_size": anchor_size, "frozen_batch_norm": frozen_batch_norm, "min_size": min_size,
            "max_size": max_size,
        }  # fmt: skip
        super().__init__(
            num_classes, in_channels, 18, width, channels=2 * width, features=8 * width,
            anchor_sizes=tuple(anchor_size << level for level in range(5)), before=(500, 300), after=(300, 200),
            sampled_anchors=128, sampled_proposals=64, frozen_batch_norm=frozen_batch_norm, trainable_layers=5,
            min_size=min_size, max_size=max_size, seed=seed,
        )  # fmt: skip
