"""The peers: the networks of tinyseg.models in PyTorch, written from the papers, with the same names of layers.

    twin(name, num_classes, in_channels, width)    -> a torch module that takes `ts.interop.to_torch` of our model

Channels first, nothing fused, nothing of tinyseg. fcn_resnet*, deeplabv3_resnet* at full width are torchvision's own.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .twins_vgg import vgg_twin
from .unet_torch import UNet

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def twin(name: str, num_classes: int, in_channels: int = 3, width: int = 64) -> nn.Module | None:
    """The twin of a model as `models.create(name, ...)` makes it by default; None where there is none."""
    if width == 64 and in_channels == 3 and name in ("fcn_resnet50", "fcn_resnet101"):
        return torchvision_segmentation(name, num_classes, aux=True)
    if width == 64 and in_channels == 3 and name in ("deeplabv3_resnet50", "deeplabv3_resnet101"):
        return torchvision_segmentation(name, num_classes, aux=False)
    depth = next((depth for depth in DEPTHS if str(depth) in name), None)
    plan = (num_classes, in_channels, width)
    if name == "unet":
        return UNet(num_classes, width, 4, in_channels)
    if name == "unet_paper":
        return UNetPaper(*plan)
    if name.startswith("refinenet"):
        return RefineNet(depth, *plan)
    if name.startswith("pspnet"):
        return PSPNet(depth, *plan)
    if name.startswith("deeplabv1"):
        return LargeFOV(*plan, multi_scale=name.endswith("msc"))
    if name == "deeplabv2_vgg16":
        return ASPPVGG(*plan)
    if name == "deeplabv2_resnet101":
        return ASPPResNet(*plan)
    if name.startswith("deeplabv3_") and name.endswith("paper"):
        return DeepLabV3(depth, *plan)
    if name.startswith("deeplabv3plus"):
        return DeepLabV3Plus(depth, *plan)
    return vgg_twin(name, *plan)


def torchvision_segmentation(name: str, num_classes: int, aux: bool) -> nn.Module | None:
    try:
        from torchvision.models import segmentation
    except ImportError:
        return None
    make = getattr(segmentation, name)
    return Unpacked(make(weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=aux))


class Unpacked(nn.Module):
    """torchvision's dictionary of outputs as ours: (logits, auxiliary) in training, else logits."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        y = self.inner(x)
        return (y["out"], y["aux"]) if self.training and "aux" in y else y["out"]

    def load_state_dict(self, state, strict=True):
        return self.inner.load_state_dict(state, strict)


def grow(x, size, align=True):
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align)


def unit(a, b, k=1, d=1):
    return nn.Sequential(nn.Conv2d(a, b, k, padding=d * (k // 2), dilation=d, bias=False), nn.BatchNorm2d(b), nn.ReLU())


# ---------------------------------------------------------------------------------------------------- ResNet, VGG


class Bottleneck(nn.Module):
    def __init__(self, a, planes, stride, rate):
        super().__init__()
        b = 4 * planes
        self.conv1, self.bn1 = nn.Conv2d(a, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, rate, rate, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, b, 1, bias=False), nn.BatchNorm2d(b)
        self.downsample = None
        if stride > 1 or a != b:
            self.downsample = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Trunk(nn.Module):
    """ResNet whose dilated stages have one rate throughout. `stages`: (stride, rates) of stages 2 to 4."""

    def __init__(self, depth, channels, width, stages, deep=False):
        super().__init__()
        self.deep = deep
        if deep:
            self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = nn.Conv2d(width, 2 * width, 3, 1, 1, bias=False), nn.BatchNorm2d(2 * width)
        else:
            self.conv1, self.bn1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        a = width * (2 if deep else 1)
        for i, (count, (stride, rates)) in enumerate(zip(DEPTHS[depth], [(1, (1,)), *stages])):
            planes, blocks = width * 2**i, []
            for j in range(count):
                blocks.append(Bottleneck(a, planes, stride if j == 0 else 1, rates[j % len(rates)]))
                a = 4 * planes
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.deep:
            x = F.relu(self.bn3(self.conv3(F.relu(self.bn2(self.conv2(x))))))
        x = F.max_pool2d(x, 3, 2, 1)
        c2 = self.layer1(x)
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return c2, c3, c4, self.layer4(c4)


PLAIN = [(2, (1,)), (2, (1,)), (2, (1,))]
STRIDE8 = [(2, (1,)), (1, (2,)), (1, (4,))]
STRIDE16_GRID = [(2, (1,)), (2, (1,)), (1, (2, 4, 8))]


class DeepLabVGG(nn.Module):
    """VGG16 at 1/8, convolutions numbered as torchvision's."""

    def __init__(self, channels, width):
        super().__init__()
        at, a, self.blocks = 0, channels, []
        for count, factor, rate in ((2, 1, 1), (2, 2, 1), (3, 4, 1), (3, 8, 1), (3, 8, 2)):
            names = []
            for _ in range(count):
                self.add_module(str(at), nn.Conv2d(a, factor * width, 3, padding=rate, dilation=rate))
                names.append(str(at))
                a, at = factor * width, at + 2
            self.blocks.append(names)
            at += 1

    def forward(self, x):
        maps = []
        for names, stride in zip(self.blocks, (2, 2, 2, 1, 1)):
            for name in names:
                x = F.relu(getattr(self, name)(x))
            x = F.max_pool2d(x, 3, stride, 1, ceil_mode=True)
            maps.append(x)
        return maps


class Classifier(nn.Module):
    """fc6 and fc7, under the numbers that ours have."""

    def __init__(self, a, hidden, rate):
        super().__init__()
        self.add_module("0", nn.Conv2d(a, hidden, 3, padding=rate, dilation=rate))
        self.add_module("3", nn.Conv2d(hidden, hidden, 1))
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(F.relu(getattr(self, "0")(x)))
        return self.drop(F.relu(getattr(self, "3")(x)))


# ------------------------------------------------------------------------------------------------------- papers


class UNetPaper(nn.Module):
    """Valid convolutions, the skips cut to what comes from below."""

    def __init__(self, classes, channels, width):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 16 * width]
        box = lambda a, b: nn.Sequential(nn.Conv2d(a, b, 3), nn.ReLU(), nn.Conv2d(b, b, 3), nn.ReLU())  # noqa: E731
        self.down = nn.ModuleList(box(a, b) for a, b in zip([channels, *widths], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * a, a, 2, 2) for a in widths[:4])
        self.merge = nn.ModuleList(box(2 * a, a) for a in widths[:4])
        self.head, self.drop = nn.Conv2d(width, classes, 1), nn.Dropout(0.5)

    def forward(self, x):
        maps = []
        for i, box in enumerate(self.down):
            x = box(x if i == 0 else F.max_pool2d(x, 2))
            x = self.drop(x) if i > 2 else x
            maps.append(x)
        for i in (3, 2, 1, 0):
            x = self.up[i](x)
            (h, w), (p, q) = maps[i].shape[2:], x.shape[2:]
            y, z = (h - p) // 2, (w - q) // 2
            x = self.merge[i](torch.cat([maps[i][:, :, y : y + p, z : z + q], x], 1))
        return self.head(x)


class PSPNet(nn.Module):
    def __init__(self, depth, classes, channels, width):
        super().__init__()
        self.backbone = Trunk(depth, channels, width, STRIDE8, deep=True)
        top = 32 * width
        self.pyramid = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), *unit(top, top // 4)) for bins in (1, 2, 3, 6)
        )
        self.classifier = self.head(2 * top, top // 4, classes)
        self.aux_classifier = self.head(top // 2, top // 8, classes)

    def head(self, a, b, classes):
        return nn.Sequential(*unit(a, b, 3), nn.Dropout2d(0.1), nn.Conv2d(b, classes, 1))

    def forward(self, x):
        _, _, inner, y = self.backbone(x)
        parts = [y, *(grow(part(y), y.shape[2:]) for part in self.pyramid)]
        logits = grow(self.classifier(torch.cat(parts, 1)), x.shape[2:])
        return (logits, grow(self.aux_classifier(inner), x.shape[2:])) if self.training else logits


class Residual(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(a, a, 3, 1, 1), nn.Conv2d(a, a, 3, 1, 1, bias=False)

    def forward(self, x):
        return self.conv2(F.relu(self.conv1(F.relu(x)))) + x


class Refine(nn.Module):
    def __init__(self, a, b, below):
        super().__init__()
        self.adapt = nn.ModuleList([nn.Sequential(nn.Conv2d(a, b, 3, 1, 1, bias=False), Residual(b), Residual(b))])
        paths = [] if below is None else [b, below]
        self.fuse = nn.ModuleList(nn.Conv2d(path, b, 3, 1, 1, bias=False) for path in paths)
        self.pooling = nn.ModuleList(nn.Conv2d(b, b, 3, 1, 1, bias=False) for _ in range(2))
        self.output = nn.Sequential(Residual(b), Residual(b), Residual(b))

    def forward(self, x, below):
        x = self.adapt[0](x)
        if below is not None:
            x = self.fuse[0](x) + grow(self.fuse[1](below), x.shape[2:])
        x = F.relu(x)
        path = x
        for conv in self.pooling:
            path = conv(F.max_pool2d(path, 5, 1, 2))
            x = x + path
        return self.output(x)


class RefineNet(nn.Module):
    def __init__(self, depth, classes, channels, width):
        super().__init__()
        self.backbone = Trunk(depth, channels, width, PLAIN)
        w = width
        self.blocks = nn.ModuleList(
            [
                Refine(32 * w, 8 * w, None),
                Refine(16 * w, 4 * w, 8 * w),
                Refine(8 * w, 4 * w, 4 * w),
                Refine(4 * w, 4 * w, 4 * w),
            ]
        )
        self.classifier, self.drop = nn.Conv2d(4 * w, classes, 3, 1, 1), nn.Dropout(0.5)

    def forward(self, x):
        c2, c3, c4, c5 = self.backbone(x)
        y = self.blocks[0](self.drop(c5), None)
        y = self.blocks[1](self.drop(c4), y)
        y = self.blocks[3](c2, self.blocks[2](c3, y))
        return grow(self.classifier(self.drop(y)), x.shape[2:])


class LargeFOV(nn.Module):
    def __init__(self, classes, channels, width, multi_scale):
        super().__init__()
        self.features, self.fc = DeepLabVGG(channels, width), Classifier(8 * width, 16 * width, 12)
        self.sides = nn.ModuleList()
        if multi_scale:
            for a, stride in zip((channels, width, 2 * width, 4 * width, 8 * width), (8, 4, 2, 1, 1)):
                side = nn.Module()
                side.add_module("0", nn.Conv2d(a, 2 * width, 3, stride, 1))
                side.add_module("3", nn.Conv2d(2 * width, 2 * width, 1))
                self.sides.append(side)
        self.classifier, self.drop = nn.Conv2d((16 + 2 * len(self.sides)) * width, classes, 1), nn.Dropout(0.5)

    def forward(self, x):
        maps = self.features(x)
        y = self.fc(F.avg_pool2d(maps[4], 3, 1, 1))
        parts = [y]
        for side, z in zip(self.sides, [x, *maps]):
            for name in "03":
                z = self.drop(F.relu(getattr(side, name)(z)))
            parts.append(grow(z, y.shape[2:]))
        return grow(self.classifier(torch.cat(parts, 1)), x.shape[2:])


class ASPPVGG(nn.Module):
    def __init__(self, classes, channels, width):
        super().__init__()
        self.features = DeepLabVGG(channels, width)
        self.fc = nn.ModuleList(Classifier(8 * width, 16 * width, rate) for rate in (6, 12, 18, 24))
        self.classifier = nn.ModuleList(nn.Conv2d(16 * width, classes, 1) for _ in range(4))

    def forward(self, x):
        y = self.features(x)[4]
        return grow(sum(score(fc(y)) for fc, score in zip(self.fc, self.classifier)), x.shape[2:])


class ASPPResNet(nn.Module):
    def __init__(self, classes, channels, width):
        super().__init__()
        self.backbone = Trunk(101, channels, width, STRIDE8)
        self.classifier = nn.ModuleList(
            nn.Conv2d(32 * width, classes, 3, padding=rate, dilation=rate) for rate in (6, 12, 18, 24)
        )

    def scores(self, x):
        y = self.backbone(x)[3]
        return sum(score(y) for score in self.classifier)

    def forward(self, x):
        y = self.scores(x)
        for scale in (0.75, 0.5):
            smaller = grow(x, [round(n * scale) for n in x.shape[2:]])
            y = torch.maximum(y, grow(self.scores(smaller), y.shape[2:]))
        return grow(y, x.shape[2:])


class Pyramid(nn.Module):
    def __init__(self, a, b, dropout, wide=unit):
        super().__init__()
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), *unit(a, b))
        self.convs = nn.ModuleList([unit(a, b), *(wide(a, b, 3, rate) for rate in (6, 12, 18)), pooled])
        self.project = nn.Sequential(*unit(5 * b, b), nn.Dropout(dropout))

    def forward(self, x):
        maps = [branch(x) for branch in self.convs]
        return self.project(torch.cat([*maps[:4], maps[4].expand_as(maps[0])], 1))


class DeepLabV3(nn.Module):
    def __init__(self, depth, classes, channels, width):
        super().__init__()
        self.backbone = Trunk(depth, channels, width, STRIDE16_GRID)
        self.classifier = nn.Sequential(Pyramid(32 * width, 4 * width, 0), nn.Conv2d(4 * width, classes, 1))

    def forward(self, x):
        return grow(self.classifier(self.backbone(x)[3]), x.shape[2:])


class Separable(nn.Module):
    def __init__(self, a, b, k=3, d=1, stride=1, last_relu=True):
        super().__init__()
        self.depthwise = nn.Conv2d(a, a, k, stride, d, d, groups=a, bias=False)
        self.pointwise, self.last_relu = nn.Conv2d(a, b, 1, bias=False), last_relu
        self.bn1, self.bn2 = nn.BatchNorm2d(a), nn.BatchNorm2d(b)

    def forward(self, x):
        y = self.bn2(self.pointwise(F.relu(self.bn1(self.depthwise(x)))))
        return F.relu(y) if self.last_relu else y


class XceptionBlock(nn.Module):
    def __init__(self, a, widths, stride):
        super().__init__()
        self.convs = nn.ModuleList(
            Separable(i, o, stride=stride if last else 1, last_relu=False)
            for i, o, last in zip((a, *widths), widths, (False, False, True))
        )
        self.shortcut = None
        if stride > 1 or a != widths[2]:
            self.shortcut = nn.Sequential(nn.Conv2d(a, widths[2], 1, stride, bias=False), nn.BatchNorm2d(widths[2]))

    def forward(self, x):
        first = self.convs[1](F.relu(self.convs[0](F.relu(x))))
        return self.convs[2](F.relu(first)) + (x if self.shortcut is None else self.shortcut(x)), first


class Xception(nn.Module):
    """Aligned Xception-65 at output stride 16."""

    def __init__(self, channels, w):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, w // 2, 3, 2, 1, bias=False), nn.BatchNorm2d(w // 2), nn.ReLU(), *unit(w // 2, w, 3)
        )
        m = round(728 * w / 64)
        plan = [(w, (2 * w,) * 3, 2), (2 * w, (4 * w,) * 3, 2), (4 * w, (m,) * 3, 2), *[(m, (m,) * 3, 1)] * 16]
        plan.append((m, (m, 16 * w, 16 * w), 1))
        self.blocks = nn.ModuleList(XceptionBlock(*block) for block in plan)
        self.exit = nn.Sequential(
            Separable(16 * w, 24 * w, d=2), Separable(24 * w, 24 * w, d=2), Separable(24 * w, 32 * w, d=2)
        )

    def forward(self, x):
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x, first = block(x)
            if i == 1:
                early = first
        return early, self.exit(x)


class DeepLabV3Plus(nn.Module):
    """On ResNet of a depth, or on Xception where that is None."""

    def __init__(self, depth, classes, channels, width):
        super().__init__()
        self.backbone = Trunk(depth, channels, width, STRIDE16_GRID) if depth else Xception(channels, width)
        wide = unit if depth else Separable
        self.aspp = Pyramid(32 * width, 4 * width, 0.1, wide)
        self.details = unit(4 * width, 48 * width // 64)
        self.decoder = nn.Sequential(wide(4 * width + 48 * width // 64, 4 * width, 3), wide(4 * width, 4 * width, 3))
        self.classifier = nn.Conv2d(4 * width, classes, 1)

    def forward(self, x):
        early, *_, late = self.backbone(x)
        details = self.details(early)
        y = torch.cat([grow(self.aspp(late), details.shape[2:]), details], 1)
        return grow(self.classifier(self.decoder(y)), x.shape[2:])
