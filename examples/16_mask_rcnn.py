"""Mask R-CNN learns to find objects: a class, a box and a mask each. On synthetic shapes, or on photographs.

    python examples/16_mask_rcnn.py                                    # 250 steps on shapes: AP on new ones
    python examples/16_mask_rcnn.py DIR --images 4 --steps 300         # learns four images of a COCO folder by heart

Writes runs/16_mask_rcnn.png (truth | found) and prints COCO's AP, of the loop with nothing hidden.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import tinyseg as ts
from tinyseg import report
from tinyseg.data import Compose, Loader, Normalize, RandomFlip, ResizeShortest, Shapes, open_objects, stack_objects
from tinyseg.evaluate import evaluate_objects

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class First:
    """The images of a data set that have objects worth learning by heart: the first so many of few, large ones."""

    def __init__(self, dataset, count: int):
        self.class_names, self.palette, self.num_classes = dataset.class_names, dataset.palette, dataset.num_classes
        self.samples, self.scale = [], None
        for i in range(len(dataset)):
            sample = ResizeShortest(None, 320)(dataset[i])
            objects = sample.objects
            large = (objects.areas > 32**2) & ~objects.crowd
            if 1 <= large.sum() == len(objects) <= 6:
                self.samples.append(sample)
            if len(self.samples) == count:
                break

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]

    def name(self, i):
        return self.samples[i].name


parser = argparse.ArgumentParser()
parser.add_argument("data", nargs="?")
parser.add_argument("--images", type=int, default=4)
parser.add_argument("--steps", type=int, default=250)
parser.add_argument("--width", type=int, default=16)
options = parser.parse_args()

if options.data:
    train = val = First(open_objects(options.data, "train"), options.images)
    batch, augment, anchor = min(2, len(train)), [], 32
else:
    train, val = Shapes(size=64, length=2000, seed=1), Shapes(size=64, length=40, seed=2)
    batch, augment, anchor = 8, [RandomFlip()], 16
transform = Compose([*augment, Normalize(MEAN, STD)])
loader = Loader(train, batch, seed=0, transform=transform, collate=stack_objects, drop_last=True)
model = ts.models.MaskRCNNResNet18FPN(train.num_classes, width=options.width, anchor_size=anchor)
model.info = ts.checkpoint.Info(
    list(train.class_names), np.asarray(train.palette)[: train.num_classes].tolist(), list(MEAN), list(STD)
)
optimizer = ts.optim.AdamW(model.parameters(), lr=0.002)
schedule = ts.optim.warm_up(ts.optim.cosine(options.steps), 25)
step, began = 0, time.monotonic()

while step < options.steps:
    for images in loader:
        losses = model(ts.tensor(images.images), images.sizes, images.objects)
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        ts.optim.clip_grad_norm(model.parameters(), 10.0)
        optimizer.step(schedule(step))
        step += 1
        if step % 25 == 0:
            parts = "  ".join(f"{name.removeprefix('loss_')} {value.item():.3f}" for name, value in losses.items())
            print(f"step {step}  {parts}  {time.monotonic() - began:.0f} s", flush=True)
        if step == options.steps:
            break

result = evaluate_objects(model, val, report.Progress())
print("masks: " + "  ".join(f"{name} {result['mask'][name]:.3f}" for name in ("AP", "AP50", "AP75")))
print("boxes: " + "  ".join(f"{name} {result['box'][name]:.3f}" for name in ("AP", "AP50", "AP75")))
Path("runs").mkdir(exist_ok=True)
report.object_samples("runs/16_mask_rcnn.png", result["samples"], list(train.class_names), model.info.palette)
print("runs/16_mask_rcnn.png")
