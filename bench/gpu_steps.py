"""Whole training and inference steps on a GPU in float32 (tf32), mixed precision, and as a graph, beside PyTorch's.

Rates are those of the convolutions' multiply-adds by their definition, three times those of a forward pass for a
training step; the share is of the GPU's own float16 product. PyTorch: channels last, cudnn.benchmark, autocast with a
GradScaler, eager or, with --compile, compiled. Memory is what either library's pool has taken after a step; a graph has
a pool of its own, so its rows have none. Dropout cannot be captured: models with it have no training step as a graph.
Mask R-CNN, whose work depends on what it finds, has no rate, no graph and is not compiled.
"""

import gc
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial

import numpy as np

import tinyseg as ts
from tinyseg.data import Objects
from tinyseg.estimate import estimate

from .case import torch
from .mask_rcnn import scene

CLASSES = 21
MODELS = {"unet": dict(width=64), "deeplabv3_resnet50": {}, "pspnet50": {}}


def steps(device, small: bool, compiled: bool, torch_cuda) -> Iterator[tuple[str, Callable, float]]:
    """Rows: a name, what makes (what one call of ours does, and of PyTorch's or None), and FLOP (0: unknown).

    Models are made when a row is: those of the row before are gone by then.
    """
    size, batch = (16, 2) if small else (512, 4)
    for name in list(MODELS)[: 1 if small else None]:
        options = dict(width=4) if small else MODELS[name]
        forward = 2 * estimate(partial(ts.models.create, name, CLASSES, **options), (size, size), batch).multiply_adds
        for mode in ("float32", "autocast", "autocast, graph"):
            half, graph = mode.startswith("autocast"), mode.endswith("graph")
            ours = partial(Ours, device, name, options, size, batch, half, graph)
            theirs = torch_cuda and partial(Theirs, torch_cuda, name, options, size, batch, half, compiled)
            title = f"{name} {batch}x{size}x{size} {mode}"
            if name == "unet" or not graph:
                yield f"{title} training step", partial(_pair, ours, theirs, "train"), 3 * forward
            yield f"{title} inference", partial(_pair, ours, theirs, "predict"), forward
    name, options, size = (
        ("mask_rcnn_resnet18_fpn", dict(width=4), 64) if small else ("mask_rcnn_resnet50_fpn", {}, 512)
    )
    for half in (False, True):
        ours = partial(OurObjects, device, name, options, size, half)
        theirs = torch_cuda and not compiled and partial(TheirObjects, torch_cuda, size, half)
        title = f"{name} 1x{size}x{size} {'autocast' if half else 'float32'}"
        yield f"{title} training step", partial(_pair, ours, theirs, "train"), 0
        yield f"{title} inference", partial(_pair, ours, theirs, "predict"), 0


def _pair(ours, theirs, what: str):
    gc.collect()  # models of the row before, which hold on to themselves
    try:
        peer = theirs() if theirs else None
    except ImportError:
        if importlib.util.find_spec("torchvision") is not None:
            raise
        peer = None
    return getattr(ours(), what), getattr(peer, what, None)


def example(size: int, batch: int):
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, size, size, 3), np.float32), rng.integers(0, CLASSES, (batch, size, size))


class Ours:
    """A model and its optimiser on the device."""

    def __init__(self, device, name, options, size, batch, half, graphs):
        self.model = ts.models.create(name, num_classes=CLASSES, seed=0, **options).to(device)
        self.optimizer = ts.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.scaler = ts.amp.LossScaler() if half else None
        images, masks = example(size, batch)
        self.images, self.masks = ts.tensor(images, device), ts.tensor(masks.astype(np.int32), device)
        self.graphs = graphs
        self.forward_backward = self._forward_backward
        self.forward = self._forward

    def _loss(self, images, masks):
        logits = self.model(images)
        several = logits if isinstance(logits, tuple) else (logits,)
        return sum(ts.ops.cross_entropy(y, masks) for y in several)

    def _context(self):
        return ts.autocast() if self.scaler else nullcontext()

    def _forward_backward(self, images, masks):
        self.optimizer.zero_grad()
        with self._context():
            loss = self._loss(images, masks)
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


class OurObjects(Ours):
    """Mask R-CNN on one image with eight objects: `masks` are these."""

    def __init__(self, device, name, options, size, half):
        super().__init__(device, name, options, size, 1, half, False)
        image, _, labels, masks = scene(size)
        self.optimizer = ts.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        self.images, self.masks = ts.tensor(image[None], device), [Objects.of((size, size), labels, masks)]

    def _loss(self, images, masks):
        return sum(self.model(images, None, masks).values())


class Theirs:
    """The same in PyTorch: U-Net's twin, and those of bench/twins.py."""

    def __init__(self, torch_cuda, name, options, size, batch, half, compiled):
        from .twins import twin

        self._make(torch_cuda, twin(name, CLASSES, width=options.get("width", 64)), 0.01, half)
        self.run = torch.compile(self.model) if compiled else self.model
        images, masks = example(size, batch)
        images = torch.tensor(images.transpose(0, 3, 1, 2), device="cuda")
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.masks = torch.tensor(masks, device="cuda")

    def _make(self, torch_cuda, model, lr, half):
        if model is None:
            raise ImportError("torchvision is not installed")
        torch_cuda.backends.cudnn.benchmark = torch_cuda.backends.cudnn.allow_tf32 = True
        self.model = model.to("cuda", memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9, fused=True)
        self.scaler, self.half = torch.amp.GradScaler("cuda", enabled=half), half

    def _loss(self):
        logits = self.run(self.images)
        several = logits if isinstance(logits, tuple) else (logits,)
        return sum(torch.nn.functional.cross_entropy(y, self.masks) for y in several)

    def train(self):
        self.model.train()
        with torch.autocast("cuda", enabled=self.half):
            loss = self._loss()
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def predict(self):
        self.model.eval()
        with torch.no_grad(), torch.autocast("cuda", enabled=self.half):
            self.run(self.images)


class TheirObjects(Theirs):
    """torchvision's Mask R-CNN with a ResNet-50."""

    def __init__(self, torch_cuda, size, half):
        from torchvision.models.detection import MaskRCNN
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=5)
        sizes = dict(min_size=size, max_size=size, image_mean=[0] * 3, image_std=[1] * 3)
        self._make(torch_cuda, MaskRCNN(backbone, CLASSES, **sizes), 1e-4, half)
        image, *objects = (torch.tensor(array, device="cuda") for array in scene(size))
        self.images, self.objects = [image.permute(2, 0, 1)], [dict(zip(("boxes", "labels", "masks"), objects))]
        self.run = self.model

    def _loss(self):
        return sum(self.model(self.images, self.objects).values())


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
