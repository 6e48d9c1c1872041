"""Parameter counts, to the unit: torchvision's published ones, those of the authors' releases, those of the papers.

`nn.no_init` makes the models without drawing or touching their weights, so that counting costs neither time nor memory.
"""

import pytest

from tinyseg import models, nn

# name, options of create, parameters with 21 classes
COUNTS = [
    ("fcn_resnet50", {"aux": True}, 35_322_218),
    ("fcn_resnet50", {"aux": False}, 32_957_013),
    ("fcn_resnet101", {"aux": True}, 54_314_346),
    ("fcn_resnet101", {"aux": False}, 51_949_141),
    ("pspnet50", {"aux": True}, 49_081_578),
    ("pspnet50", {"aux": False}, 46_716_373),
    ("pspnet101", {"aux": True}, 68_073_706),
    ("pspnet101", {"aux": False}, 65_708_501),
    ("refinenet50", {}, 90_802_773),
    ("refinenet101", {}, 109_794_901),
    ("refinenet152", {}, 125_438_549),
    ("deeplabv1_largefov", {}, 20_505_429),
    ("deeplabv1_msc", {}, 21_711_445),
    ("deeplabv2_vgg16", {}, 37_877_652),
    ("deeplabv2_resnet101", {}, 44_048_532),
    ("deeplabv3_resnet50", {"aux": True}, 42_004_074),
    ("deeplabv3_resnet50", {"aux": False}, 39_638_869),
    ("deeplabv3_resnet101", {"aux": True}, 60_996_202),
    ("deeplabv3_resnet101", {"aux": False}, 58_630_997),
    ("deeplabv3_resnet50_paper", {}, 39_048_533),
    ("deeplabv3_resnet101_paper", {}, 58_040_661),
    ("deeplabv3plus_resnet50", {}, 40_352_181),
    ("deeplabv3plus_resnet101", {}, 59_344_309),
    ("deeplabv3plus_xception65", {}, 41_055_413),
]


@pytest.mark.parametrize("name, options, expected", COUNTS)
def test_parameters_with_21_classes(name, options, expected):
    with nn.no_init():
        assert models.create(name, 21, **options).parameter_count() == expected


@pytest.mark.parametrize(
    "cls, options, expected",
    [
        (models.RefineNet50, {"pools": 4}, 99_060_309),  # as released
        (models.RefineNet101, {"pools": 4}, 118_052_437),
        (models.RefineNet152, {"pools": 4}, 133_696_085),
        (models.LargeFOV, {"kernel_size": 7, "dilation": 4, "hidden": 4096}, 134_346_581),  # "134.3M"
        (models.LargeFOV, {"kernel_size": 4, "dilation": 4, "hidden": 4096}, 65_140_565),  # "65.1M"
        (models.PSPNet50, {"num_classes": 150}, 49_180_908),
        (models.PSPNet50, {"num_classes": 150, "aux": False}, 46_782_550),
    ],
)
def test_parameters_of_variants(cls, options, expected):
    with nn.no_init():
        assert cls(**{"num_classes": 21, **options}).parameter_count() == expected


def test_xception_has_the_statistics_of_its_release():
    """41,258,213 numbers in all: parameters, and a mean and a variance for each of 101,400 normalised channels."""
    with nn.no_init():
        model = models.create("deeplabv3plus_xception65", 21)
    assert sum(b.size for b in model.buffers()) == 202_800
