"""Losses: functions (logits, target, *, ignore_index=255, ...) -> scalar Tensor."""

from .border import unet_border_weights
from .image_labels import ccnn, em_adapt, em_fixed, mil
from .supervised import (
    binary_cross_entropy,
    cross_entropy,
    dice,
    focal,
    lovasz_softmax,
    median_frequency_weights,
)

__all__ = [
    "binary_cross_entropy",
    "ccnn",
    "cross_entropy",
    "dice",
    "em_adapt",
    "em_fixed",
    "focal",
    "lovasz_softmax",
    "median_frequency_weights",
    "mil",
    "unet_border_weights",
]
