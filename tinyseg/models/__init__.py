"""Every model by name. A new one: a file with its class here, and a line in MODELS."""

import difflib
import inspect

from ..nn import Module
from .unet import UNet, UNetPaper

MODELS = {
    "unet": UNet,
    "unet_paper": UNetPaper,
}

__all__ = ["MODELS", "UNet", "UNetPaper", "create", "names"]


def names() -> list[str]:
    """The names that `create` knows."""
    return list(MODELS)


def create(name: str, num_classes: int, in_channels: int = 3, seed: int = 0, **options) -> Module:
    """A model by name, its parameters drawn from `seed`: logits = model(x), (N,H,W,C) -> (N,H,W,num_classes).

    `options` are the model's own (width=..., see its class); one that is None is left to the model. `model.config`
    holds what it was made with: create(**model.config) builds it again.

    Raises ValueError for an unknown name (close names are listed) and for an option that the model does not have.

    Example:
        model = ts.models.create("unet", num_classes=11, width=32)
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.4)
        cure = f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(MODELS)}"
        raise ValueError(f"models.create: {name!r} is no model; {cure}")
    if num_classes < 1 or in_channels < 1:
        raise ValueError(f"models.create: got {num_classes} classes, {in_channels} channels, expected at least 1")
    options = {option: value for option, value in options.items() if value is not None}
    takes = [p for p in inspect.signature(MODELS[name]).parameters if p not in ("num_classes", "in_channels", "seed")]
    unknown = sorted(options.keys() - set(takes))
    if unknown:
        has = ", ".join(takes) or "none"
        raise ValueError(f"models.create: {name} has no option {', '.join(unknown)}; it has {has}")
    return MODELS[name](num_classes, in_channels, **options, seed=seed)
