"""FCN on ResNet: a dilated backbone, a 3x3 convolution, scores, and one enlargement back to the image.

The fully convolutional network of Long, Shelhamer & Darrell (CVPR 2015) as torchvision builds it today: output stride
8, no skip connections, an auxiliary head on the third stage. Names of layers are torchvision's.
"""

from ..tensor import Tensor
from .parts import Auxiliary, fcn_head
from .recipe import Recipe
from .resnet import ResNet


class FCNResNet50(Auxiliary):
    """FCN on ResNet-50, torchvision's fcn_resnet50: output stride 8, auxiliary head on stage 3.

    35,322,218 parameters with 21 classes, 32,957,013 without aux. With `aux` (the default) it returns in training
    (logits, auxiliary logits) for L(logits) + 0.5 L(auxiliary); in evaluation logits alone.

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    depth = 50
    recipe = Recipe(
        paper="FCN on ResNet: Long, Shelhamer & Darrell, CVPR 2015 (arXiv 1411.4038), as torchvision trains it",
        batch=32,
        lr=0.02,
        steps=30 * 10_582 // 32,
        weight_decay=1e-4,
        decay_all=True,
        schedule="poly",
        lr_factors=(("aux_classifier", 10),),
        crop=(480, 480),
        augment=("flip", "scale"),
        aux_weights=(0.5,),
        pretrained="ResNet trained on ImageNet",
        notes=("there 30 epochs of COCO's images of VOC's classes, resized to 260 ... 1040; here of VOC train_aug",),
    )

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        aux: bool = True,
        output_stride: int = 8,
        seed: int = 0,
    ):
        self.config = {
            "name": f"fcn_resnet{self.depth}",
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "aux": aux,
            "output_stride": output_stride,
        }
        self.backbone = ResNet(self.depth, in_channels, width, output_stride)
        _, _, inner, outer = self.backbone.channels
        self.classifier = fcn_head(outer, outer // 4, num_classes)
        self.aux_classifier = fcn_head(inner, inner // 4, num_classes) if aux else None
        self.reset_parameters(seed)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        _, _, inner, outer = self.backbone(x)
        return self.outputs(x, outer, inner)


class FCNResNet101(FCNResNet50):
    """FCN on ResNet-101, torchvision's fcn_resnet101: see `FCNResNet50`.

    54,314,346 parameters with 21 classes, 51,949,141 without aux.
    """

    depth = 101
