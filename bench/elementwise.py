"""The operations that memory bounds: batch norm with ReLU, pooling, resizing, the loss; forward and backward together.

The work is the least traffic that the equations allow, every array read or written once: what is kept from the forward
pass for the backward pass comes on top of it.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

import tinyseg as ts

from .case import LAYOUTS, Case, Result, Settings, agree, contest, from_torch, to_torch, torch


def cases() -> Iterator[Case]:
    for shape in ((4, 256, 256, 32), (4, 128, 128, 64), (4, 32, 32, 256)):
        yield Case(f"batch norm + ReLU {text(shape)} forward+backward", partial(batch_norm_relu, shape), 0.35)
    for shape in ((4, 256, 256, 32), (4, 128, 128, 64)):
        yield Case(f"max_pool2d 2x2 {text(shape)} forward+backward", partial(max_pool, shape), 0.5)
    yield Case("interpolate bilinear x8 4x32x32x21 forward+backward", bilinear, 0.4)
    yield Case("cross_entropy 4x256x256x21 forward+backward", cross_entropy, 0.5)


def text(shape) -> str:
    return "x".join(map(str, shape))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def both_ways(settings: Settings, x, ours: Callable, theirs: Callable, work: int, dy=None) -> Result:
    """y = ours(x) and its gradient, against theirs. `ours` and `theirs` take x; dy is the gradient of y, None for 1."""
    mine = ts.tensor(x, requires_grad=True)

    def run():
        mine.grad = None
        y = ours(mine)
        y.backward(upstream)
        return y

    upstream = None if dy is None else ts.tensor(dy)
    y, dx = run().numpy(), mine.grad.numpy()
    contenders = {}
    for name in LAYOUTS if torch else ():
        leaf = to_torch(x, name).requires_grad_()
        seed = None if dy is None else to_torch(dy, name)

        def run_torch(function=theirs, leaf=leaf, seed=seed):
            leaf.grad = None
            result = function(leaf)
            result.backward(seed)
            return result, leaf.grad

        expected, gradient = run_torch()
        agree(f"PyTorch, {name}", y, from_torch(expected), 2e-5)
        # a value at the kink of ReLU may fall on the other side
        close = np.isclose(dx, from_torch(gradient), rtol=1e-3, atol=1e-4 * np.abs(dx).max())
        agree(f"PyTorch's gradient, {name}: share of equal values", close.mean(), 1.0, 1e-5)
        contenders[name] = run_torch
        if settings.compile:
            contenders[f"{name}, compiled"] = partial(run_torch, torch.compile(theirs))
    return contest(settings, run, contenders, work, "GB/s")


def batch_norm_relu(shape, settings: Settings) -> Result:
    x, dy, C = normal(*shape), normal(*shape, seed=1), shape[-1]
    parameters = [np.linspace(0.5, 1.5, C, dtype=np.float32), np.linspace(-1, 1, C, dtype=np.float32)]
    running = [np.zeros(C, np.float32), np.ones(C, np.float32)]
    mine = [ts.tensor(a, requires_grad=True) for a in parameters]
    mine_running = [ts.tensor(a) for a in running]

    def ours(x):
        for p in mine:
            p.grad = None
        return ts.ops.batch_norm_relu(x, *mine_running, *mine, True)

    if torch:
        theirs_parameters = [torch.tensor(a, requires_grad=True) for a in parameters]
        theirs_running = [torch.tensor(a) for a in running]

    def theirs(x):
        return torch.relu(torch.nn.functional.batch_norm(x, *theirs_running, *theirs_parameters, training=True))

    return both_ways(settings, x, ours, theirs, 5 * x.nbytes, dy)  # x -> y; x, dy -> dx


def max_pool(shape, settings: Settings) -> Result:
    n, h, w, c = shape
    x, dy = normal(*shape), normal(n, h // 2, w // 2, c, seed=1)
    work = 2 * x.nbytes + 2 * dy.nbytes  # x -> y; dy -> dx
    return both_ways(
        settings, x, lambda x: ts.ops.max_pool2d(x, 2), lambda x: torch.nn.functional.max_pool2d(x, 2), work, dy
    )


def bilinear(settings: Settings) -> Result:
    x, dy, size = normal(4, 32, 32, 21), normal(4, 256, 256, 21, seed=1), (256, 256)
    work = 2 * x.nbytes + 2 * dy.nbytes

    def theirs(x):
        return torch.nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)

    return both_ways(settings, x, lambda x: ts.ops.interpolate(x, size=size), theirs, work, dy)


def cross_entropy(settings: Settings) -> Result:
    x = normal(4, 256, 256, 21)
    target = np.random.default_rng(1).integers(0, 21, x.shape[:3]).astype(np.int32)
    target[:, :16] = 255
    long = torch and torch.tensor(target, dtype=torch.long)
    work = 2 * x.nbytes + 2 * target.nbytes  # x, target -> loss, and dx

    def theirs(x):
        return torch.nn.functional.cross_entropy(x, long, ignore_index=255)

    return both_ways(settings, x, lambda x: ts.ops.cross_entropy(x, target), theirs, work)
