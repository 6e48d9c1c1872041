"""Every model by name. A new one: a file with its class here, and a line in MODELS."""

import difflib
import inspect

from ..nn import Module
from .alexnet import AlexNet
from .deeplab_v1 import LargeFOV, MultiScaleLargeFOV
from .deeplab_v2 import DeepLabV2ResNet101, DeepLabV2VGG16
from .deeplab_v3 import (
    DeepLabV3PaperResNet50,
    DeepLabV3PaperResNet101,
    DeepLabV3ResNet50,
    DeepLabV3ResNet101,
)
from .deeplab_v3plus import DeepLabV3PlusResNet50, DeepLabV3PlusResNet101, DeepLabV3PlusXception65
from .dilated import DilatedFrontend, Dilation7, Dilation8, Dilation10
from .fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s, FCN32sAlexNet
from .fcn_resnet import FCNResNet50, FCNResNet101
from .mask_rcnn import MaskRCNN, MaskRCNNResNet18FPN, MaskRCNNResNet50FPN, MaskRCNNResNet101FPN
from .pspnet import PSPNet50, PSPNet101
from .recipe import Recipe
from .refinenet import RefineNet50, RefineNet101, RefineNet152
from .resnet import ResNet, ResNetClassifier
from .segnet import SegNet, SegNetBasic, SegNetBayesian
from .unet import UNet, UNetPaper
from .vgg import VGG16
from .xception import Xception65

MODELS = {
    "unet": UNet,
    "unet_paper": UNetPaper,
    "segnet": SegNet,
    "segnet_basic": SegNetBasic,
    "segnet_bayesian": SegNetBayesian,
    "fcn32s": FCN32s,
    "fcn16s": FCN16s,
    "fcn8s": FCN8s,
    "fcn8s_atonce": FCN8sAtOnce,
    "fcn32s_alexnet": FCN32sAlexNet,
    "dilated_frontend": DilatedFrontend,
    "dilation7": Dilation7,
    "dilation8": Dilation8,
    "dilation10": Dilation10,
    "fcn_resnet50": FCNResNet50,
    "fcn_resnet101": FCNResNet101,
    "refinenet50": RefineNet50,
    "refinenet101": RefineNet101,
    "refinenet152": RefineNet152,
    "pspnet50": PSPNet50,
    "pspnet101": PSPNet101,
    "deeplabv1_largefov": LargeFOV,
    "deeplabv1_msc": MultiScaleLargeFOV,
    "deeplabv2_vgg16": DeepLabV2VGG16,
    "deeplabv2_resnet101": DeepLabV2ResNet101,
    "deeplabv3_resnet50": DeepLabV3ResNet50,
    "deeplabv3_resnet101": DeepLabV3ResNet101,
    "deeplabv3_resnet50_paper": DeepLabV3PaperResNet50,
    "deeplabv3_resnet101_paper": DeepLabV3PaperResNet101,
    "deeplabv3plus_resnet50": DeepLabV3PlusResNet50,
    "deeplabv3plus_resnet101": DeepLabV3PlusResNet101,
    "deeplabv3plus_xception65": DeepLabV3PlusXception65,
    "mask_rcnn_resnet18_fpn": MaskRCNNResNet18FPN,
    "mask_rcnn_resnet50_fpn": MaskRCNNResNet50FPN,
    "mask_rcnn_resnet101_fpn": MaskRCNNResNet101FPN,
}

__all__ = [
    "AlexNet",
    "DilatedFrontend",
    "Dilation7",
    "Dilation8",
    "Dilation10",
    "FCN8s",
    "FCN8sAtOnce",
    "FCN16s",
    "FCN32s",
    "FCN32sAlexNet",
    "MODELS",
    "DeepLabV2ResNet101",
    "DeepLabV2VGG16",
    "DeepLabV3PaperResNet101",
    "DeepLabV3PaperResNet50",
    "DeepLabV3PlusResNet101",
    "DeepLabV3PlusResNet50",
    "DeepLabV3PlusXception65",
    "DeepLabV3ResNet101",
    "DeepLabV3ResNet50",
    "FCNResNet101",
    "FCNResNet50",
    "LargeFOV",
    "MultiScaleLargeFOV",
    "PSPNet101",
    "PSPNet50",
    "MaskRCNN",
    "MaskRCNNResNet18FPN",
    "MaskRCNNResNet50FPN",
    "MaskRCNNResNet101FPN",
    "Recipe",
    "RefineNet101",
    "RefineNet152",
    "RefineNet50",
    "ResNet",
    "ResNetClassifier",
    "SegNet",
    "SegNetBasic",
    "SegNetBayesian",
    "UNet",
    "UNetPaper",
    "VGG16",
    "Xception65",
    "build",
    "create",
    "names",
    "recipe",
]


def names() -> list[str]:
    """The names that `create` knows."""
    return list(MODELS)


def create(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    width: int | None = None,
    aux: bool | None = None,
    output_stride: int | None = None,
    seed: int = 0,
) -> Module:
    """A model by name, its parameters drawn from `seed`: logits = model(x), (N,H,W,C) -> (N,H,W,num_classes).

    width, aux and output_stride are left to the model where they are None; what else a model can be told its class
    says, as ts.models.UNet(..., depth=3). `model.config` holds what it was made with, `build` makes it again.

    Raises ValueError for an unknown name (close names are listed) and for an option that the model does not have.

    Example:
        model = ts.models.create("unet", num_classes=11, width=32)
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.4)
        cure = f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(MODELS)}"
        raise ValueError(f"models.create: {name!r} is no model; {cure}")
    if num_classes < 1 or in_channels < 1:
        raise ValueError(f"models.create: got {num_classes} classes, {in_channels} channels, expected at least 1")
    given = {"width": width, "aux": aux, "output_stride": output_stride}
    takes = [option for option in given if option in inspect.signature(MODELS[name]).parameters]
    surplus = [option for option, value in given.items() if option not in takes and value not in (None, False)]
    if surplus:
        has = ", ".join(takes) or "none of these"
        raise ValueError(f"models.create: {name} has no option {', '.join(surplus)}; it has {has}")
    options = {option: given[option] for option in takes if given[option] is not None}
    return MODELS[name](num_classes, in_channels, **options, seed=seed)


def build(config: dict, seed: int = 0) -> Module:
    """A model like the one whose `model.config` this is. Raises TypeError for what its class does not take."""
    arguments = {option: value for option, value in config.items() if option != "name"}
    return MODELS[config["name"]](**arguments, seed=seed)


def recipe(name: str) -> Recipe:
    """How the paper of this model trained it: the `recipe` of its class. Raises ValueError if it has none."""
    found = getattr(MODELS.get(name), "recipe", None)
    if found is None:
        having = ", ".join(n for n in MODELS if hasattr(MODELS[n], "recipe"))
        raise ValueError(f"models.recipe: {name!r} has none; there are those of {having}")
    return found
