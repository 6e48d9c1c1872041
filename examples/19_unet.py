"""U-Net (Ronneberger, Fischer & Brox, MICCAI 2015): valid convolutions see a mirrored border, objects that nearly touch
are kept apart by a map of weights, and few images go far by elastic deformation.

To the letter: `unet_paper`, tiles of 284 pixels with logits for the 100 in the middle, momentum 0.99, one tile a step.
"""

import numpy as np
from paper import MOST_STEPS, NAMES, PALETTE, beside

import tinyseg as ts
from tinyseg import report
from tinyseg.checkpoint import Info
from tinyseg.data import Shapes, transforms
from tinyseg.train.semantic import border_weights

SIDE, STEPS = 100, min(600, MOST_STEPS)
train, val = (Shapes(size=SIDE, length=n, seed=seed, num_classes=2) for n, seed in ((30, 1), (20, 2)))
model = ts.models.UNetPaper(num_classes=2, width=8)
model.info = Info(NAMES[:2], PALETTE[:2], mean=[0.5] * 3, std=[0.25] * 3)
deform, normalize = transforms.ElasticDeformation(), transforms.Normalize([0.5] * 3, [0.25] * 3)
prepare = transforms.Compose([transforms.RandomFlip(), deform, border_weights, normalize])
optimizer = ts.optim.SGD(model.parameters(), lr=1e-3, momentum=0.99)
schedule = ts.optim.warm_up(ts.optim.poly(STEPS), 20)
rng = np.random.default_rng(0)
around = (model.margin, model.valid_size(SIDE + 2 * model.margin) - SIDE - model.margin)

for step in range(STEPS):
    sample = prepare(train[int(rng.integers(len(train)))], rng)
    tile = np.pad(sample.image, [around, around, (0, 0)], mode="reflect")[None]
    logits = ts.ops.crop(model(ts.tensor(tile)), 0, 0, SIDE, SIDE)
    loss = ts.losses.cross_entropy(logits, sample.mask[None], pixel_weight=sample.weights[None])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step(schedule(step))
    if step % 100 == 99:
        print(f"step {step + 1}  loss {loss.item():.3f}")

confusion, rows = ts.metrics.ConfusionMatrix(2), []
for sample in (val[i] for i in range(len(val))):
    rows.append((sample.image, sample.mask, ts.predict(model, sample.image)))
    confusion.update(rows[-1][2], sample.mask)
iou = f"{100 * confusion.iou()[1]:.1f}"
beside(
    [("PhC-U373, IoU of cells", "92.0", iou), ("DIC-HeLa, IoU of cells", "77.6", iou)],
    ["an eighth of the width", f"{STEPS} steps of one tile"],
    data="30 images of synthetic shapes of 100x100 pixels, objects against background, instead of micrographs",
)
report.samples("runs/19_unet.png", rows[:4], NAMES[:2], PALETTE[:2])
print("runs/19_unet.png")
