"""Dilated convolutions (Yu & Koltun, ICLR 2016): the front-end alone, then with the context module, which begins as
the identity, so that at first it changes next to nothing.
"""

import numpy as np
from paper import CLASSES, beside, mean_iou, picture, train, validation

import tinyseg as ts

front = train(ts.models.DilatedFrontend(CLASSES, width=4), steps=120, lr=1e-3, batch=2)
alone = [ts.predict(front, s.image) for s in validation()]
model = ts.models.Dilation8(CLASSES, width=4)
model.load_state_dict(front.state_dict(), strict=False)
first = [ts.predict(model, s.image) for s in validation(4)]
same = np.mean([(a == b).mean() for a, b in zip(alone, first)])
print(f"the new context module leaves {100 * same:.1f} % of the pixels as they were")
train(model, steps=30, lr=1e-3, batch=2)
both = [ts.predict(model, s.image) for s in validation()]
beside(
    [
        ("front-end, PASCAL VOC 2012 val (with COCO)", "69.8", f"{mean_iou(alone):.1f}"),
        ("with the basic context module", "71.3", f"{mean_iou(both):.1f}"),
    ],
    ["a sixteenth of the width", "no pretraining", "120 steps of 2 by AdamW, 30 more for both parts together"],
)
picture("runs/09_dilated.png", both)
