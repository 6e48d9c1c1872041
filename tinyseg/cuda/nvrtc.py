"""Compiles .cu files for a GPU with NVRTC, which needs no driver and no GPU, and reports what each kernel will occupy.

What is compiled here in a run without a GPU is what runs on one: `Cuda.launch` loads these binaries.
"""

import importlib.util
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .source import HEADERS, KernelError, Source

# As CuPy's own kernels: tiny floats are flushed to zero, and products fused into sums, as everywhere on GPUs.
OPTIONS = ("-std=c++17", "-ftz=true", "--ptxas-options=-v", "-default-device", "--display-error-number")


@dataclass(frozen=True)
class Resources:
    """What one kernel occupies: registers a thread, bytes of static shared memory a block, bytes spilled a thread."""

    registers: int
    shared: int
    spills: int
    stack: int


@dataclass(frozen=True)
class Binary:
    """Machine code for one architecture (PTX for "compute_90"); `names` gives the symbol of each kernel."""

    code: bytes
    names: dict[str, str]
    resources: dict[str, Resources]


def available() -> str | None:
    """None if kernels can be compiled here, else what to install."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed; cure: pip install 'cupy-cuda13x[ctk]' (CUDA 12: 'cupy-cuda12x[ctk]')"
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except Exception as error:  # CuPy raises various kinds
        return f"NVRTC cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0]}); {_CURE}"
    return None if include_folders() else f"CUDA's headers (cuda_fp16.h) are not found; {_CURE}"


_CURE = "cure: pip install 'cupy-cuda13x[ctk]' (CUDA 12: 'cupy-cuda12x[ctk]'), which brings them"


@cache
def include_folders() -> tuple[Path, ...]:
    """Where cuda_fp16.h lies: in NVIDIA's wheels, or in a CUDA toolkit."""
    candidates = []
    spec = importlib.util.find_spec("nvidia")
    for root in spec.submodule_search_locations if spec else ():
        candidates += [Path(root) / part for part in ("cu13/include", "cuda_runtime/include")]
    candidates += [Path(p) / "include" for p in (os.environ.get("CUDA_PATH"), "/usr/local/cuda", "/opt/cuda") if p]
    return tuple(p for p in candidates if (p / "cuda_fp16.h").exists())[:1]


def architectures() -> list[int]:
    """What this NVRTC compiles for: [75, 80, ...]."""
    from cupy.cuda import nvrtc

    return sorted(nvrtc.getSupportedArchs())


def version() -> str:
    """Of NVRTC, as "13.5"."""
    from cupy.cuda import nvrtc

    return ".".join(map(str, nvrtc.getVersion()))


def compile(sources: Source | list[Source], architecture: str) -> Binary:
    """The kernels of one unit, or of several of one file, as machine code for "sm_80", "sm_90", ...

    Raises KernelError with the compiler's message.
    """
    from cupy.cuda import nvrtc

    sources = sources if isinstance(sources, list) else [sources]
    first = sources[0]
    expressions = list(dict.fromkeys(e for source in sources for e in source.expressions))
    program = nvrtc.createProgram(first.text, str(first.path), (), ())
    folders = HEADERS, first.path.parent, *include_folders()
    options = [*OPTIONS, f"-arch={architecture}", *(f"-I{folder}" for folder in folders)]
    options += ["-DWIDE"] if first.wide else []
    try:
        for expression in expressions:
            nvrtc.addNameExpression(program, expression)
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError:
            log = nvrtc.getProgramLog(program)
            raise KernelError(f"{first.path.name} does not compile for {architecture}:\n{log}") from None
        names = {e: nvrtc.getLoweredName(program, e) for e in expressions}
        if architecture.startswith("compute"):
            code = nvrtc.getPTX(program)
        else:
            code = nvrtc.getCUBIN(program) + b"\0"  # CuPy 14 returns one byte too few
        by_symbol = _resources(nvrtc.getProgramLog(program))
    finally:
        nvrtc.destroyProgram(program)
    return Binary(code, names, {e: by_symbol[name] for e, name in names.items() if name in by_symbol})


def _resources(log: str) -> dict[str, Resources]:
    """What `ptxas -v` says of each kernel, by symbol."""
    found = {}
    for part in re.split(r"Compiling entry function", log)[1:]:
        symbol = re.match(r"\s*'([^']+)'", part)[1]

        def number(pattern, part=part):
            match = re.search(pattern, part)
            return int(match[1]) if match else 0

        spills = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
        found[symbol] = Resources(
            number(r"Used (\d+) registers"), number(r"(\d+) bytes smem"), spills, number(r"(\d+) bytes stack frame")
        )
    return found
