"""RefineNet (Lin et al., CVPR 2017): four cascaded blocks on a narrow ResNet-50, at one scale and at several."""

from paper import CLASSES, beside, mean_iou, picture, train, validation

import tinyseg as ts

model = train(ts.models.RefineNet50(CLASSES, width=8), steps=120, lr=1e-3)
single = [ts.predict(model, s.image) for s in validation()]
several = [ts.predict(model, s.image, scales=(0.8, 1, 1.2), flip=True) for s in validation()]
beside(
    [
        ("RefineNet-101, PASCAL VOC 2012 test, several scales", "83.4", f"{mean_iou(several):.1f}"),
        ("one scale (paper: VOC 2012 val, reproduced)", "80.5", f"{mean_iou(single):.1f}"),
    ],
    ["ResNet-50 of an eighth of the width", "no pretraining on ImageNet, so batch norm is trained", "120 steps of 8"],
)
picture("runs/10_refinenet.png", several)
