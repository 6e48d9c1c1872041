"""Whole training and inference steps on a GPU in float32 (tf32), mixed precision, and as a graph, beside PyTorch's.

Rates are those of the convolutions' multiply-adds by their definition, three times those of a forward pass for a
training step; the share is of the GPU's own float16 product. PyTorch: channels last, cudnn.benchmark, autocast with a
GradScaler, eager or, with --compile, compiled. Memory is what either library's pool has taken after a step; a graph has
a pool of its own, so its rows have none.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import numpy as np

import tinyseg as ts
from tinyseg.estimate import estimate

from .case import torch

CLASSES = 21
MODELS = {"unet": dict(width=64), "deeplabv3_resnet50": {}, "pspnet50": {}}


class Step(NamedTuple):
    """One row: what one call of ours and of PyTorch's does, and its FLOP."""

    name: str
    ours: Callable
    theirs: Callable | None
    flop: float


def steps(device, small: bool, compiled: bool, torch_cuda) -> Iterator[Step]:
    """The rows, each with a model of its own."""
    size, batch = (16, 2) if small else (512, 4)
    for name, options in MODELS.items():
        if small and name != "unet":
            continue
        options = dict(width=4) if small else options
        forward = 2 * estimate(partial(ts.models.create, name, CLASSES, **options), (size, size), batch).multiply_adds
        for mode in ("float32", "autocast", "autocast, graph"):
            title = f"{name} {batch}x{size}x{size} {mode}"
            ours = Ours(device, name, options, size, batch, mode)
            half = mode.startswith("autocast")
            theirs = Theirs(torch_cuda, name, options, size, batch, half, compiled) if torch_cuda else None
            yield Step(f"{title} training step", ours.train, theirs and theirs.train, 3 * forward)
            yield Step(f"{title} inference", ours.predict, theirs and theirs.predict, forward)


def example(size: int, batch: int):
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, size, size, 3), np.float32), rng.integers(0, CLASSES, (batch, size, size))


class Ours:
    """A model and its optimiser on the device."""

    def __init__(self, device, name, options, size, batch, mode):
        self.model = ts.models.create(name, num_classes=CLASSES, seed=0, **options).to(device)
        self.optimizer = ts.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.scaler = ts.amp.LossScaler() if mode.startswith("autocast") else None
        images, masks = example(size, batch)
        self.images, self.masks = ts.tensor(images, device), ts.tensor(masks.astype(np.int32), device)
        self.graphs = mode.endswith("graph")
        self.forward_backward = self._forward_backward
        self.forward = self._forward

    def _context(self):
        return ts.autocast() if self.scaler else nullcontext()

    def _forward_backward(self, images, masks):
        self.optimizer.zero_grad()
        with self._context():
            logits = self.model(images)
            several = logits if isinstance(logits, tuple) else (logits,)
            loss = sum(ts.ops.cross_entropy(y, masks) for y in several)
        (self.scaler.scale(loss) if self.scaler else loss).backward()
        return loss

    def _forward(self, images):
        with ts.no_grad(), self._context():
            return self.model(images)

    def train(self):
        self.model.train()
        if self.graphs and self.forward_backward == self._forward_backward:
            self.forward_backward = ts.graph(self._forward_backward, self.images, self.masks)
        self.forward_backward(self.images, self.masks)
        if self.scaler:
            self.scaler.step(self.optimizer)
        else:
            self.optimizer.step()

    def predict(self):
        self.model.eval()
        if self.graphs and self.forward == self._forward:
            self.forward = ts.graph(self._forward, self.images)
        self.forward(self.images)


class Theirs:
    """The same in PyTorch: U-Net's twin, and those of bench/twins.py."""

    def __init__(self, torch_cuda, name, options, size, batch, half, compiled):
        from .twins import twin
        from .unet_torch import UNet

        torch_cuda.backends.cudnn.benchmark = torch_cuda.backends.cudnn.allow_tf32 = True
        width = options.get("width", 64)
        model = UNet(CLASSES, width, 4) if name == "unet" else twin(name, CLASSES, width=width)
        self.model = model.to("cuda", memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, fused=True)
        self.scaler = torch.amp.GradScaler("cuda", enabled=half)
        self.run = torch.compile(self.model) if compiled else self.model
        self.half = half
        images, masks = example(size, batch)
        images = torch.tensor(images.transpose(0, 3, 1, 2), device="cuda")
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.masks = torch.tensor(masks, device="cuda")

    def train(self):
        self.model.train()
        with torch.autocast("cuda", enabled=self.half):
            logits = self.run(self.images)
            several = logits if isinstance(logits, tuple) else (logits,)
            loss = sum(torch.nn.functional.cross_entropy(y, self.masks) for y in several)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def predict(self):
        self.model.eval()
        with torch.no_grad(), torch.autocast("cuda", enabled=self.half):
            self.run(self.images)


def pool_bytes(call: Callable, device, torch_cuda=None) -> int:
    """What a library's pool has taken from the GPU by the end of a call, if it was empty of unused blocks before."""
    gc.collect()  # models of earlier rows, which hold functions that hold them
    if torch_cuda:
        torch_cuda.cuda.empty_cache()
        call()
        torch_cuda.cuda.synchronize()
        return torch_cuda.cuda.memory_reserved()
    if not hasattr(device.xp, "get_default_memory_pool"):
        return 0
    pool = device.xp.get_default_memory_pool()
    pool.free_all_blocks()
    call()
    return pool.total_bytes()
