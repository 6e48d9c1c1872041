"""FCN (Long, Shelhamer & Darrell, CVPR 2015): 32s, then 16s, then 8s, each beginning with the weights of the last.

At a stride of 32 pixels outlines are lost; the scores of pool4 and pool3 bring them back.
"""

from paper import CLASSES, beside, mean_iou, picture, train, validation

import tinyseg as ts

PLAN = (("fcn32s", "59.4", 150), ("fcn16s", "62.4", 50), ("fcn8s", "62.7", 50))
rows, state = [], {}
for name, figure, steps in PLAN:
    model = ts.models.create(name, CLASSES, width=8)
    model.load_state_dict(state, strict=False)  # new score layers are zero: it begins where the last one stood
    for module in model.modules():
        if isinstance(module, ts.nn.Dropout):
            module.p = 0.1
    train(model, steps, lr=1e-3, batch=4)
    state = model.state_dict()
    masks = [ts.predict(model, s.image) for s in validation()]
    rows.append((f"{name}, PASCAL VOC 2011, subset of val", figure, f"{mean_iou(masks):.1f}"))
    picture(f"runs/06_{name}.png", masks)

beside(rows, ["an eighth of the width", "no pretraining on ImageNet", "250 steps of 4 by AdamW, dropout 0.1"])
