"""A whole training step and inference of U-Net (tinyseg/models/unet.py), the gradients, SGD with momentum and all."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from .case import LAYOUTS, Case, Result, Settings, agree, contest, from_torch, torch
from .example import CLASSES, DEPTH
from .unet_tinyseg import Training

TARGETS = {32: 0.40, 64: 0.33}


def flop(width: int, size: int, batch: int, in_channels: int = 3) -> float:
    """FLOP of the convolutions in one forward pass: 2 a multiply-add. A training step takes about three times that."""
    total, channels = 0, in_channels
    for level in range(DEPTH + 1):
        w, area = width << level, (size >> level) ** 2
        total += 9 * (channels + w) * w * area  # on the way down
        if level < DEPTH:
            total += 9 * (2 * w + w) * w * area + 2 * w * w * area  # merge, and the up-convolution before it
        channels = w
    return 2 * batch * (total + width * CLASSES * size**2)


def cases() -> Iterator[Case]:
    for width in (32, 64):
        for work in ("step", "inference"):
            name = f"unet width {width} {work} 256x256 batch 4"
            yield Case(name, partial(measure, work, width, 256, 4), TARGETS[width])
    for size in (128, 256, 512, 1024):
        yield Case(f"scaling: unet width 32 step {size}x{size} batch 1", partial(measure, "step", 32, size, 1))
    threads = 1
    while threads <= most_threads():
        yield Case(f"scaling: unet width 32 step 256x256 batch 4, {threads} threads", partial(on_threads, threads))
        threads *= 2


def measure(work: str, width: int, size: int, batch: int, settings: Settings) -> Result:
    ours = Training(width, size, batch)
    theirs = twins(settings, ours, width, size, batch) if torch else {}
    if work == "step":
        # equal losses over several steps: all gradients are equal
        losses = [ours.step() for _ in range(3)]
        for name, twin in theirs.items():
            agree(f"losses of three steps, PyTorch, {name}", losses, [twin.step() for _ in range(3)], 1e-3)
        contenders = {name: twin.step for name, twin in theirs.items()}
        return contest(settings, ours.step, contenders, 3 * flop(width, size, batch), "GFLOP/s")
    logits = ours.infer().numpy()
    for name, twin in theirs.items():
        agree(f"logits, PyTorch, {name}", logits, from_torch(twin.infer()), 1e-3)
    contenders = {name: twin.infer for name, twin in theirs.items()}
    return contest(settings, ours.infer, contenders, flop(width, size, batch), "GFLOP/s")


def twins(settings: Settings, ours: Training, width: int, size: int, batch: int) -> dict:
    from . import unet_torch

    state = ours.model.state_dict()
    result = {name: unet_torch.Training(width, size, batch, name, state) for name in LAYOUTS}
    if settings.compile:
        result["channels_last, compiled"] = unet_torch.Training(width, size, batch, LAYOUTS[1], state, compile=True)
    return result


def most_threads() -> int:
    import numba

    return numba.config.NUMBA_NUM_THREADS


def on_threads(threads: int, settings: Settings) -> Result:
    with thread_limit(threads):
        return measure("step", 32, 256, 4, settings)


@contextmanager
def thread_limit(threads: int):
    """Both libraries on so many threads."""
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    if torch:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        numba.set_num_threads(before)
        if torch:
            torch.set_num_threads(before)
