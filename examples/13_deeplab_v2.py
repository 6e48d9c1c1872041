"""DeepLab v2 (Chen et al., PAMI 2017): ASPP on VGG16; the same weights at one image size and at three."""

from paper import CLASSES, beside, mean_iou, picture, train, validation

import tinyseg as ts

model = train(ts.models.DeepLabV2VGG16(CLASSES, width=8), steps=150, lr=1e-3)
fused = ts.models.DeepLabV2VGG16(CLASSES, width=8, scales=(1.0, 0.75, 0.5))
fused.load_state_dict(model.state_dict())
one = [ts.predict(model, s.image) for s in validation()]
three = [ts.predict(fused, s.image) for s in validation()]
beside(
    [
        ("DeepLab v2, VGG16, ASPP-L, PASCAL VOC 2012 val, no CRF", "68.96", f"{mean_iou(one):.1f}"),
        ("three sizes (paper: ResNet-101, 68.72 at one)", "71.27", f"{mean_iou(three):.1f}"),
    ],
    ["an eighth of the width", "no pretraining on ImageNet", "150 steps of 8", "not trained at three sizes here"],
)
picture("runs/13_deeplab_v2.png", one)
