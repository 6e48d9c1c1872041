"""Kernels on a GPU: whether there is one that can be used, and launches through CuPy.

A unit of kernels is compiled by NVRTC once for each architecture and kept on disk, named by a digest of source, headers
and options; CuPy loads it once for each GPU.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

from ..jit import log
from ..kernel import Kernel
from . import nvrtc
from .copies import Copies
from .source import HEADERS, Source, digest, plan_of, twin_of, writable_folder

LEAST = 80  # compute capability 8.0: asynchronous copies, tf32 and bfloat16
LOOP_THREADS = 256
LOOP_BLOCKS = 32  # for each multiprocessor: enough to hide latency, few enough that threads do several elements


def unusable(number: int = 0) -> str | None:
    """Why GPU `number` cannot be used, and the cure, in one line; None if it can."""
    wheels = sorted(
        {d.metadata["Name"] for d in importlib.metadata.distributions() if _is_cupy(d.metadata["Name"] or "")}
    )
    if len(wheels) > 1:
        several = " ".join(wheels)
        return f"several CuPy packages are installed ({several}); cure: pip uninstall {several}, then {_WHEEL}"
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed; cure: {_WHEEL}"
    try:
        import cupy

        driver, wheel = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    except Exception as error:  # whatever an import of a broken installation raises
        text = str(error).strip().splitlines()
        return f"CuPy cannot be imported ({type(error).__name__}: {text[0] if text else ''}); cure: {_WHEEL}"
    if not driver:
        return "no NVIDIA driver is found on this machine; cure: install the driver (nvidia-smi then lists the GPU)"
    if driver // 1000 < wheel // 1000:
        return (
            f"CuPy is built for CUDA {wheel // 1000}, the driver knows CUDA {driver // 1000}; cure: a newer driver, or "
            f"pip uninstall {' '.join(wheels)}, pip install 'cupy-cuda{driver // 1000}x[ctk]'"
        )
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"the driver finds no GPU ({error}); cure: see what nvidia-smi says"
    if number >= count:
        return f"GPU {number} does not exist, there are {count} (cuda:0 to cuda:{count - 1})"
    capability = int(cupy.cuda.Device(number).compute_capability)
    if capability < LEAST:
        return f"GPU {number} has compute capability {capability / 10}, tinyseg needs {LEAST / 10} (Ampere) or newer"
    return nvrtc.available()


def description() -> str:
    """The GPUs of this machine by name."""
    import cupy

    names = []
    for number in range(cupy.cuda.runtime.getDeviceCount()):
        properties = cupy.cuda.runtime.getDeviceProperties(number)
        names.append(f"{properties['name'].decode()} ({properties['totalGlobalMem'] / 2**30:.0f} GiB)")
    return f"{', '.join(names)}, CuPy {cupy.__version__}, NVRTC {nvrtc.version()}"


_WHEEL = "pip install 'cupy-cuda13x[ctk]', or 'cupy-cuda12x[ctk]' where nvidia-smi names a CUDA version below 13"


def _is_cupy(name: str) -> bool:
    return name.lower() == "cupy" or name.lower().startswith(("cupy-cuda", "cupy-rocm"))


class Gpu:
    """Runs launches on one GPU. Raises RuntimeError, with the cure, if it cannot be used."""

    def __init__(self, number: int):
        if reason := unusable(number):
            raise RuntimeError(reason)
        import cupy

        self.cupy, self.number = cupy, number
        device = cupy.cuda.Device(number)
        self.capability = int(device.compute_capability)
        self.most_blocks = LOOP_BLOCKS * device.attributes["MultiProcessorCount"]
        self._functions, self._modules, self._loading = {}, {}, threading.Lock()
        self._shared = {}  # plan -> the dynamic shared memory that its launches may ask for
        self.copies = Copies(cupy.cuda)

    def use(self) -> None:
        """Make this GPU the current one of the thread: CuPy's functions run where this was last called."""
        runtime = self.cupy.cuda.runtime
        if runtime.getDevice() != self.number:
            runtime.setDevice(self.number)

    def has(self, kernel: Kernel) -> bool:
        """Whether the kernel has a CUDA twin."""
        return twin_of(kernel) is not None

    def run(self, kernel: Kernel, args) -> None:
        """Start a kernel on the current stream; returns at once. Raises TypeError for arguments of wrong types."""
        plan = plan_of(kernel, args)
        twin = plan.twin
        grid, shared = twin.shape(*args)
        if twin.loop == "for":
            block = twin.block or LOOP_THREADS
            grid = (min(-(-grid // block), self.most_blocks),)
        elif twin.loop == "blocks":
            block, grid = twin.block, (min(grid, 1 << 20),)
        else:
            block, grid = twin.block or LOOP_THREADS, grid if isinstance(grid, tuple) else (grid,)
        if not all(grid):
            return
        self.use()
        function = self._functions.get(plan) or self._load(plan)
        if shared > self._shared.get(plan, 0):
            self._allow(plan, function, shared)
        function(grid, (block,), tuple(plan.converted(args)), shared_mem=shared)

    def upload(self, array, host) -> None:
        """Start a copy of a NumPy array to one on the GPU, in its order with kernels; returns at once."""
        self.use()
        self.copies.upload(array, host)

    def send(self, host) -> None:
        """Begin to copy an array that `upload` will be asked for; it must not change until then."""
        self.use()
        self.copies.send(host)

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """Record the launches of run() as a CUDA graph; returns what launches it on the current stream.

        What run() allocates comes from a pool of the graph's own: nobody else may get that memory while it lives.
        """
        self.use()
        cuda = self.cupy.cuda
        cuda.get_current_stream().synchronize()
        pool, stream = cuda.MemoryPool(), cuda.Stream(non_blocking=True)
        with stream, cuda.using_allocator(pool.malloc):
            stream.begin_capture()
            try:
                kept = self.copies.captured(run)
            except BaseException:
                with contextlib.suppress(cuda.runtime.CUDARuntimeError):  # what went wrong is the other error
                    stream.end_capture()
                raise
            graph = stream.end_capture()

        def replay(alive=(pool, kept)):
            self.use()
            graph.launch(cuda.get_current_stream())

        return replay

    def _allow(self, plan, function, shared):
        """Let launches take so much dynamic shared memory: beyond 48 KB, with static memory, CUDA wants to be told."""
        if shared + function.shared_size_bytes > 48 << 10:
            function.max_dynamic_shared_size_bytes = shared
        self._shared[plan] = shared

    def _load(self, plan):
        with self._loading:
            source = plan.module
            if source not in self._modules:
                path, names = compiled(source, self.architecture)
                self._modules[source] = self.cupy.RawModule(path=str(path)), names
            module, names = self._modules[source]
            function = module.get_function(names[plan.twin.expression(plan.types)])
            self._functions[plan] = function
            return function

    @property
    def architecture(self) -> str:
        """What to compile for: this GPU's own architecture, or what is nearest below."""
        known = nvrtc.architectures()
        same = [a for a in known if a <= self.capability and a // 10 == self.capability // 10]
        return f"sm_{max(same)}" if same else f"compute_{max(a for a in known if a <= self.capability)}"


def compiled(source: Source, architecture: str) -> tuple[Path, dict[str, str]]:
    """The file of a unit's machine code (or PTX, for "compute_90") and its symbols, from the cache or anew."""
    headers = [h.read_text() for h in (*sorted(HEADERS.glob("*.cuh")), *sorted(source.path.parent.glob("*.cuh")))]
    options = [*nvrtc.OPTIONS, nvrtc.version(), architecture, str(source.wide)]
    text = digest(source.text, *headers, *source.expressions, *options)
    binary = writable_folder("cuda") / f"{source.name}-{architecture}-{text}.cubin"
    names = binary.with_suffix(".json")
    if not (binary.exists() and names.exists()):
        log.info("compiling %s for %s", source.name, architecture)
        result = nvrtc.compile(source, architecture)
        for path, content in ((binary, result.code), (names, json.dumps(result.names).encode())):
            part = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
            part.write_bytes(content)
            os.replace(part, path)
    return binary, json.loads(names.read_text())

