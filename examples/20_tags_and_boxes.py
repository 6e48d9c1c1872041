"""Weak labels beside the rows of their papers: image tags (CCNN, Pathak et al., ICCV 2015; EM-Adapt) and boxes
(Bbox-Rect, Bbox-Seg; both Papandreou et al., ICCV 2015), against full masks. One network, one number of steps.

The papers began with networks that knew ImageNet's classes. Ours know nothing: from tags they first learn which classes
an image shows (`losses.cam`), half of the steps, and then where.
"""

import numpy as np
from paper import CLASSES, INFO, MOST_STEPS, beside, mean_iou, picture, validation

import tinyseg as ts
from tinyseg.data import Shapes, weaken

STEPS, BATCH = min(400, MOST_STEPS), 8
shapes = Shapes(size=64, length=400, seed=1, num_classes=CLASSES)
samples = [shapes[i] for i in range(len(shapes))]
images = np.stack([(s.image / 255 - INFO.mean) / INFO.std for s in samples]).astype(np.float32)
masks = np.stack([s.mask for s in samples])
tags = np.stack([weaken.tags(s.mask, CLASSES) for s in samples])
boxes = [weaken.boxes(s.mask, s.instances) for s in samples]


def from_masks(logits, at, step):
    return ts.losses.cross_entropy(logits, masks[at])


def ccnn(logits, at, step):
    if step < STEPS // 2:
        return ts.losses.cam(logits, tags[at])
    return ts.losses.ccnn(logits, tags[at], large=tags[at], pool=4)


def em_adapt(logits, at, step):
    return ts.losses.cam(logits, tags[at]) if step < STEPS // 2 else ts.losses.em_adapt(logits, tags[at], seed=step)


def bbox_rect(logits, at, step):
    return ts.losses.bbox_rect(logits, [boxes[i] for i in at])


def bbox_seg(logits, at, step):
    labels = [ts.losses.segment_boxes(samples[i].image, boxes[i], CLASSES) for i in at]
    return ts.losses.cross_entropy(logits, np.stack(labels))


PLAN = (
    ("masks", "67.6", from_masks),
    ("tags, CCNN; in the paper it is told which classes are large", "42.4", ccnn),
    ("tags, EM-Adapt", "38.2", em_adapt),
    ("boxes, Bbox-Rect", "52.5", bbox_rect),
    ("boxes, Bbox-Seg", "60.6", bbox_seg),
)
rows = []
for name, figure, loss_of in PLAN:
    model, rng = ts.models.UNet(CLASSES, width=8), np.random.default_rng(0)
    model.info = INFO
    optimizer, schedule = ts.optim.AdamW(model.parameters(), lr=5e-3), ts.optim.warm_up(ts.optim.poly(STEPS), 20)
    for step in range(STEPS):
        at = rng.choice(len(images), BATCH, replace=False)
        loss = loss_of(model(ts.tensor(images[at])), at, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(schedule(step))
    found = [ts.predict(model, s.image) for s in validation()]
    rows.append((name, figure, f"{mean_iou(found):.1f}"))
    print(*rows[-1])
    picture(f"runs/20_{loss_of.__name__}.png", found)

beside(rows, [f"a U-Net of width 8, {STEPS} steps of {BATCH}", "no pretraining", "PASCAL VOC 2012 val in the papers"])
