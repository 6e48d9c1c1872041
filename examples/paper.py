"""What the examples of papers share: a network trained for a moment on synthetic shapes, beside a row of its paper.

`python examples/06_fcn.py --steps 3` and its like train each network for at most three steps: a look at the code.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import tinyseg as ts
from tinyseg import report
from tinyseg.checkpoint import Info
from tinyseg.data import Loader, Shapes, transforms

SIZE, CLASSES = 64, 3
NAMES, PALETTE = list(Shapes(num_classes=CLASSES).class_names), np.asarray(Shapes().palette)[:CLASSES].tolist()
INFO = Info(NAMES, PALETTE, mean=[0.5] * 3, std=[0.25] * 3)
DATA = f"synthetic shapes of {SIZE}x{SIZE} pixels, {CLASSES} classes, instead of photographs"

arguments = argparse.ArgumentParser()
arguments.add_argument("--steps", type=int, default=10**6, metavar="N", help="train each network for at most N steps")
MOST_STEPS = arguments.parse_args().steps


def train(model, steps: int = 120, lr: float = 2e-3, images: int = 400, batch: int = 8):
    """AdamW, poly, cross-entropy and Dice, from random weights; auxiliary losses by the weights of the recipe."""
    steps = min(steps, MOST_STEPS)
    prepare = transforms.Compose([transforms.RandomFlip(), transforms.Normalize(INFO.mean, INFO.std)])
    data = Shapes(size=SIZE, length=images, seed=1, num_classes=CLASSES)
    loader = Loader(data, batch, seed=0, transform=prepare)
    model.info = INFO
    weights = (1.0, *model.recipe.aux_weights)
    optimizer = ts.optim.AdamW(model.parameters(), lr=lr)
    schedule = ts.optim.warm_up(ts.optim.poly(steps), 10)
    step, began = 0, time.monotonic()
    while step < steps:
        for b in loader:
            outputs = model(ts.tensor(b.images))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            loss = sum(
                (ts.losses.cross_entropy(y, b.masks) + ts.losses.dice(y, b.masks)) * weight
                for y, weight in zip(outputs, weights)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(schedule(step))
            step += 1
            if step % 50 == 0:
                print(f"step {step}  loss {loss.item():.3f}  {time.monotonic() - began:.0f} s")
            if step == steps:
                return model
    return model


def validation(count: int = 24):
    """Samples that the training has not seen."""
    data = Shapes(size=SIZE, length=count, seed=2, num_classes=CLASSES)
    return [data[i] for i in range(count)]


def mean_iou(masks) -> float:
    """In per cent, of one mask for each of `validation()`."""
    confusion = ts.metrics.ConfusionMatrix(CLASSES)
    for mask, sample in zip(masks, validation(len(masks)), strict=True):
        confusion.update(mask, sample.mask)
    return 100 * confusion.mean_iou()


def beside(rows: list[tuple[str, str, str]], differs: list[str], data: str = DATA) -> None:
    """The table: what, the paper's figure, this run's; then what differs between the two."""
    width = max(len(what) for what, _, _ in rows)
    print(f"\n{'mean IoU, %':{width}}  {'paper':>8}  {'this run':>8}")
    for what, paper, here in rows:
        print(f"{what:{width}}  {paper:>8}  {here:>8}")
    print("what differs: " + "; ".join([data, *differs]))


def picture(path: str, masks) -> None:
    """Images, truth and prediction of the first four."""
    Path(path).parent.mkdir(exist_ok=True)
    report.samples(path, [(s.image, s.mask, mask) for s, mask in zip(validation(4), masks)], NAMES, PALETTE)
    print(path)
