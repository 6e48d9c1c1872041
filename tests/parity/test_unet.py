"""Ten training steps of the same narrow U-Net from the same weights: equal losses to 1e-4."""

import numpy as np
import pytest

import tinyseg as ts

torch = pytest.importorskip("torch")
nn = torch.nn


def double_conv(a, b):
    parts = []
    for c in (a, b):
        parts += [nn.Conv2d(c, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*parts)


class Twin(nn.Module):
    def __init__(self, classes, channels, width, depth):
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(double_conv(a, b) for a, b in zip([channels, *widths], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * a, a, 2, stride=2) for a in widths[:-1])
        self.merge = nn.ModuleList(double_conv(2 * a, a) for a in widths[:-1])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        skips = []
        for block in self.down[:-1]:
            skips.append(block(x))
            x = nn.functional.max_pool2d(skips[-1], 2)
        x = self.down[-1](x)
        for level in reversed(range(len(self.up))):
            x = self.merge[level](torch.cat([skips[level], self.up[level](x)], 1))
        return self.head(x)


def filters(a):
    """(R,S,C,K) -> PyTorch's (K,C,R,S); of a transposed convolution (R,S,out,in) -> (in,out,R,S): the same turn."""
    return torch.tensor(a.transpose(3, 2, 0, 1) if a.ndim == 4 else a)


def test_ten_steps():
    model = ts.models.UNet(num_classes=5, in_channels=3, width=8, depth=3, seed=1)
    twin = Twin(5, 3, 8, 3)
    twin.load_state_dict({name: filters(a) for name, a in model.state_dict().items()}, strict=False)
    ours = ts.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    theirs = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(10):
        images = rng.random((2, 48, 32, 3), np.float32)
        masks = (5 * images.mean(-1)).astype(np.int32)
        masks[:, :3] = 255
        loss = ts.losses.cross_entropy(model(ts.tensor(images)), masks)
        ours.zero_grad()
        loss.backward()
        ours.step()
        twin_loss = nn.functional.cross_entropy(
            twin(torch.tensor(images.transpose(0, 3, 1, 2))), torch.tensor(masks, dtype=torch.long), ignore_index=255
        )
        theirs.zero_grad()
        twin_loss.backward()
        theirs.step()
        losses.append((loss.item(), twin_loss.item()))
    a, b = np.transpose(losses)
    assert a[-1] < a[0]
    np.testing.assert_allclose(a, b, rtol=1e-4)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(filters(value), twin.state_dict()[name].numpy(), rtol=1e-2, atol=3e-3, err_msg=name)
