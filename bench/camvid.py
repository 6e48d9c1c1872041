"""One model on CamVid from scratch, in a process of its own: what a fixed, small number of steps teaches it.

    python -m bench.camvid DIR NAME [--steps 300] [--width W]

Whole images at a quarter of their size (90 x 120), batches of 4, flips, AdamW at a rate of 1e-3 that warms up over 20
steps and falls as poly, gradients clipped at a norm of 1, cross-entropy with auxiliary losses as the recipe says. W: a
quarter of the model's own width; an eighth for the networks on VGG16 that pad the image by 100 or 186 pixels, of which
a step works through 9 or 21 times the image. Prints a line of JSON: mean IoU and pixel accuracy on the validation
images (at the same size), the mean loss of the last 20 steps, and seconds.
"""

import argparse
import json
import sys
import time

import numpy as np

import tinyseg as ts
from tinyseg.checkpoint import Info
from tinyseg.data import Loader, transforms
from tinyseg.models.fcn import FCN

from .model_side import own_width, several

MEAN, STD = (0.41, 0.42, 0.43), (0.30, 0.31, 0.30)  # of CamVid's training images
SCALE, BATCH, LR = 0.25, 4, 1e-3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.camvid", description=__doc__.split("\n")[0])
    parser.add_argument("data", metavar="DIR", help="CamVid, as of the SegNet tutorial")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--width", type=int, help="(a quarter of the model's own)")
    options = parser.parse_args()
    width = options.width or width_of(options.name)
    began = time.monotonic()
    train, val = (ts.data.open(options.data, split=split, scale=SCALE) for split in ("train", "val"))
    model = ts.models.create(options.name, train.num_classes, width=width, seed=0)
    model.info = Info(list(train.class_names), np.asarray(train.palette)[: train.num_classes].tolist(), MEAN, STD)
    losses = learn(model, train, options.steps)
    learned = time.monotonic() - began
    confusion = ts.metrics.ConfusionMatrix(train.num_classes)
    for i in range(len(val)):
        sample = val[i]
        confusion.update(ts.predict(model, sample.image), sample.mask)
    result = {"mean_iou": float(confusion.mean_iou()), "pixel_accuracy": float(confusion.pixel_accuracy())}
    result |= {"loss": float(np.mean(losses[-20:])), "steps": options.steps, "width": width}
    result |= {"seconds": round(learned, 1), "validation": round(time.monotonic() - began - learned, 1)}
    print(json.dumps(result))
    return 0


def width_of(name: str) -> int:
    """A quarter or an eighth of the model's own width, see the head of the file."""
    pads_much = issubclass(ts.models.MODELS[name], FCN | ts.models.DilatedFrontend)
    return own_width(name) // (8 if pads_much else 4)


def learn(model, train, steps: int) -> list[float]:
    """Train for so many steps; the losses."""
    prepare = transforms.Compose([transforms.RandomFlip(), transforms.Normalize(MEAN, STD)])
    loader = Loader(train, BATCH, seed=0, transform=prepare, drop_last=True)
    weights = (1.0, *model.recipe.aux_weights)
    optimizer = ts.optim.AdamW(model.parameters(), lr=LR)
    schedule = ts.optim.warm_up(ts.optim.poly(steps), 20)
    losses, epoch = [], 0
    while len(losses) < steps:
        for batch in loader.batches(epoch):
            y = several(model(ts.tensor(mirrored(model, batch.images))))
            loss = sum(
                ts.losses.cross_entropy(ts.ops.crop(logits, 0, 0, *batch.masks.shape[1:3]), batch.masks) * weight
                for logits, weight in zip(y, weights)
            )
            optimizer.zero_grad()
            loss.backward()
            ts.optim.clip_grad_norm(model.parameters(), 1.0)
            optimizer.step(schedule(len(losses)))
            losses.append(loss.item())
            if len(losses) == steps:
                break
        epoch += 1
    return losses


def mirrored(model, images: np.ndarray) -> np.ndarray:
    """Images as a model of valid convolutions takes them: its margin mirrored around them, up to a size it takes."""
    margin = getattr(model, "margin", 0)
    if not margin:
        return images
    widths = [(margin, model.valid_size(n + 2 * margin) - n - margin) for n in images.shape[1:3]]
    return np.pad(images, [(0, 0), *widths, (0, 0)], mode="reflect")


if __name__ == "__main__":
    sys.exit(main())
