"""PSPNet: what a scene holds, pooled at four scales, beside what each pixel looks like. Zhao et al., CVPR 2017.

    x -> ResNet, 1/8 -> y -> [ y, p1, p2, p3, p6 ] -> 3x3 convolution -> scores -> image
                             p_n: the mean over n x n parts of the map, 1x1 convolution, enlarged (arXiv 1612.01105)

Followed is the authors' PyTorch code: the stem is three 3x3 convolutions, all 3x3 convolutions of the dilated stages
have their stage's rate, resizing aligns corners. (The paper says "ResNet"; its Caffe model has the deep stem too.)
"""

from ..nn import Dropout2d
from ..tensor import Tensor
from .parts import Auxiliary, PooledContext, fcn_head
from .recipe import Recipe
from .resnet import ResNet


class PSPNet50(Auxiliary):
    """PSPNet on ResNet-50: bins 1, 2, 3, 6 of 512 channels each at output stride 8, auxiliary head on stage 3.

    49,081,578 parameters with 21 classes, 46,716,373 without aux. With `aux` (the default) it returns in training
    (logits, auxiliary logits) for L(logits) + 0.4 L(auxiliary); in evaluation logits alone. With a batch of one image
    the bin that is the whole image is normalised by running statistics (see `PooledContext`). Pooling depends on the
    size of the crop: predict at the size that was trained on.

    Shapes: (N,H,W,in_channels) float, any H and W -> logits (N,H,W,num_classes).
    """

    depth = 50
    recipe = Recipe(
        paper="PSPNet: Zhao, Shi, Qi, Wang & Jia, CVPR 2017 (arXiv 1612.01105)",
        batch=16,
        lr=0.01,
        steps=50 * 10_582 // 16,
        weight_decay=1e-4,
        decay_all=True,
        schedule="poly",
        lr_factors=(("pyramid", 10), ("classifier", 10), ("aux_classifier", 10)),
        crop=(473, 473),
        augment=("flip", "scale", "rotate", "blur"),
        aux_weights=(0.4,),
        pretrained="ResNet with the deep stem, trained on ImageNet",
        notes=(
            "VOC's schedule, as the authors' PyTorch code has it; ADE20K 100 epochs, Cityscapes 200 with crops of 713",
            "batch norm over all images of the batch (synchronised); scales 0.5 to 2, rotation of 10 degrees",
        ),
    )
    align_corners = True

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
            "name": f"pspnet{self.depth}",
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "aux": aux,
            "output_stride": output_stride,
        }
        self.backbone = ResNet(self.depth, in_channels, width, output_stride, whole_stage=True, deep_stem=True)
        _, _, inner, outer = self.backbone.channels
        self.pyramid = [PooledContext(outer, outer // 4, bins, align_corners=True) for bins in (1, 2, 3, 6)]
        self.classifier = fcn_head(2 * outer, outer // 4, num_classes, Dropout2d)
        self.aux_classifier = fcn_head(inner, inner // 4, num_classes, Dropout2d) if aux else None
        self.reset_parameters(seed)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        _, _, inner, y = self.backbone(x)
        return self.outputs(x, [y, *(context(y) for context in self.pyramid)], inner)


class PSPNet101(PSPNet50):
    """PSPNet on ResNet-101: see `PSPNet50`. 68,073,706 parameters with 21 classes, 65,708,501 without aux."""

    depth = 101
