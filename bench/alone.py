"""One library in a process of its own: when its first step was done, and the most memory it ever had.

    python -m bench.alone tinyseg|torch step|inference WIDTH SIZE BATCH STARTED

STARTED is the time (seconds since the epoch) at which the parent started this process. Prints a line of JSON.
"""

import json
import re
import resource
import sys
import time
from pathlib import Path


def main(library: str, work: str, width: int, size: int, batch: int, started: float) -> None:
    if library == "tinyseg":
        from .unet_tinyseg import Training

        side = Training(width, size, batch)
    else:
        from .unet_torch import Training

        side = Training(width, size, batch, "channels_last")
    call = side.step if work == "step" else side.infer
    call()
    first = time.time() - started
    for _ in range(3):
        call()
    print(json.dumps({"first": first, "peak": most_memory()}))


def most_memory() -> int:
    """The most bytes that this process ever had in memory. (Linux's ru_maxrss counts the parent's too.)"""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:6]), float(sys.argv[6]))
