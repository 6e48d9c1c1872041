"""Segment an image of any size with the model of 02_train.py: at once, in tiles, averaged over mirror and scales."""

import runpy
from pathlib import Path

import numpy as np

import tinyseg as ts
from tinyseg.data.image import overlay, palette_of, write_image

if not Path("runs/02_model.npz").exists():
    runpy.run_path(str(Path(__file__).with_name("02_train.py")))

model = ts.load("runs/02_model.npz")
scene = np.hstack(
    [np.vstack([ts.data.Shapes(size=64, seed=5)[3 * row + i].image for i in range(3)]) for row in range(5)]
)
image = scene[:181, :299]  # odd on purpose

whole = ts.predict(model, image)
tiles = ts.predict(model, image, tile=128)
better = ts.predict(model, image, flip=True, scales=(0.9, 1.0, 1.1))
print(f"an image of {image.shape[1]}x{image.shape[0]}, a mask of {whole.shape[1]}x{whole.shape[0]}")
print(f"tiles and whole agree on {100 * (tiles == whole).mean():.2f} % of the pixels")
print(f"mirror and scales change {100 * (better != whole).mean():.2f} %")

p = ts.predict(model, image, probabilities=True)
print(f"mean confidence {p.max(-1).mean():.3f}")
write_image("runs/03_overlay.png", overlay(image, better, palette_of(np.asarray(model.info.palette))))
print("runs/03_overlay.png")
