"""Write a CUDA kernel, run it without a GPU, find its missing barrier, and step through it in a debugger.

05_cuda_kernel.cu beside this file has the kernels; the two declarations below give their arguments. On the emulated
device a thread of the host runs all CUDA threads of a block in a chosen order, so a race is no matter of luck.

The debugger (gdb) stops in one CUDA thread of one block and stays with it over a barrier:

    TINYSEG_EMULATED_FLAGS="-O0 -g3" gdb -q --args python examples/05_cuda_kernel.py
    (gdb) set breakpoint pending on
    (gdb) break row_sums<float> if blockIdx.x == 1 && threadIdx.x == 32
    (gdb) run
    (gdb) next                      a few times: over the loop and the shuffles
    (gdb) print m
    (gdb) print sum
    (gdb) next                      over the barrier: other threads ran, this one goes on
    (gdb) print part
    (gdb) watch part[0]             stops in whichever thread writes it
"""

import os
import re
import shutil
import subprocess
import sys

import numpy as np

from tinyseg.cuda import emulator
from tinyseg.device import Emulated
from tinyseg.kernel import cuda_kernel


@cuda_kernel
def row_sums(y, x, M, K):
    """y[m] = sum_k x[m,k]."""


@cuda_kernel
def row_sums_broken(y, x, M, K):
    """The same without a barrier."""


def run(kernel, order) -> np.ndarray:
    device = Emulated(order)
    x = device.array(np.arange(6 * 100).reshape(6, 100), np.float32)
    y = device.empty(6)  # NaN, until it is written
    device.launch(kernel, y, x, *x.shape)
    return y


def step_in_gdb() -> str:
    """What the commands above show, or why they were not tried."""
    if not shutil.which("gdb"):
        return "gdb is not installed: not tried"
    commands = [
        "set breakpoint pending on", "set confirm off", "set debuginfod enabled off",
        "break row_sums<float> if blockIdx.x == 1 && threadIdx.x == 32",
        "run", *["next"] * 8, "print m", "print sum", "next", "next", "print threadIdx", "print part", "kill",
    ]  # fmt: skip
    options = [part for command in commands for part in ("-ex", command)]
    gdb = ["gdb", "-q", "-batch", *options, "--args", sys.executable, __file__, "--kernel-only"]
    environment = os.environ | {"TINYSEG_EMULATED_FLAGS": "-O0 -g3"}
    done = subprocess.run(gdb, capture_output=True, text=True, env=environment, check=False)
    shown = [line for line in done.stdout.splitlines() if re.match(r"\$|\d+\s", line) or "hit Breakpoint" in line]
    return "\n".join(shown) or done.stderr


if __name__ == "__main__":
    if reason := emulator.unusable():
        sys.exit(f"the emulated device: {reason}")
    if "--kernel-only" in sys.argv:
        run(row_sums, "sequential")
        sys.exit()
    print("right: ", *(run(row_sums, order) for order in ("sequential", "reversed", "random")), sep="\n    ")
    print("broken:", *(run(row_sums_broken, order) for order in ("sequential", "reversed", "random")), sep="\n    ")
    print("in gdb:", step_in_gdb(), sep="\n")
