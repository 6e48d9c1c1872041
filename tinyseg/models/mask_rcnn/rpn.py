"""The region proposal network: at each pixel of each level, is there an object, and how does its box differ from the
anchors there? Ren et al. 2015; on a pyramid Lin et al. 2017, section 4.1.
"""

import numpy as np

from ... import ops
from ...nn import Conv2d, Module, ReLU, Sequential, init
from ...tensor import Tensor
from . import losses
from .anchors import pyramid_anchors
from .box_coding import ANCHOR_WEIGHTS, encode
from .proposals import propose
from .sampling import balanced, match

RATIOS = (0.5, 1.0, 2.0)  # height / width of anchors


class RPNHead(Module):
    """3x3, ReLU, and two 1x1: (N,H,W,C) -> objectness logits (N,H,W,A), offsets (N,H,W,4A). One for all levels."""

    def __init__(self, channels: int, anchors: int):
        self.conv = Sequential(Sequential(Conv2d(channels, channels, 3, padding=1), ReLU()))
        self.cls_logits = Conv2d(channels, anchors, 1)
        self.bbox_pred = Conv2d(channels, 4 * anchors, 1)

    def reset_parameters(self, seed=0) -> None:
        for layer in (self.conv[0][0], self.cls_logits, self.bbox_pred):
            layer.weight.assign(init.normal(layer.weight.shape, 0.01, seed))
            layer.bias.assign(init.zeros(layer.bias.shape))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        return self.cls_logits(y), self.bbox_pred(y)


class RegionProposalNetwork(Module):
    """Maps of the pyramid -> proposals of each image; in training also its two losses.

    before, after: proposals of a level before suppression and of an image after it, (training, evaluation).
    sampled: anchors of an image that learn, at most half of them positive.
    """

    def __init__(self, channels, anchor_sizes, before=(2000, 1000), after=(2000, 1000), sampled=256):
        self.head = RPNHead(channels, len(RATIOS))
        self.anchor_sizes, self.before, self.after, self.sampled = anchor_sizes, before, after, sampled
        self.high, self.low, self.share, self.suppression = 0.7, 0.3, 0.5, 0.7

    def reset_parameters(self, seed=0) -> None:
        self.head.reset_parameters(seed)
        self.generator = np.random.default_rng(np.random.default_rng(seed).integers(2**63))

    def forward(self, maps, image_size, sizes, targets=None):
        """(proposals, losses): boxes (R,4) of each image on the host; losses {} without targets (boxes of objects).

        image_size: (H,W) of the padded batch; sizes: (H,W) of each image in it.
        """
        objectness, offsets = zip(*(self.head(x) for x in maps))
        anchors = pyramid_anchors(image_size, [x.shape[1:3] for x in maps], self.anchor_sizes, RATIOS)
        logits = [o.numpy().reshape(len(sizes), -1) for o in objectness]
        deltas = [d.numpy().reshape(len(sizes), -1, 4) for d in offsets]
        before, after = (n[0 if self.training else 1] for n in (self.before, self.after))
        proposals = []
        for i, size in enumerate(sizes):
            parts = [a[i] for a in logits], [a[i] for a in deltas]
            proposals.append(propose(*parts, anchors, size, before, after, self.suppression, maps[0].device)[0])
        if targets is None:
            return proposals, {}
        return proposals, self.losses(objectness, offsets, np.concatenate(anchors), targets)

    def losses(self, objectness, offsets, anchors, targets) -> dict[str, Tensor]:
        """Objectness and boxes of a sample of anchors, against the boxes (G,4) of each image."""
        images, device = len(targets), objectness[0].device
        chosen, positive, labels, wanted = [], [], [], []
        for i, truth in enumerate(targets):
            matched = match(anchors, truth, self.high, self.low, True, device)
            sample = balanced(matched, self.sampled, self.share, self.generator)
            found = sample[matched[sample] >= 0]
            chosen.append(sample + i * len(anchors))
            labels.append(matched[sample] >= 0)
            positive.append(found + i * len(anchors))
            wanted.append(encode(truth[matched[found]], anchors[found], ANCHOR_WEIGHTS))
        chosen, positive, labels, wanted = (np.concatenate(a) for a in (chosen, positive, labels, wanted))
        logits = ops.concat([o.reshape(images, -1) for o in objectness], axis=1).reshape(-1)
        deltas = ops.concat([d.reshape(images, -1, 4) for d in offsets], axis=1).reshape(-1, 4)
        return {
            "loss_objectness": losses.binary_cross_entropy(logits[chosen], labels.astype(np.float32)),
            "loss_rpn_box_reg": losses.smooth_l1(deltas[positive], wanted) / len(chosen),
        }
