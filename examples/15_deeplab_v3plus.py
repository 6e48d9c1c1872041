"""DeepLab v3+ (Chen et al., ECCV 2018): v3's map and an early one through a decoder; at the borders and everywhere."""

from paper import CLASSES, beside, mean_iou, picture, train, validation

import tinyseg as ts

masks = {}
for name in ("deeplabv3_resnet50_paper", "deeplabv3plus_resnet50"):
    print(name)
    model = train(ts.models.create(name, CLASSES, width=8), steps=100)
    masks[name] = [ts.predict(model, s.image) for s in validation()]
without, decoder = masks.values()
beside(
    [
        ("DeepLab v3, ResNet-101, PASCAL VOC 2012 val, output stride 16", "77.21", f"{mean_iou(without):.1f}"),
        ("v3+: and the decoder", "78.85", f"{mean_iou(decoder):.1f}"),
    ],
    ["ResNet-50 of an eighth of the width", "no pretraining on ImageNet", "100 steps of 8"],
)
picture("runs/15_deeplab_v3plus.png", decoder)
