"""Losses: functions (logits, target, *, ignore_index=255, ...) -> scalar Tensor."""

from .border import unet_border_weights
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
    "cross_entropy",
    "dice",
    "focal",
    "lovasz_softmax",
    "median_frequency_weights",
    "unet_border_weights",
]
