"""What only a fresh process can tell: peak memory, time to the first step, time of an import; and sizes on disk."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median

import tinyseg

from .case import Case, Result, Settings, torch


def cases() -> Iterator[Case]:
    for width in (32, 64):
        for work in ("step", "inference"):
            name = f"peak memory: unet width {width} {work} 256x256 batch 4"
            yield Case(name, partial(peak_memory, work, width), 0.9)
    yield Case("start-up: first unet step, kernels not yet compiled", partial(first_step, cold=True), limit=12)
    yield Case("start-up: first unet step, kernels in the cache", partial(first_step, cold=False), limit=2)
    yield Case("start-up: import", import_time, limit=0.5)
    yield Case("installed size, with all that it needs", installed_size)


def alone(library: str, work: str, width: int, size: int, batch: int, cache: str | None = None) -> dict:
    """Run bench/alone.py: {"first": seconds to the end of the first call, "peak": bytes}."""
    environment = dict(os.environ, **({"TINYSEG_CACHE": cache} if cache else {}))
    arguments = [library, work, width, size, batch, time.time()]
    run = subprocess.run(
        [sys.executable, "-m", "bench.alone", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"bench.alone {library} {work}: {run.stderr.strip().splitlines()[-1]}")
    return json.loads(run.stdout)


def peak_memory(work: str, width: int, settings: Settings) -> Result:
    alone("tinyseg", work, width, 256, 4)  # compiles what is not in the cache: the compiler's memory is not the step's
    ours = alone("tinyseg", work, width, 256, 4)["peak"]
    theirs = alone("torch", work, width, 256, 4)["peak"] if torch else None
    return Result(ours / 2**20, theirs and theirs / 2**20, "MiB", "channels_last" if torch else "")


def first_step(settings: Settings, cold: bool) -> Result:
    """From the start of Python to the end of the first training step of U-Net 32."""
    with tempfile.TemporaryDirectory() as cache:
        ours = alone("tinyseg", "step", 32, 256, 4, cache)["first"]
        if not cold:
            ours = median(alone("tinyseg", "step", 32, 256, 4, cache)["first"] for _ in range(3))
    theirs = median(alone("torch", "step", 32, 256, 4)["first"] for _ in range(3)) if torch else None
    return Result(ours, theirs, "s", "channels_last" if torch else "")


def import_time(settings: Settings) -> Result:
    def seconds(name):
        code = f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"
        runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(5)]
        return median(float(run.stdout) for run in runs)

    return Result(seconds("tinyseg"), seconds("torch") if torch else None, "s")


def installed_size(settings: Settings) -> Result:
    """The files of the package and of the distributions that it requires, in turn."""
    package = Path(tinyseg.__file__).parent
    ours = sum(f.stat().st_size for f in package.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    ours += sum(map(distribution_size, requirements("numpy", "numba", "pillow")))
    theirs = sum(map(distribution_size, requirements("torch"))) if torch else None
    return Result(ours / 2**20, theirs and theirs / 2**20, "MiB")


def requirements(*names: str) -> set[str]:
    """Names of installed distributions and of all that they require."""
    found, waiting = set(), list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another platform
            continue
        found.add(name)
        waiting += [re.match(r"[\w.-]+", line)[0] for line in needed if "extra ==" not in line]
    return found


def distribution_size(name: str) -> int:
    files = (Path(f.locate()) for f in metadata.files(name) or [] if not f.name.endswith(".pyc"))
    return sum(f.stat().st_size for f in files if f.is_file())
