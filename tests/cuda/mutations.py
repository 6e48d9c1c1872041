"""Deletes each barrier and each bounds test of the .cu files in turn: the tests must notice.

    python -m tests.cuda.mutations [words of names]

A mutant of ops/foo.cu is run by tests/ops/test_foo.py on the emulated device with its threads in random order, in a
child process, since it may crash or hang. A survivor is a line that no test needs, or a test that is missing.
"""

import dataclasses
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.cuda import source
from tinyseg.device import Emulated

from .forked import forked

PACKAGE, TESTS = Path(ts.__file__).parent, Path(__file__).parents[1]

# Where the tests of a file are, if not in the file of its name.
ELSEWHERE = {
    "ops/conv/plain.cu": ["ops/conv/test_conv2d.py"],
    "ops/conv/depthwise.cu": ["ops/conv/test_conv2d.py"],
    "ops/conv/direct.cu": ["ops/conv/test_conv2d.py"],
    "ops/optimizer.cu": ["test_optim.py"],
    "ops/multi_tensor.cu": ["test_optim.py"],
    "ops/max_pool2d.cu": ["cuda/test_late_checks.py", "ops/test_max_pool2d.py"],
    "ops/cross_entropy.cu": ["cuda/test_late_checks.py", "ops/test_cross_entropy.py"],
    "cuda/common.cuh": ["cuda/test_emulator.py"],
    "cuda/matrix.cuh": ["ops/conv/test_tensorcore.py"],
    "ops/conv/gather.cuh": ["ops/conv/test_tensorcore.py"],
    "ops/conv/gradient.cuh": ["ops/conv/test_tensorcore.py"],
}

MUTATIONS = [
    re.compile(r"__syncthreads\(\);|__syncwarp\(\);|cp_wait<\d+>\(\);"),
    re.compile(r"if \([^;{}]*\) continue;"),  # what lies outside is skipped
    re.compile(r"(?<=[(\s])(?:0 <= [\w\[\]]+ && )?[\w\[\]]+ < [A-Z]\w* \? "),  # outside counts as something else
]


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A file with one piece of it blanked out."""

    path: Path
    begin: int
    end: int
    text: str

    @property
    def name(self) -> str:
        original = self.path.read_text()
        line = original.count("\n", 0, self.begin) + 1
        return f"{self.path.relative_to(PACKAGE)}:{line} without {original[self.begin : self.end].strip()}"

    @property
    def tests(self) -> list[str]:
        room = self.path.relative_to(PACKAGE)
        named = ELSEWHERE.get(room.as_posix(), [(room.parent / f"test_{room.stem}.py").as_posix()])
        return [str(TESTS / name) for name in named]


def mutants(path: Path) -> list[Mutant]:
    text = path.read_text()
    code = re.sub(r"//[^\n]*|#define(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    found = []
    for pattern in MUTATIONS:
        for m in pattern.finditer(code):
            if re.match(r"[^\n]*// (saves work|redundant)", text[m.end() :]):
                continue  # without it the same comes out
            instead = "true ? " if m[0].endswith("? ") else ";"
            found.append(Mutant(path, m.start(), m.end(), text[: m.start()] + instead + text[m.end() :]))
    return found


def survives(mutant: Mutant) -> bool:
    """Whether the tests pass with it."""

    def run():
        original, headers = source.source, source.HEADERS
        if mutant.path.suffix == ".cuh":  # in a folder of headers that comes before the kernels' own
            folder = Path(tempfile.mkdtemp(prefix="mutant-"))
            for header in headers.glob("*.cuh"):
                (folder / header.name).write_text(header.read_text())
            (folder / mutant.path.name).write_text(mutant.text)
            source.HEADERS = folder
            from tinyseg.cuda import emulator

            emulator.HEADERS = folder
        else:

            def mutated(path, types, wide):
                found = original(path, types, wide)
                return dataclasses.replace(found, text=mutant.text) if path == mutant.path else found

            source.source = mutated
        return passes(mutant.tests)

    return forked(run, seconds=120) == 0


GUARD = 64  # elements before and behind each array that no kernel may write


def passes(tests: list[str]) -> int:
    """Run tests, with a guard around all memory of the emulated device; 0 if all pass and no guard was touched."""
    guarded = []

    def empty(self, shape, dtype=np.float32):
        size = int(np.prod(shape))
        whole = np.full(size + 2 * GUARD, 77, dtype)
        whole[GUARD : GUARD + size].view(np.uint8).fill(255)
        guarded.append((whole, size))
        if len(guarded) > 500:
            touched.extend(filter(_touched, guarded))
            guarded.clear()
        return whole[GUARD : GUARD + size].reshape(shape)

    touched = []
    Emulated.empty = empty
    os.environ["HYPOTHESIS_PROFILE"] = "few"
    failed = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--device", "emulated:random", *tests])
    return int(failed or bool(touched) or any(map(_touched, guarded)))


def _touched(array) -> bool:
    whole, size = array
    return bool((whole[:GUARD] != 77).any() or (whole[GUARD + size :] != 77).any())


def main(words) -> int:
    files = sorted([*PACKAGE.rglob("*.cu"), *PACKAGE.rglob("*.cuh")])
    chosen = [m for path in files for m in mutants(path) if not words or any(w in m.name for w in words)]
    start = time.monotonic()
    every_test = sorted({name for mutant in chosen for name in mutant.tests})
    if forked(lambda: passes(every_test), seconds=300):
        print(f"without any mutation these do not pass: {' '.join(every_test)}")
        return 1
    survivors = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, alive in zip(chosen, pool.map(survives, chosen)):
            print(f"{mutant.name}: {'SURVIVES' if alive else 'noticed'}", flush=True)
            survivors += [mutant] if alive else []
    print(f"{len(chosen)} mutants, {len(survivors)} survive ({time.monotonic() - start:.0f} s)")
    return bool(survivors) or not chosen


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
