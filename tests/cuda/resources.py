"""Compiles every kernel for three architectures and lists what each occupies: `python -m tests.cuda.resources` writes
resources.txt, which test_resources.py holds the kernels to; with words behind it, for the files so named alone.

A line for each kernel and architecture: registers a thread, bytes of static shared memory a block. None may spill.
"wide" are those for arrays of 2^30 elements or more, whose offsets have 64 bits.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tinyseg as ts
from tinyseg.cuda import nvrtc
from tinyseg.cuda.source import source, sources

TABLE = Path(__file__).with_name("resources.txt")
PACKAGE = Path(ts.__file__).parent


def architectures() -> list[str]:
    """sm_80, sm_90 and the newest that this NVRTC knows."""
    return ["sm_80", "sm_90", f"sm_{nvrtc.architectures()[-1]}"]


def files(words=()) -> list[Path]:
    """The .cu files of the package, or those whose names have one of some words."""
    return [p for p in sorted(PACKAGE.rglob("*.cu")) if not words or any(w in str(p) for w in words)]


def measured(words=()) -> dict[tuple[str, str], nvrtc.Resources]:
    """(kernel, architecture) -> what it occupies, for every .cu of the package."""
    jobs = [
        (path, [source(u.path, u.types, wide) for u in sources(path)], architecture, " wide" if wide else "")
        for path in files(words)
        for wide in (True, False)
        for architecture in architectures()
    ]

    def work(job):
        path, units, architecture, wide = job
        room = path.relative_to(PACKAGE).as_posix()
        resources = nvrtc.compile(units, architecture).resources
        return {(f"{room} {kernel}{wide}", architecture): r for kernel, r in resources.items()}

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {key: r for found in pool.map(work, jobs) for key, r in found.items()}


def written(rows) -> str:
    """The table as text."""
    lines = [f"NVRTC {nvrtc.version()}", ""]
    lines += [f"{k}  {a}  {regs} registers  {shared} bytes" for (k, a), (regs, shared) in sorted(rows.items())]
    return "\n".join(lines) + "\n"


def read() -> tuple[str, dict[tuple[str, str], tuple[int, int]]]:
    """The version of NVRTC, and (kernel, architecture) -> (registers, shared bytes), as the table has them."""
    version, _, *lines = TABLE.read_text().splitlines()
    rows = [line.split("  ") for line in lines]
    return version.split()[1], {(k, a): (int(r.split()[0]), int(s.split()[0])) for k, a, r, s in rows}


def main(words) -> None:
    again = {p.relative_to(PACKAGE).as_posix() for p in files(words)}
    there = {p.relative_to(PACKAGE).as_posix() for p in files()}
    rows = read()[1] if words else {}
    rows = {key: row for key, row in rows.items() if key[0].split()[0] in there - again}
    for (kernel, architecture), r in measured(words).items():
        rows[kernel, architecture] = r.registers, r.shared
        if r.spills:
            print(f"{kernel} spills {r.spills} bytes on {architecture}")
    TABLE.write_text(written(rows))
    print(f"{TABLE}: {len(rows)} rows")


if __name__ == "__main__":
    main(sys.argv[1:])
