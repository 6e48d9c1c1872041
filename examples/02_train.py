"""Train a small U-Net on synthetic shapes: the whole loop, with nothing hidden.

`tinyseg train` is this loop with a run folder around it.
"""

import time
from pathlib import Path

import numpy as np

import tinyseg as ts
from tinyseg import report
from tinyseg.data import Loader, Shapes, transforms

train, val = Shapes(size=64, length=400, seed=1), Shapes(size=64, length=40, seed=2)
loader = Loader(train, batch_size=8, seed=0, transform=transforms.RandomFlip())
model = ts.models.UNet(num_classes=train.num_classes, width=16)
optimizer = ts.optim.AdamW(model.parameters(), lr=5e-3)
epochs = 4
schedule = ts.optim.warm_up(ts.optim.poly(epochs * len(loader)), 20)
step, began = 0, time.monotonic()

for epoch in range(epochs):
    for batch in loader:
        loss = ts.losses.cross_entropy(model(ts.tensor(batch.images)), batch.masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(schedule(step))
        step += 1
    print(f"epoch {epoch + 1}  loss {loss.item():.3f}  {time.monotonic() - began:.0f} s")

confusion = ts.metrics.ConfusionMatrix(train.num_classes)
rows = []
for i in range(len(val)):
    sample = val[i]
    mask = ts.predict(model, sample.image)
    confusion.update(mask, sample.mask)
    rows.append((sample.image, sample.mask, mask))
print(f"mean IoU {confusion.mean_iou():.3f} on images that it has not seen")

Path("runs").mkdir(exist_ok=True)
names, palette = list(train.class_names), np.asarray(train.palette)[: train.num_classes]
ts.save("runs/02_model.npz", model, class_names=names, palette=palette)
report.samples("runs/02_samples.png", rows[:4], names, palette)
print("runs/02_model.npz, runs/02_samples.png")
