"""The peer: U-Net of tinyseg/models/unet.py in PyTorch, layer for layer, with the same names."""

import torch
from torch import nn

from .case import filters_to_torch, layout, to_torch
from .example import CLASSES, DEPTH, example


def double_conv(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True),
        nn.Conv2d(b, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    def __init__(self, classes: int, width: int, depth: int, in_channels: int = 3):
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(double_conv(a, b) for a, b in zip([in_channels, *widths], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * a, a, 2, stride=2) for a in widths[:-1])
        self.merge = nn.ModuleList(double_conv(2 * a, a) for a in widths[:-1])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        skips = []
        for contract in self.down[:-1]:
            x = contract(x)
            skips.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.down[-1](x)
        for up, merge in zip(reversed(self.up), reversed(self.merge)):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)


class Training:
    """The model, its optimiser and a batch, in one of the two layouts. `state`: the parameters of our model."""

    def __init__(self, width: int, size: int, batch: int, memory: str, state: dict | None = None, compile=False):
        model = UNet(CLASSES, width, DEPTH)
        if state:
            own = {name: filters_to_torch(a) if a.ndim == 4 else torch.tensor(a) for name, a in state.items()}
            missing, unexpected = model.load_state_dict(own, strict=False)
            if unexpected or not all(name.endswith("num_batches_tracked") for name in missing):
                raise ValueError(f"the models differ: {missing} {unexpected}")
        self.model = model.to(memory_format=layout(memory))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        images, masks = example(size, batch)
        self.images, self.masks = to_torch(images, memory), torch.tensor(masks, dtype=torch.long)
        self.run = torch.compile(self.model) if compile else self.model

    def step(self) -> float:
        self.model.train()
        loss = nn.functional.cross_entropy(self.run(self.images), self.masks, ignore_index=255)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def infer(self):
        self.model.eval()
        with torch.no_grad():
            return self.run(self.images)
