"""Hypothesis profiles (HYPOTHESIS_PROFILE=ci|few|deep) and the devices under test (--device cpu --device emulated).

The emulated device may be named with the order of its threads: emulated:reversed, emulated:random.
"""

import os
from contextlib import nullcontext
from functools import cache

import pytest
from hypothesis import HealthCheck, settings

import tinyseg as ts
from tinyseg.device import Emulated

_common = dict(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile("ci", derandomize=True, database=None, max_examples=25, **_common)
settings.register_profile("few", derandomize=True, database=None, max_examples=6, **_common)
settings.register_profile("deep", max_examples=1000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser):
    parser.addoption("--device", action="append", help="device under test; may be given several times (default: cpu)")


def pytest_generate_tests(metafunc):
    """A test with an argument `device` runs once on each device under test."""
    if "device" in metafunc.fixturenames:
        names = metafunc.config.getoption("--device") or ["cpu"]
        metafunc.parametrize("device", [_device(name) for name in names], ids=names, scope="session")


@cache
def _device(name):
    kind, _, order = name.partition(":")
    return Emulated(order) if kind == "emulated" and order else ts.get_device(name)


@pytest.fixture(autouse=True)
def exact_on_tensor_cores(request):
    """Tensor cores round to tf32 unless asked not to; tests compare with equations, so on their devices they ask."""
    device = getattr(getattr(request.node, "callspec", None), "params", {}).get("device")
    with ts.precision("exact") if device and device.name != "cpu" else nullcontext():
        yield


@pytest.fixture(scope="session")
def capable(request):
    """A device with the kernels of tensor cores: the GPU or the emulated device under test, else the emulated one."""
    named = [name for name in request.config.getoption("--device") or [] if name.startswith(("cuda", "emulated"))]
    try:
        return _device(named[0] if named else "emulated")
    except RuntimeError as reason:
        pytest.skip(str(reason))
