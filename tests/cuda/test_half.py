"""What takes float16 under autocast compiles for a GPU with it, which allows less than the emulator's half."""

import pytest

from tinyseg.cuda import nvrtc
from tinyseg.cuda.source import Source, twins

from .resources import PACKAGE

pytestmark = pytest.mark.skipif(bool(nvrtc.available()), reason=f"NVRTC: {nvrtc.available()}")

KERNELS = {
    "ops/activation.cu": ("relu_flat", "relu_backward_flat"),
    "ops/arithmetic.cu": ("add_flat",),
    "ops/avg_pool2d.cu": ("box_mean", "box_mean_backward"),
    "ops/batch_norm.cu": ("run_statistics", "scale_and_shift", "gradient_sums", "gradient_of_rows"),
    "ops/residual.cu": ("normalise_add_relu", "clipped_gradient_sums", "add_relu_flat"),
    "ops/conv/depthwise.cu": ("depthwise_forward", "depthwise_backward_x", "depthwise_backward_w"),
    "ops/conv/plain.cu": ("channel_sums",),
    "ops/interpolate.cu": ("resample",),
    "ops/max_pool2d.cu": ("max_pool2d_forward", "max_pool2d_backward", "max_pool2x2_forward", "max_pool2x2_backward"),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_of_half_compile_and_spill_nothing(name):
    path, chosen = PACKAGE / name, {}
    for kernel in KERNELS[name]:
        twin = twins(path)[kernel]
        types = {t: {"T": "half", "S": "float", "B": "float"}.get(t, default) for t, default in twin.templates.items()}
        chosen.setdefault(tuple(types.items()), []).append(twin.expression(types))
    for types, expressions in chosen.items():
        binary = nvrtc.compile(Source(path, path.read_text(), types, False, tuple(expressions)), "sm_80")
        assert len(binary.resources) == len(expressions) and not any(r.spills for r in binary.resources.values())
