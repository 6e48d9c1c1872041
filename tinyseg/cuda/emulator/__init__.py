"""Compiles a .cu file with the host's C++ compiler and runs its kernels on the CPU, one fiber for each CUDA thread.

It is for tests and for learning, not for speed: about 30 million threads a second without barriers, 5 million with ten.
What it adds to a GPU: shared memory is NaN until it is written; a divergent barrier, a deadlock, a warp operation whose
lanes have returned, a failed assert and a launch out of range are errors that name block, thread and line of the .cu;
threads run in a chosen order, so that a missing barrier shows; and gdb steps through kernels.

Environment, read at the first launch:
    CXX                       the compiler (default: g++, c++ or clang++)
    TINYSEG_EMULATED_FLAGS    its options (default: -O2 -g); "-O0 -g3" for gdb
    TINYSEG_SANITIZE          "address,undefined" or "thread": compile kernels so; the process must be started with the
                              sanitizer's library in LD_PRELOAD

cuda.h is the language, runtime.cpp and engine/ the engine (its comment says how it works), include/ stands in for
CUDA's headers.
"""

import ctypes
import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from ...jit import log
from ...kernel import Kernel
from ..source import HEADERS, KernelError, Source, digest, plan_of, twin_of, writable_folder

HERE = Path(__file__).parent
ORDERS = {"sequential": 0, "reversed": 1, "random": 2}
SHARED_LIMIT = 227 << 10  # what a block can ask for on sm_90
# The grids that the launcher chooses: few blocks and threads, so that the loops go round; fewer still where each
# thread is a fiber of the thread sanitizer.
LOOP_BLOCKS, LOOP_THREADS = (2, 8) if os.environ.get("TINYSEG_SANITIZE") == "thread" else (4, 64)


class _Launch(ctypes.Structure):  # emulated::Launch
    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("order", ctypes.c_uint),
        ("seed", ctypes.c_uint64),
    ]


def compiler() -> list[str]:
    """The host's C++ compiler: CXX, or the first that is found; [] where there is none."""
    named = shlex.split(os.environ.get("CXX", ""))
    commands = [named] if named else [["g++"], ["c++"], ["clang++"]]
    return next((command for command in commands if shutil.which(command[0])), [])


def unusable() -> str | None:
    """Why there is no emulated device here, and the cure; None if there is one."""
    if sys.platform != "linux":
        return "it runs on Linux only; cure: use device 'cpu'"
    if not compiler():
        name = os.environ.get("CXX") or "g++"
        return f"it needs a C++ compiler, and {name} is not found; cure: install g++ (apt install g++), or set CXX"
    return None


class Emulator:
    """Runs launches, each with its threads and blocks in an order: "sequential", "reversed" or "random"."""

    def __init__(self, order: str = "sequential", seed: int = 0):
        if order not in ORDERS:
            raise ValueError(f"device 'emulated': order {order!r} is unknown, expected one of {', '.join(ORDERS)}")
        self.order, self.seed = order, seed
        self._one_at_a_time = threading.RLock()  # an engine runs one launch
        self._functions = {}

    def has(self, kernel: Kernel) -> bool:
        """Whether the kernel has a CUDA twin."""
        return twin_of(kernel) is not None

    def run(self, kernel: Kernel, args) -> None:
        """Run one launch. Raises KernelError where the kernel breaks a rule, TypeError for arguments of wrong types."""
        plan = plan_of(kernel, args)
        twin, values = plan.twin, plan.converted(args)
        grid, shared = twin.shape(*args)
        block, (x, y, z) = _launch_shape(twin, grid)
        if x * y * z == 0:
            return
        with self._one_at_a_time:
            function = self._functions.get(plan) or self._load(plan)
            holders = [
                ctypes.c_void_p(a.__array_interface__["data"][0]) if dtype is None else _number(a)
                for a, dtype in zip(values, plan.numbers)
            ]
            pointers = (ctypes.c_void_p * max(1, len(holders)))(*map(ctypes.addressof, holders))
            _check_limits(twin, (x, y, z), block, shared)
            self.seed += 1
            launch = _Launch((x, y, z), (block, 1, 1), shared, ORDERS[self.order], self.seed)
            error = ctypes.create_string_buffer(1024)
            if function(ctypes.byref(launch), pointers, error, len(error)):
                raise KernelError(f"kernel {twin.name}: {error.value.decode()}")

    def _load(self, plan):
        library, source = _library(plan.module), plan.module
        index = source.expressions.index(plan.twin.expression(plan.types))
        function = self._functions[plan] = getattr(library, f"emulated_entry_{index}")
        return function


def _launch_shape(twin, grid):
    """Threads of a block, and the grid's three sizes."""
    if twin.loop == "for":
        block = twin.block or LOOP_THREADS
        grid = min(-(-grid // block), LOOP_BLOCKS)
    elif twin.loop == "blocks":
        block, grid = twin.block, min(grid, LOOP_BLOCKS)
    else:
        block = twin.block or 256
    sizes = grid if isinstance(grid, tuple) else (grid,)
    return block, (*sizes, 1, 1)[:3]


def _check_limits(twin, grid, block, shared):
    if block > 1024 or grid[0] > 2**31 - 1 or max(grid[1:]) > 65535 or min(grid) < 0:
        raise KernelError(f"kernel {twin.name}: no GPU launches a grid of {grid} blocks of {block} threads")
    if not 0 <= shared <= SHARED_LIMIT:
        raise KernelError(f"kernel {twin.name}: {shared} bytes of shared memory, a block has at most {SHARED_LIMIT}")


def _number(a):
    return ctypes.create_string_buffer(a.tobytes(), 8)


# ------------------------------------------------------------------------------------------------ compiling

_FLAGS = (
    "-std=c++17 -fPIC -fvisibility=hidden -fno-gnu-unique -fno-weak -fno-strict-aliasing -ffp-contract=off "
    "-Wall -Wno-unknown-pragmas -Wno-unused -Wno-maybe-uninitialized"
).split()


@functools.cache
def _library(source: Source) -> ctypes.CDLL:
    """The compiled kernels of one unit, from the cache or anew."""
    sanitize = os.environ.get("TINYSEG_SANITIZE", "")
    options = shlex.split(os.environ.get("TINYSEG_EMULATED_FLAGS", "-O2 -g"))
    flags = [*_FLAGS, *options, *(["-DWIDE"] if source.wide else [])]
    flags += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer"] if sanitize else []
    flags += [f"-I{HERE / 'include'}", f"-I{HEADERS}", f"-I{source.path.parent}"]
    # The #line makes errors, sanitizers and gdb speak of the .cu file.
    entries = "\n".join(f"ENTRY({i}, {expression})" for i, expression in enumerate(source.expressions))
    text = f'#include "{HERE / "cuda.h"}"\n#line 1 "{source.path}"\n{source.text}\n#line 1 "entries"\n{entries}\n'
    folder = writable_folder("emulated")
    engine = _engine(folder, sanitize)
    own = [HERE / "cuda.h", HERE / "runtime.h"]
    headers = [*own, *sorted(HEADERS.glob("*.cuh")), *sorted(source.path.parent.glob("*.cuh"))]
    texts = [path.read_text() for path in headers]
    target = folder / f"{source.name}-{digest(text, *texts, engine.name, *flags, *compiler())}.so"
    if not target.exists():
        log.info("compiling %s for the emulator", source.name)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            cpp = Path(work) / "kernels.cpp"
            cpp.write_text(text)
            _compile([*flags, "-shared", "-Wl,-Bsymbolic", str(cpp), str(engine)], target, source.path.name)
    library = ctypes.CDLL(str(target))
    _tell_static_shared(library, target)
    return library


def _engine(folder: Path, sanitize: str) -> Path:
    """The engine compiled, without the sanitizer: it is not what is looked at."""
    flags = "-O2 -g -std=c++17 -fPIC -fvisibility=hidden -fno-tree-loop-distribute-patterns -c".split()
    flags += ["-DSTACK_BYTES=32768"] if sanitize == "thread" else []
    texts = [path.read_text() for path in (HERE / "runtime.cpp", HERE / "runtime.h", *sorted(HERE.glob("engine/*.h")))]
    target = folder / f"engine-{digest(*texts, *flags, *compiler())}.o"
    if not target.exists():
        _compile([*flags, str(HERE / "runtime.cpp")], target, "the emulator")
    return target


def _compile(arguments: list[str], target: Path, what: str) -> None:
    """Run the compiler; the target appears whole or not at all, whoever else makes it meanwhile."""
    part = target.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    command = [*compiler(), *arguments, "-o", str(part)]
    result = subprocess.run(command, capture_output=True, text=True, env=_without_preload())
    if result.returncode:
        raise KernelError(f"{what} does not compile for the emulator:\n{result.stderr}")
    os.replace(part, target)


def _without_preload() -> dict[str, str]:
    """The environment for the compiler: a sanitizer's library is for this process alone."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def _tell_static_shared(library, path: Path) -> None:
    """Give the engine the addresses of the __shared__ variables: statics of functions, in the symbol table _ZZ..."""
    command = ["nm", "-S", "--defined-only", str(path)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, env=_without_preload())
    symbols = [line.split() for line in listed.stdout.splitlines()]
    offset = next(int(s[0], 16) for s in symbols if s[-1] == "emulated_entry_0")
    base = ctypes.cast(library.emulated_entry_0, ctypes.c_void_p).value - offset
    words = []
    for symbol in symbols:
        if len(symbol) == 4 and symbol[2] in "bBdD" and symbol[3].startswith("_ZZ") and "N8emulated" not in symbol[3]:
            words += [base + int(symbol[0], 16), int(symbol[1], 16)]
    library.emulated_static_shared(len(words) // 2, (ctypes.c_ulong * max(1, len(words)))(*words))
