"""What the machine can do: float32 multiply-adds a second from registers, and bytes a second from memory."""

import os
import platform
import time
from pathlib import Path

import numpy as np
from numba import prange

import tinyseg as ts
from tinyseg.kernel import kernel
from tinyseg.ops.conv.simd import COLUMNS, ENTRY, ROWS, address, multiply_tile

RUN = 96  # steps of the inner sum: one panel and one tile of both matrices lie in the L1 cache
TAPS = 64  # how often a tile goes through that panel before it is stored
TILES = 200


@kernel
def multiply_in_cache(tiles, panels, rows, tables, c_rows, shares):
    """TILES tiles of TAPS * RUN steps for each share, all operands in the L1 cache. Parallel over shares."""
    for i in prange(shares):
        for m in range(ROWS):
            c_rows[i, m] = address(tiles[i]) + m * COLUMNS * 4
        for tap in range(TAPS):
            tables[i, tap, 0] = 0
            for m in range(ROWS):
                tables[i, tap, 1 + m] = address(rows[i]) + m * RUN * 4
        for _ in range(TILES):
            multiply_tile(address(tables[i]), TAPS, RUN, 4, 0, address(panels[i]), COLUMNS * 4, address(c_rows[i]), 0,
                          COLUMNS, 1, 0)  # fmt: skip


@kernel
def triad(a, b, c):
    """a = b + 3 c. Parallel over the elements."""
    three = a.dtype.type(3)
    for i in prange(a.size):
        a[i] = b[i] + three * c[i]


def fma_peak() -> float:
    """float32 operations a second (a multiply-add counts two), all threads: the best of several runs."""
    cpu = ts.get_device("cpu")
    shares = cpu.threads
    arrays = [cpu.zeros((shares, *shape)) for shape in ((ROWS, COLUMNS), (RUN, COLUMNS), (ROWS, RUN))]
    arrays += [np.empty((shares, TAPS, ENTRY), np.int64), np.empty((shares, ROWS), np.int64)]
    work = 2 * shares * TILES * TAPS * RUN * ROWS * COLUMNS
    return work / best_time(lambda: cpu.launch(multiply_in_cache, *arrays, shares), 20)


def bandwidth() -> float:
    """Bytes a second of the triad a = b + 3 c over arrays far beyond the caches (two reads, one write)."""
    cpu = ts.get_device("cpu")
    a, b, c = (cpu.zeros((1 << 24,)) for _ in "abc")
    return 3 * a.nbytes / best_time(lambda: cpu.launch(triad, a, b, c), 10)


def best_time(call, times: int) -> float:
    call()
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe() -> str:
    """One line: processor, threads, versions."""
    import numba

    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}"
    threads = ts.get_device("cpu").threads
    return f"{processor()}, {os.cpu_count()} cores, {threads} threads, {platform.system()}; {versions}"
