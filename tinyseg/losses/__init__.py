"""Losses: functions (logits, target, *, ignore_index=255, ...) -> scalar Tensor."""

from .border import unet_border_weights
from .boxes import bbox_em_fixed, bbox_rect, boxinst, segment_boxes
from .image_labels import cam, ccnn, em_adapt, em_fixed, mil
from .scribbles import dense_crf_loss, normalized_cut_loss, partial_cross_entropy
from .scribblesup import ScribbleGraph
from .supervised import (
    binary_cross_entropy,
    cross_entropy,
    dice,
    focal,
    lovasz_softmax,
    median_frequency_weights,
)

__all__ = [
    "ScribbleGraph",
    "bbox_em_fixed",
    "bbox_rect",
    "binary_cross_entropy",
    "boxinst",
    "cam",
    "ccnn",
    "cross_entropy",
    "dense_crf_loss",
    "dice",
    "em_adapt",
    "em_fixed",
    "focal",
    "lovasz_softmax",
    "median_frequency_weights",
    "mil",
    "normalized_cut_loss",
    "partial_cross_entropy",
    "segment_boxes",
    "unet_border_weights",
]
