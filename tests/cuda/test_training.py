"""A small U-Net learns on the emulated device as on the CPU: the same losses, step by step; also with the kernels for
wide arrays, which no test could fill.
"""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.cuda import emulator, source
from tinyseg.device import Emulated

pytestmark = pytest.mark.skipif(bool(emulator.unusable()), reason=str(emulator.unusable()))


def losses(device, steps=4):
    shapes = [ts.data.Shapes(size=16, seed=1)[i] for i in range(2)]
    images = np.stack([s.image for s in shapes]).astype(np.float32) / 255
    masks = np.stack([s.mask for s in shapes])
    model = ts.models.create("unet", num_classes=6, width=4).to(device)
    optimizer = ts.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ts.ops.cross_entropy(model(ts.tensor(images, device)), ts.tensor(masks, device))
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_the_losses_are_those_of_the_cpu():
    with ts.precision("exact"):  # without tf32, whose rounding is not the CPU's
        cpu = losses(ts.get_device("cpu"))
        in_order, at_random = losses(Emulated()), losses(Emulated("random"))
    assert cpu[-1] < cpu[0]
    np.testing.assert_allclose(in_order, cpu, rtol=2e-4)
    assert in_order == at_random  # to the bit, whatever the order of threads


def test_kernels_for_wide_arrays_compute_the_same(monkeypatch):
    narrow = losses(Emulated(), steps=2)
    monkeypatch.setattr(source, "WIDE", 1)
    monkeypatch.setattr(source, "_plans", {})
    assert losses(Emulated(), steps=2) == narrow
    assert all(plan.wide for plan in source._plans.values())
