"""Medians of interleaved blocks.

Two libraries in one process disturb each other: idle OpenMP threads spin for a while and take the cores from whoever
comes next, and a machine is never equally fast for long. So the contenders take turns, each behind a sleep, in which
the other's threads go idle, and a call that is not timed, which wakes its own.
"""

import time
from collections.abc import Callable
from statistics import median


def interleaved(
    contenders: dict[str, Callable], blocks=5, calls=5, seconds=1.0, pause=0.05, summary: Callable = median
) -> dict[str, float]:
    """The median time of a call of each contender, in seconds; `summary` may be min: on a machine that others use.

    `blocks` rounds, in each of which every contender makes up to `calls` timed calls in about `seconds`.
    """
    times = {name: [] for name in contenders}
    for _ in range(blocks):
        for name, call in contenders.items():
            time.sleep(pause)
            call()
            end = time.perf_counter() + seconds
            for i in range(calls):
                start = time.perf_counter()
                if i and start > end:
                    break
                call()
                times[name].append(time.perf_counter() - start)
    return {name: summary(values) for name, values in times.items()}
