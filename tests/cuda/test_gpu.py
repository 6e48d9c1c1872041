"""What is said where there is no usable GPU, and what is launched where there is one (here a recorder of launches)."""

import importlib.metadata
import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.cuda import gpu, nvrtc
from tinyseg.device import Cuda
from tinyseg.ops.batch_norm import run_statistics
from tinyseg.ops.conv.tensorcore import gather_product
from tinyseg.ops.optimizer import sum_of_squares
from tinyseg.ops.softmax import softmax_backward

from .fake_gpu import OutOfMemoryError


class Recorder:
    """A CuPy on a machine with one GPU, as far as launches go."""

    __version__ = "14"

    def __init__(self, driver=13000, wheel=13000, count=1, capability="90"):
        self.launches, self.current = [], 0
        runtime = SimpleNamespace(
            driverGetVersion=lambda: driver,
            runtimeGetVersion=lambda: wheel,
            getDeviceCount=lambda: count,
            getDevice=lambda: self.current,
            setDevice=lambda number: setattr(self, "current", number),
            getDeviceProperties=lambda number: {"name": b"Some GPU", "totalGlobalMem": 80 << 30},
            CUDARuntimeError=RuntimeError,
        )
        self.cuda = SimpleNamespace(runtime=runtime, Device=lambda number: SimpleNamespace(
            compute_capability=capability, attributes={"MultiProcessorCount": 2}))  # fmt: skip

    def RawModule(self, path):
        assert path.endswith(".cubin")
        return SimpleNamespace(get_function=self._function)

    def _function(self, symbol):
        class Function:
            shared_size_bytes, max_dynamic_shared_size_bytes = 8304, (48 << 10) - 8304

            def __call__(function, grid, block, args, shared_mem):
                assert shared_mem <= function.max_dynamic_shared_size_bytes, "CUDA_ERROR_INVALID_VALUE"
                self.launches.append((symbol, grid, block, args, shared_mem))

        return Function()


@pytest.fixture
def machine(monkeypatch):
    """machine(...) makes this a machine with that CuPy."""

    def make(wheels=("cupy-cuda13x",), **options):
        found = [SimpleNamespace(metadata={"Name": name}) for name in ("numpy", *wheels)]
        monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if wheels else None)
        monkeypatch.setattr(nvrtc, "available", lambda: None)
        cupy = Recorder(**options)
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        return cupy

    return make


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(wheels=()), "CuPy is not installed; cure: pip install 'cupy-cuda13x.ctk.', or"),
        (dict(wheels=("cupy-cuda12x", "cupy-cuda13x")), "several CuPy packages are installed "
         ".cupy-cuda12x cupy-cuda13x.; cure: pip uninstall cupy-cuda12x cupy-cuda13x, then pip install"),
        (dict(driver=0), "no NVIDIA driver is found on this machine; cure: install the driver"),
        (dict(driver=12040), "CuPy is built for CUDA 13, the driver knows CUDA 12; cure: a newer driver, or "
         "pip uninstall cupy-cuda13x, pip install 'cupy-cuda12x.ctk.'"),
        (dict(count=0), "GPU 0 does not exist"),
        (dict(capability="75"), "GPU 0 has compute capability 7.5, tinyseg needs 8.0 .Ampere. or newer"),
    ],
)  # fmt: skip
def test_what_hinders_is_said_in_one_line_with_the_cure(machine, options, message):
    machine(**options)
    with pytest.raises(RuntimeError, match=f"^device 'cuda:0': {message}[^\n]*$"):
        ts.device.Cuda("cuda:0", 0)
    assert ts.device.usable_devices()["cuda"] == gpu.unusable()


def test_a_gpu_that_can_be_used(machine, monkeypatch):
    machine()
    monkeypatch.setattr(nvrtc, "version", lambda: "13.5")
    monkeypatch.setattr(nvrtc, "architectures", lambda: [80, 90, 121])
    assert gpu.unusable() is None and "GPU 1 does not exist, there are 1" in gpu.unusable(1)
    assert "Some GPU (80 GiB)" in gpu.description() and "NVRTC 13.5" in gpu.description()
    assert gpu.Gpu(0).has(softmax_backward) and gpu.Gpu(0).architecture == "sm_90"


def test_out_of_memory_names_the_array_and_what_helps():
    def empty(shape, dtype):
        raise OutOfMemoryError

    runtime = SimpleNamespace(memGetInfo=lambda: (3 << 20, 80 << 30))
    device = object.__new__(Cuda)
    device.name, device.gpu = "cuda", SimpleNamespace(use=lambda: None)
    memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    device.xp = SimpleNamespace(empty=empty, cuda=SimpleNamespace(memory=memory, runtime=runtime))
    said = r"an array \(8, 512, 512, 64\) float16 of 256 MiB was asked for, 3 of 81920 MiB.*batch.*recompute_blocks"
    with pytest.raises(MemoryError, match=said):
        device.empty((8, 512, 512, 64), np.float16)


@pytest.mark.skipif(bool(nvrtc.available()), reason=f"NVRTC: {nvrtc.available()}")
def test_launches(machine, monkeypatch, tmp_path):
    compiled = []
    monkeypatch.setattr(gpu, "compiled", lambda source, arch: (
        compiled.append((source.name, arch)) or tmp_path / "x.cubin", {e: e for e in source.expressions}))  # fmt: skip
    cupy = machine()
    device = gpu.Gpu(0)
    cupy.current = 3
    x = np.zeros((100_000, 3), np.float32)
    device.run(softmax_backward, (x, x, x, False, *x.shape))
    (symbol, grid, block, args, shared) = cupy.launches.pop()
    assert (symbol, grid, block, shared) == ("softmax_backward<float>", (64,), (256,), 0) and cupy.current == 0
    assert args[3:] == (False, 100_000, 3) and [type(a) for a in args[3:]] == [np.bool_, np.int32, np.int32]
    device.run(run_statistics, (x[:1], x[:1], x, *x.shape, 128))
    assert cupy.launches.pop()[1:3] == ((10,), (256,))
    device.run(sum_of_squares, (np.zeros(7), x[0].astype(np.float64), 1, 7, 3))
    assert cupy.launches.pop()[:3] == ("sum_of_squares<double>", (7,), (256,))
    device.run(softmax_backward, (x[:0], x[:0], x[:0], False, 0, 3))
    assert not cupy.launches  # nothing to do
    sizes = 1, 8, 16, 8, 8, 16, 8, 1, 1, 1, 1, 1, 0, 0, 1, 1, False, False, 1
    for wide, shared in ((False, 48 << 10), (True, 66 << 10), (False, 48 << 10)):  # beside static shared memory
        device.run(gather_product, (x, x, x, x, x, x, 8, x, x, *sizes, wide, False))
        assert cupy.launches.pop()[4] == shared
    assert compiled == [("softmax-float", "sm_90"), ("batch_norm-float-float", "sm_90"), ("optimizer-double", "sm_90"),
                        ("tensorcore-float-float", "sm_90")]  # fmt: skip


@pytest.mark.skipif(bool(nvrtc.available()), reason=f"NVRTC: {nvrtc.available()}")
def test_compiled_once_and_kept(tmp_path, monkeypatch):
    from tinyseg.cuda import source

    monkeypatch.setattr(source, "writable_folder", lambda name: tmp_path)
    monkeypatch.setattr(gpu, "writable_folder", lambda name: tmp_path)
    unit = source.source(softmax_backward.cuda_source, (("T", "float"),), False)
    path, names = gpu.compiled(unit, "sm_80")
    assert path.read_bytes()[:4] == b"\x7fELF" and "softmax_backward<float>" in names
    before = path.stat().st_mtime_ns
    assert gpu.compiled(unit, "sm_80") == (path, names) and path.stat().st_mtime_ns == before
    assert gpu.compiled(unit, "sm_90")[0] != path
