"""Parameter counts to the unit: FCN, SegNet, the dilated networks, their backbones. Nothing is drawn for it."""

import pytest

from tinyseg import models, nn
from tinyseg.models import FCN8s, FCN16s, FCN32s, SegNet

COUNTS = [
    (models.VGG16, {"num_classes": 1000}, 138_357_544),
    (models.AlexNet, {"num_classes": 1000}, 60_965_224),
    (FCN32s, {"upsampling": "fixed"}, 134_346_581),
    (FCN32s, {"upsampling": "dense"}, 136_152_917),
    (FCN16s, {"upsampling": "fixed"}, 134_357_354),
    (FCN16s, {"upsampling": "dense"}, 134_815_994),
    (FCN8s, {"upsampling": "fixed"}, 134_362_751),
    (FCN8s, {"upsampling": "dense"}, 134_489_759),
    (FCN8s, {"upsampling": "depthwise"}, 134_368_799),
    (models.FCN8sAtOnce, {"upsampling": "fixed"}, 134_362_751),
    (models.FCN32sAlexNet, {"upsampling": "fixed"}, 56_954_261),
    (SegNet, {"num_classes": 11}, 29_449_355),
    (SegNet, {"num_classes": 12}, 29_449_932),
    (SegNet, {}, 29_455_125),
    (SegNet, {"num_classes": 37}, 29_464_357),
    (models.SegNetBayesian, {}, 29_455_125),
    (models.SegNetBasic, {"num_classes": 11}, 1_416_587),
    (models.DilatedFrontend, {}, 134_346_581),
    (models.Dilation8, {"context": "basic"}, 134_374_973),
    (models.Dilation8, {"context": "large"}, 141_149_720),
    (models.Dilation8, {"num_classes": 11}, 134_313_443),
    (models.Dilation10, {"num_classes": 19}, 134_368_179),
    (models.Dilation7, {}, 134_370_983),
]


@pytest.mark.parametrize("cls, options, expected", COUNTS)
def test_parameters(cls, options, expected):
    with nn.no_init():
        assert cls(**{"num_classes": 21, **options}).parameter_count() == expected


def test_parts():
    with nn.no_init():
        vgg = models.VGG16()
        assert vgg.features.parameter_count() == 14_714_688
        assert [vgg.classifier[i].parameter_count() for i in (0, 3)] == [102_764_544, 16_781_312]
        contexts = [models.Dilation8(21, context=kind).context.parameter_count() for kind in ("basic", "large")]
    assert contexts == [28_392, 6_803_139]
