"""Bayesian SegNet (Kendall, Badrinarayanan & Cipolla, BMVC 2017): dropout kept on; its spread shows where to doubt.

What is predicted is the mean over 12 samples; the uncertainty is their variance, and is larger where they are wrong.
"""

import numpy as np
from paper import CLASSES, INFO, beside, mean_iou, train, validation

import tinyseg as ts
from tinyseg.data import overlay, write_image
from tinyseg.data.image import palette_of

model = train(ts.models.SegNetBayesian(CLASSES, width=8), steps=160, lr=4e-3)
plain, sampled, doubt_right, doubt_wrong, tiles = [], [], [], [], []
palette = palette_of(np.asarray(INFO.palette))
for sample in validation():
    x = ts.tensor(((sample.image[None] / 255 - INFO.mean) / INFO.std).astype(np.float32))
    mean, uncertain = model.uncertainty(x, samples=12, seed=0)
    mask = mean[0].argmax(-1).astype(np.int32)
    plain.append(model.eval()(x).numpy()[0].argmax(-1).astype(np.int32))
    sampled.append(mask)
    wrong = mask != sample.mask
    doubt_right.append(uncertain[0][~wrong].mean())
    doubt_wrong.append(uncertain[0][wrong].mean() if wrong.any() else np.nan)
    grey = np.repeat((255 * uncertain[0] / uncertain.max()).astype(np.uint8)[..., None], 3, -1)
    tiles.append(np.hstack([sample.image, overlay(sample.image, mask, palette), grey]))

print(f"variance where right {np.mean(doubt_right):.4f}, where wrong {np.nanmean(doubt_wrong):.4f}")
beside(
    [
        ("SegNet, dropout off (CamVid test)", "60.1", f"{mean_iou(plain):.1f}"),
        ("Bayesian SegNet, mean of samples (CamVid test)", "63.1", f"{mean_iou(sampled):.1f}"),
    ],
    ["an eighth of the width", "no pretraining", "160 steps of 8 by AdamW", "12 samples"],
)
write_image("runs/08_uncertainty.png", np.vstack(tiles[:4]))
print("runs/08_uncertainty.png: image, prediction, uncertainty")
