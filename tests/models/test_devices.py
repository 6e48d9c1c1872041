"""Narrow versions of all models on the device under test against float64 on the CPU: logits and a gradient.

In evaluation, where no batch norm of a few values passes roundings on, and with exact convolutions.
"""

import numpy as np
import pytest

import tinyseg as ts

from .test_models import SEMANTIC, TWINS, batch, create, shake


@pytest.mark.parametrize("name", [name for name in SEMANTIC if name not in TWINS])
def test_every_device_computes_the_same(name, device):
    x = batch(name)[:, :188, :188] if name == "unet_paper" else batch(name)[:, :17, :20]
    dy, results = None, []
    for place, dtype in (("cpu", np.float64), (device, np.float32)):
        model = shake(create(name)).eval().to(place, dtype)
        with ts.precision("exact"):
            y = model(ts.tensor(x.astype(dtype), device=place))
            dy = np.random.default_rng(0).standard_normal(y.shape) if dy is None else dy
            y.backward(dy)
        first = next(p for p in model.parameters() if p.ndim == 4)
        results.append((y.numpy(), first.grad.numpy()))
    for expected, found, tolerance in zip(*results, (1e-4, 1e-3)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
