"""Modules, layers and initial values."""

from . import init
from .init import no_init
from .layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Dropout2d,
    Identity,
    Linear,
    MaxPool2d,
    MaxUnpool2d,
    ReLU,
    Sequential,
    Upsample,
    freeze_batch_norm,
)
from .module import Buffer, Module, Parameter
from .recompute import recompute_blocks
from .statistics import batch_norm_statistics

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Buffer",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Dropout2d",
    "Identity",
    "Linear",
    "MaxPool2d",
    "MaxUnpool2d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Upsample",
    "batch_norm_statistics",
    "freeze_batch_norm",
    "init",
    "no_init",
    "recompute_blocks",
]
