"""The peers of FCN, SegNet and the dilated networks: see twins.py."""

import torch
from torch import nn
from torch.nn import functional as F

BLOCKS = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))
DILATIONS = {
    "dilated_frontend": (),
    "dilation7": (1, 1, 2, 4, 8, 1),
    "dilation8": (1, 1, 2, 4, 8, 16, 1),
    "dilation10": (1, 1, 2, 4, 8, 16, 32, 64, 1),
}


def vgg_twin(name: str, classes: int, channels: int, width: int) -> nn.Module | None:
    if name == "fcn32s_alexnet":
        return AlexNetFCN(classes, channels, width)
    if name.startswith("fcn") and "resnet" not in name:
        return FCN(
            classes, channels, width, int(name[3:].split("s")[0]), (0.01, 0.0001) if "atonce" in name else (1, 1)
        )
    if name == "segnet_basic":
        return SegNetBasic(classes, channels, width)
    if name.startswith("segnet"):
        return SegNet(classes, channels, width)
    if name in DILATIONS:
        return Dilated(classes, channels, width, DILATIONS[name])
    return None


class VGG(nn.Module):
    """Convolutions numbered as torchvision's; `pads` and `rates` one a block."""

    def __init__(self, channels, width, pads=(1,) * 5, rates=(1,) * 5, norm=False, first=None):
        super().__init__()
        at, a, self.blocks, self.norm = 0, channels, [], norm
        for (count, factor), pad, rate in zip(BLOCKS, pads, rates):
            numbers = []
            for _ in range(count):
                own = first if at == 0 and first is not None else pad
                self.add_module(str(at), nn.Conv2d(a, factor * width, 3, padding=own, dilation=rate))
                if norm:
                    self.add_module(str(at + 1), nn.BatchNorm2d(factor * width))
                numbers.append(at)
                a, at = factor * width, at + (3 if norm else 2)
            self.blocks.append(numbers)
            at += 1

    def block(self, i, x):
        for at in self.blocks[i]:
            x = getattr(self, str(at))(x)
            x = F.relu(getattr(self, str(at + 1))(x) if self.norm else x)
        return x


class Fully(nn.Module):
    """fc6 and fc7, under the numbers that ours have."""

    def __init__(self, a, hidden, k, rate=1):
        super().__init__()
        self.add_module("0", nn.Conv2d(a, hidden, k, dilation=rate))
        self.add_module("3", nn.Conv2d(hidden, hidden, 1))
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        for name in "03":
            x = self.drop(F.relu(getattr(self, name)(x)))
        return x


def up(classes, k, stride, shared=False):
    return nn.ConvTranspose2d(classes, classes, k, stride, bias=False, groups=1 if shared else classes)


def cut(x, like, offset):
    h, w = like.shape[2:]
    return x[:, :, offset : offset + h, offset : offset + w]


class FCN(nn.Module):
    def __init__(self, classes, channels, width, stride, scales):
        super().__init__()
        self.stride, self.scales = stride, scales
        self.features = VGG(channels, width, first=100)
        self.fc, self.score_fr = Fully(8 * width, 64 * width, 7), nn.Conv2d(64 * width, classes, 1)
        if stride == 32:
            self.upscore = up(classes, 64, 32)
            return
        self.upscore2, self.score_pool4 = up(classes, 4, 2, shared=True), nn.Conv2d(8 * width, classes, 1)
        if stride == 16:
            self.upscore16 = up(classes, 32, 16)
            return
        self.upscore_pool4, self.score_pool3 = up(classes, 4, 2, shared=True), nn.Conv2d(4 * width, classes, 1)
        self.upscore8 = up(classes, 16, 8)

    def forward(self, x):
        maps = [x]
        for i in range(5):
            maps.append(F.max_pool2d(self.features.block(i, maps[-1]), 2, ceil_mode=True))
        y = self.score_fr(self.fc(maps[5]))
        if self.stride == 32:
            return cut(self.upscore(y), x, 19)
        y = self.upscore2(y)
        y = y + cut(self.score_pool4(self.scales[0] * maps[4]), y, 5)
        if self.stride == 16:
            return cut(self.upscore16(y), x, 27)
        y = self.upscore_pool4(y)
        y = y + cut(self.score_pool3(self.scales[1] * maps[3]), y, 9)
        return cut(self.upscore8(y), x, 31)


class AlexNetFCN(nn.Module):
    def __init__(self, classes, channels, width):
        super().__init__()
        a, b, c, d, e = (width, *(max(2, n * width // 96 // 2 * 2) for n in (256, 384, 384, 256)))
        self.features = nn.ModuleDict(
            {
                "0": nn.Conv2d(channels, a, 11, 4, 100),
                "4": nn.Conv2d(a, b, 5, 1, 2, groups=2),
                "8": nn.Conv2d(b, c, 3, 1, 1),
                "10": nn.Conv2d(c, d, 3, 1, 1, groups=2),
                "12": nn.Conv2d(d, e, 3, 1, 1, groups=2),
            }
        )
        hidden = 4096 * width // 96
        self.fc, self.score_fr, self.upscore = Fully(e, hidden, 6), nn.Conv2d(hidden, classes, 1), up(classes, 63, 32)

    def forward(self, x):
        y = x
        for name, conv in self.features.items():
            y = F.relu(conv(y))
            if name in ("0", "4", "12"):
                y = F.max_pool2d(y, 3, 2, ceil_mode=True)
            if name in ("0", "4"):
                y = F.local_response_norm(y, 5, 1e-4, 0.75, 1.0)
        return cut(self.upscore(self.score_fr(self.fc(y))), x, 18)


class SegNet(nn.Module):
    def __init__(self, classes, channels, width):
        super().__init__()
        self.features, self.decoder, above = VGG(channels, width, norm=True), nn.ModuleList(), classes
        for count, factor in BLOCKS:
            layers = []
            for out in [factor * width] * (count - 1) + [above]:
                layers += [nn.Conv2d(factor * width, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            self.decoder.append(
                nn.Sequential(*(layers[:-2] if above == classes and len(self.decoder) == 0 else layers))
            )
            above = factor * width

    def forward(self, x):
        crossed = []
        for i in range(5):
            x = self.features.block(i, x)
            size = x.shape[2:]
            x, at = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            crossed.append((at, size))
        for i in reversed(range(5)):
            at, size = crossed[i]
            x = self.decoder[i](F.max_unpool2d(x, at, 2, output_size=size))
        return x


class SegNetBasic(nn.Module):
    def __init__(self, classes, channels, w):
        super().__init__()
        pair = lambda a: nn.Sequential(nn.Conv2d(a, w, 7, padding=3), nn.BatchNorm2d(w))  # noqa: E731
        self.encoder = nn.ModuleList(pair(a) for a in (channels, w, w, w))
        self.decoder = nn.ModuleList(pair(w) for _ in range(4))
        self.head = nn.Conv2d(w, classes, 1)

    def forward(self, x):
        x, crossed = F.local_response_norm(x, 5, 1e-4, 0.75, 1.0), []
        for encode in self.encoder:
            x = F.relu(encode(x))
            size = x.shape[2:]
            x, at = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            crossed.append((at, size))
        for decode in reversed(self.decoder):
            at, size = crossed.pop()
            x = decode(F.max_unpool2d(x, at, 2, output_size=size))
        return self.head(x)


class Dilated(nn.Module):
    def __init__(self, classes, channels, width, dilations):
        super().__init__()
        self.features = VGG(channels, width, (0,) * 5, (1, 1, 1, 1, 2))
        self.fc, self.final = Fully(8 * width, 64 * width, 7, 4), nn.Conv2d(64 * width, classes, 1)
        self.upsample = nn.ConvTranspose2d(classes, classes, 16, 8, 4, bias=False, groups=classes)
        self.context = nn.Sequential()
        for rate in dilations:
            self.context.append(nn.Conv2d(classes, classes, 3, padding=rate, dilation=rate)).append(nn.ReLU())
        if dilations:
            self.context.append(nn.Conv2d(classes, classes, 1))

    def forward(self, x):
        h, w = x.shape[2:]
        y = x[:, :, reflected(h)][:, :, :, reflected(w)]
        for i in range(5):
            y = self.features.block(i, y)
            y = F.max_pool2d(y, 2) if i < 3 else y
        y = self.context(self.final(self.fc(y)))
        return self.upsample(y)[:, :, :h, :w]


def reflected(n):
    """Pixel numbers of a line of n with 186 mirrored ones before it, and so many behind that the sum divides by 8."""
    at = torch.arange(-186, n + 186 + -n % 8) % (2 * n - 2)
    return torch.where(at < n, at, 2 * n - 2 - at)
