"""DeepLab v3 (Chen et al., 2017): trained at output stride 16, evaluated with the same weights at 16 and at 8."""

from paper import CLASSES, beside, mean_iou, picture, train, validation

import tinyseg as ts

model = train(ts.models.DeepLabV3PaperResNet50(CLASSES, width=8))
finer = ts.models.DeepLabV3PaperResNet50(CLASSES, width=8, output_stride=8)
finer.load_state_dict(model.state_dict())
at16 = [ts.predict(model, s.image) for s in validation()]
at8 = [ts.predict(finer, s.image) for s in validation()]
beside(
    [
        ("DeepLab v3, ResNet-101, PASCAL VOC 2012 val, output stride 16", "77.21", f"{mean_iou(at16):.1f}"),
        ("the same weights at output stride 8", "78.51", f"{mean_iou(at8):.1f}"),
    ],
    ["ResNet-50 of an eighth of the width", "no pretraining on ImageNet", "120 steps of 8"],
)
picture("runs/14_deeplab_v3.png", at16)
