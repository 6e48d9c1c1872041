"""Mistakes that only a sanitizer can see are planted (broken.cu) and must be found; right kernels must pass.

    python -m tests.cuda.planted         in an environment that `tests/cuda/sanitized` has set up
"""

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tinyseg.device import Emulated

from .broken import kernels
from .forked import forked

K = SimpleNamespace(**kernels())


def floats(n):
    return np.random.default_rng(0).standard_normal(n).astype(np.float32)


def empty(n):
    return np.empty(n, np.float32)


MEMORY = {
    "a global array's end": lambda d: d.launch(K.beyond_the_end, empty(50), floats(64)),
    "the end of shared memory": lambda d: d.launch(K.beyond_shared, empty(32)),
    "the end of dynamic shared memory": lambda d: d.launch(K.beyond_dynamic_shared, empty(64)),
    "a misaligned vector": lambda d: d.launch(K.misaligned, empty(1), floats(64)),
    "an integer that overflows": lambda d: d.launch(K.overflow, np.empty(1, np.int32), 70000),
}
RACES = {
    "no barrier": lambda d: d.launch(K.no_barrier, empty(64), floats(64)),
    "no second barrier in a loop": lambda d: d.launch(K.no_second_barrier, empty(64), floats(320), 5),
    "no __syncwarp": lambda d: d.launch(K.no_syncwarp, empty(1), floats(32)),
    "two blocks add to one place": lambda d: d.launch(K.blocks_overlap, np.zeros(48, np.float32)),
    "a scatter without atomics": lambda d: d.launch(K.scatter, np.zeros(4, np.float32), floats(64), PLACES, 64),
    "no barrier behind an asynchronous copy": lambda d: d.launch(K.copy_no_barrier, empty(128), floats(128)),
}
PLACES = np.arange(64, dtype=np.int32) % 4
RIGHT = {
    "votes, shuffles, reductions": lambda d: d.launch(K.collectives, np.empty((3, 96, 8), np.int32), empty(288)),
    "atomics and a lock": lambda d: d.launch(K.counters, np.zeros(5, np.int32), np.zeros(1, np.uint32)),
    "an asynchronous copy": lambda d: d.launch(K.copy_right, empty(128), floats(128)),
    "a product of matrices": lambda d: d.launch(K.matrix_tf32, empty(128), floats(128), floats(64)),
}


def stopped(work) -> bool:
    """Whether the address sanitizer ends a process that does this."""
    return forked(lambda: work(Emulated())) != 0


def reported(work) -> bool:
    """Whether the thread sanitizer, which sees nothing in a forked process, writes of a race into its log."""
    before = _log_size()
    work(Emulated())
    return _log_size() > before


def _log_size() -> int:
    log = Path(f"{os.environ['TSAN_LOG']}.{os.getpid()}")
    return log.stat().st_size if log.exists() else 0


def main() -> int:
    races = os.environ.get("TINYSEG_SANITIZE") == "thread"
    if races and "TSAN_LOG" not in os.environ:  # once more, with a sanitizer that goes on after a finding
        log = os.path.join(tempfile.mkdtemp(), "log")
        os.environ |= {"TSAN_LOG": log, "TSAN_OPTIONS": f"exitcode=0:history_size=0:log_path={log}"}
        os.execv(sys.executable, [sys.executable, "-m", "tests.cuda.planted"])
    wrong = 0
    for cases, expected in ((RACES if races else MEMORY, True), (RIGHT, False)):
        for name, work in cases.items():
            found = (reported if races else stopped)(work)
            wrong += found != expected
            verdict = {(1, 1): "found", (0, 1): "NOT FOUND", (0, 0): "passes", (1, 0): "FALSE ALARM"}[found, expected]
            print(f"{name}: {verdict}")
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
