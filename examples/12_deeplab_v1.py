"""DeepLab v1 (Chen et al., ICLR 2015): LargeFOV on VGG16, before and after the dense CRF."""

from paper import CLASSES, beside, mean_iou, picture, train, validation

import tinyseg as ts

model = train(ts.models.LargeFOV(CLASSES, width=8), steps=150, lr=1e-3)
before, after = [], []
for sample in validation():
    p = ts.predict(model, sample.image, probabilities=True)
    before.append(p.argmax(-1))
    refined = ts.structured.dense_crf(sample.image, p, bilateral_sxy=12, bilateral_srgb=20, bilateral_weight=5)
    after.append(refined.argmax(-1))
beside(
    [
        ("DeepLab-LargeFOV, PASCAL VOC 2012 val", "62.25", f"{mean_iou(before):.1f}"),
        ("and dense CRF", "67.64", f"{mean_iou(after):.1f}"),
    ],
    [
        "an eighth of the width",
        "no pretraining on ImageNet",
        "150 steps of 8",
        "the CRF's widths are for small pictures",
    ],
)
picture("runs/12_deeplab_v1.png", after)
