"""Named convolutions: every corner of the geometry, and every algorithm that `conv2d.algorithm` chooses between."""

from ...strategies import ConvGeometry


def case(n, h, w, c, k, r, s=None, stride=1, padding=0, dilation=1, groups=1) -> ConvGeometry:
    """A ConvGeometry with numbers where a pair repeats one."""
    stride, padding, dilation = ((v, v) if isinstance(v, int) else v for v in (stride, padding, dilation))
    return ConvGeometry(n, h, w, c, k, r, s or r, stride, padding, dilation, groups)


CORNERS = {
    "1x1 image": case(1, 1, 1, 5, 4, 1),
    "1x1 image, 3x3 filter": case(2, 1, 1, 5, 4, 3, padding=1),
    "stride > filter": case(2, 9, 8, 5, 6, 2, stride=4),
    "stride > image": case(1, 3, 4, 5, 6, 3, stride=7, padding=1),
    "padding > filter": case(1, 4, 5, 5, 6, 2, padding=4),
    "padding > image": case(1, 2, 1, 3, 6, 3, padding=5, stride=2),
    "empty batch": case(0, 6, 5, 5, 6, 3, padding=1),
    "odd sizes": case(3, 13, 17, 9, 11, 3, padding=1, stride=2),
    "taps wholly in the padding": case(1, 7, 7, 20, 9, 3, padding=12, dilation=12),
    "rows and columns differ": case(2, 9, 12, 8, 8, 2, 5, stride=(3, 1), padding=(0, 2), dilation=(1, 2)),
    "one column of taps": case(2, 9, 7, 4, 40, 5, 1, padding=(2, 0)),
    "one row of taps": case(2, 9, 7, 2, 40, 1, 5, padding=(0, 2)),
    "the image is one row": case(2, 1, 40, 8, 8, 1, 3, padding=(0, 1)),
    "1 class": case(2, 6, 6, 16, 1, 3, padding=1),
    "2 classes": case(1, 9, 9, 33, 2, 1),
    "21 classes": case(1, 9, 9, 16, 21, 1),
    "2 groups": case(2, 7, 9, 12, 10, 3, padding=1, groups=2),
    "groups of 1 channel, 2 filters each": case(2, 7, 9, 3, 6, 3, padding=1, groups=3),
    "groups of 40 channels": case(1, 6, 7, 80, 72, 3, padding=1, groups=2),
}

THIN = {
    f"{c} channels, {what}": case(2, 14, 19, c, 20, *filters, **options)
    for c in (1, 3, 7)
    for what, filters, options in (
        ("3x3", (3,), dict(padding=1)),
        ("7x7 stride 2", (7,), dict(padding=3, stride=2)),
        ("3x2 dilated in height", (3, 2), dict(dilation=(2, 1), padding=(2, 0))),
        ("3x3 dilated", (3,), dict(padding=2, dilation=2)),
        ("2x2 stride 3, padding > filter", (2,), dict(padding=3, stride=3)),
    )
}

DEPTHWISE = {
    "depth-wise 3x3": case(2, 9, 11, 19, 19, 3, padding=1, groups=19),
    "depth-wise stride 2": case(2, 9, 11, 32, 32, 3, padding=1, stride=2, groups=32),
    "depth-wise dilated": case(1, 9, 11, 8, 8, 3, padding=4, dilation=4, groups=8),
    "depth-wise, packs of 4": case(2, 7, 13, 12, 12, 3, padding=1, groups=12),
    "depth-wise, packs, dilated": case(1, 11, 19, 8, 8, 3, padding=(1, 2), dilation=(3, 2), stride=(2, 1), groups=8),
    "depth-wise, packs, padding > image": case(1, 5, 2, 8, 8, 3, padding=(1, 5), dilation=(1, 5), groups=8),
    "depth-wise, packs, 5x5": case(1, 6, 9, 8, 8, 5, padding=2, groups=8),
    "depth-wise 1x1 image": case(1, 1, 1, 3, 3, 5, padding=2, groups=3),
    "depth-wise empty batch": case(0, 4, 4, 6, 6, 3, groups=6),
    "bilinear deconvolution": case(1, 24, 20, 5, 5, 4, stride=2, padding=1, groups=5),
}

LAYERS = {  # those of the networks, smaller
    "3x3": case(2, 17, 19, 32, 32, 3, padding=1),
    "3x3, 64 to 96 channels": case(1, 30, 34, 64, 96, 3, padding=1),
    "3x3, channels no multiple of a vector": case(2, 14, 13, 48, 40, 3, padding=1),
    "3x3, many channels, few pixels": case(1, 8, 8, 160, 256, 3, padding=1),
    "3x3, valid": case(1, 18, 18, 32, 64, 3),
    "3x3, padding 3": case(1, 8, 9, 16, 32, 3, padding=3),
    "3x3, dilation 2": case(1, 20, 17, 64, 64, 3, padding=2, dilation=2),
    "3x3, dilation 4": case(2, 33, 32, 32, 32, 3, padding=4, dilation=4),
    "3x3, dilation 6 on a small map": case(1, 9, 10, 32, 32, 3, padding=6, dilation=6),
    "3x3, stride 2": case(2, 16, 16, 32, 64, 3, padding=1, stride=2),
    "1x1": case(2, 12, 13, 64, 48, 1),
    "1x1, stride 2": case(2, 12, 13, 32, 64, 1, stride=2),
    "transposed 2x2 stride 2": case(2, 16, 16, 32, 64, 2, stride=2),
    "transposed 16x16 stride 8": case(1, 64, 64, 21, 21, 16, stride=8, padding=4),
}

ALL = CORNERS | THIN | DEPTHWISE | LAYERS
