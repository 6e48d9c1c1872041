"""What autocast hands over in 16 bits: each model's training step and prediction launch only what the table has."""

from functools import cache

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import losses, nn
from tinyseg.cuda.source import sources
from tinyseg.models import MODELS

from .shapes import Shapes, units, zeros

SIDES = {"unet_paper": 188}
SEMANTIC = [name for name in MODELS if not name.startswith("mask_rcnn")]  # which goes by what it finds


@cache
def compiled(path) -> set[str]:
    """The kernels of a file that tests/cuda/resources.py compiles."""
    return {expression for source in sources(path) for expression in source.expressions}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", SEMANTIC)
def test_all_that_a_model_launches_is_in_the_table(name, dtype):
    device, side = Shapes(), SIDES.get(name, 96)
    with nn.no_init(device):
        model = ts.models.create(name, 21)
    images = zeros(device, 2, side, side, 3)
    with ts.autocast(dtype):
        outputs = model.train()(images)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = sum(losses.cross_entropy(y, np.zeros(y.shape[:3], np.int32)) for y in outputs)
        with ts.no_grad():
            model.eval()(images)
    loss.backward()
    launched = units(device.plans)
    assert all(expression in compiled(path) for path, expression in launched)
    narrow = "half" if dtype == "float16" else "bfloat16"
    products = {e for _, e in launched if e.split("_product")[0] in ("gather", "turned", "gradient")}
    assert len(products) == 3 and all(f"<{narrow}" in e for e in products)


def test_operators_that_no_model_has_are_there_too():
    device = Shapes()
    images, w = zeros(device, 2, 32, 32, 8), zeros(device, 3, 3, 8, 8)
    with ts.autocast():
        y = ts.ops.conv2d(images, w, padding=1)
        results = [ts.ops.max_pool2d(y, 17), ts.ops.adaptive_avg_pool2d(y, 3), ts.ops.relu(y)]
    results.append(ts.ops.conv2d(y, w))  # outside: float32 again
    assert [r.dtype for r in results] == [np.float16] * 3 + [np.float32]
    expected = {"max_pool2d_forward<half, int32>", "box_mean<half>", "relu_flat<half>", "convert<float, half>"}
    launched = units(device.plans)
    assert expected <= {e for _, e in launched} and all(e in compiled(path) for path, e in launched)
