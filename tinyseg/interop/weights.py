"""PyTorch's names and layouts <-> ours.

    convolution              (K,C,R,S)      <->  (R,S,C,K)
    transposed convolution   (C,K,R,S)      <->  (R,S,K,C)      the same turn
    linear                   (out,in)       <->  (in,out)
    linear behind a flattened map: PyTorch flattens (C,H,W), we (H,W,C)

Our layers have torchvision's names (VGG16, ResNet, FCN-ResNet, DeepLab v3, Mask R-CNN), so that most states fit as they
are. Where they do not, a state is tried as that of a backbone ("conv1.weight" -> "backbone.conv1.weight"), and VGG16's
fully connected layers as the convolutions of FCN ("classifier.0" -> "fc.0"): what fits most entries is taken.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..models.vgg import surgery
from ..nn import Module
from .files import read


def load_torch(model: Module, state: Mapping | str | Path, strict: bool = False) -> list[str]:
    """Give a model the weights of a PyTorch one; returns a line for each entry that was not loaded.

    state: a file (see `read`) or a mapping of names to arrays or CPU tensors, as of `state_dict()`. With another number
    of classes all but the last layers are loaded. strict=True: everything must fit.

    A model may have an attribute `flattened`, {"name.weight": (C, H, W)}: its linear layers that take a flattened map.
    Raises ValueError if nothing fits, with strict=True if anything does not; FileError for a file that cannot be read.

    Example:
        model = ts.models.create("deeplabv3_resnet50", num_classes=11)
        print(*ts.interop.load_torch(model, "deeplabv3_resnet50_coco.pth"), sep="\\n")
    """
    given = read(state) if isinstance(state, str | Path) else state
    theirs = {
        name.removeprefix("module."): _host(value)
        for name, value in given.items()
        if not name.endswith("num_batches_tracked")
    }
    own = {name: t.shape for name, t in (*model.named_parameters(), *model.named_buffers())}
    renamings = (
        theirs,
        {f"backbone.{name}": value for name, value in theirs.items()},
        {name.removeprefix("backbone."): value for name, value in theirs.items()},
        surgery(theirs),
    )
    flattened = getattr(model, "flattened", {})
    candidates = [
        {name: _ours(value, own[name], flattened.get(name)) if name in own else value for name, value in named.items()}
        for named in renamings
    ]
    best = max(candidates, key=lambda named: sum(value.shape == own.get(name) for name, value in named.items()))
    if not any(value.shape == own.get(name) for name, value in best.items()):
        raise ValueError(
            f"load_torch: not one of {len(theirs)} entries ({', '.join(list(theirs)[:3])}, ...) fits "
            f"{type(model).__name__} ({', '.join(list(own)[:3])}, ...); cure: weights of the same network"
        )
    return model.load_state_dict(best, strict=strict)


def to_torch(model: Module) -> dict[str, np.ndarray]:
    """The state of a model in PyTorch's names and layouts, for a model of torchvision's or a file.

    Example:
        state = {name: torch.from_numpy(a) for name, a in ts.interop.to_torch(model).items()}
        theirs.load_state_dict(state, strict=False)     # what is missing counts batches, and is of no use
    """
    flattened = getattr(model, "flattened", {})
    return {name: _theirs(value, flattened.get(name)) for name, value in model.state_dict().items()}


def _ours(value: np.ndarray, shape: tuple[int, ...], flattened: tuple[int, int, int] | None) -> np.ndarray:
    """An array of PyTorch in our layout, for a parameter of this shape."""
    if value.ndim == 2 and len(shape) == 4:  # a linear layer that is a convolution here
        r, s, c, k = shape
        if value.shape == (k, c * r * s):
            value = value.reshape(k, c, r, s)
    if value.ndim == 2 and flattened:
        c, h, w = flattened
        if value.shape[1] == c * h * w:
            return value.reshape(-1, c, h, w).transpose(2, 3, 1, 0).reshape(h * w * c, -1)
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def _theirs(value: np.ndarray, flattened: tuple[int, int, int] | None) -> np.ndarray:
    if flattened:
        c, h, w = flattened
        value = value.reshape(h, w, c, -1).transpose(3, 2, 0, 1).reshape(-1, c * h * w)
    elif value.ndim == 4:
        value = value.transpose(3, 2, 0, 1)
    else:
        value = value.T
    return np.ascontiguousarray(value)


def _host(value) -> np.ndarray:
    return np.asarray(value.detach() if hasattr(value, "detach") else value)
