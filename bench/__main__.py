"""python -m bench: tinyseg beside PyTorch (where it is installed) and beside the machine's peak, a line for each case.

    python -m bench                        everything; a quarter of an hour on two idle cores
    python -m bench --only conv2d          cases whose name matches a regular expression
    python -m bench --quick                fewer rounds: for a look, not for a claim
    python -m bench --best                 the fastest call of each side instead of the median: on a machine in use
    python -m bench --markdown             rows for bench/RESULTS.md
    python -m bench --compile              torch.compile as one more contender
    python -m bench --list                 names only

PyTorch's figure is the best of its contiguous and channels_last layouts. The ratio is ours / PyTorch's: below 1 we are
faster. Structured prediction stands beside other libraries, which its rows name. A row behind its target is marked.
Nothing is timed that does not compute what PyTorch (or that library) and the definition do.
"""

import argparse
import re
import sys
from statistics import median

from . import convolution, deeplab, elementwise, machine, process, structured, unet
from .case import Case, Disagreement, Result, Settings, torch

ROOMS = (convolution, elementwise, unet, deeplab, process, structured)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="cases whose name matches this expression")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--best", action="store_true", help="the fastest call of each side, not the median")
    parser.add_argument("--markdown", action="store_true", help="rows of a table")
    parser.add_argument("--compile", action="store_true", help="torch.compile as one more contender")
    parser.add_argument("--threads", type=int, help="threads of both libraries (default: Numba's)")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args()
    cases = [case for room in ROOMS for case in room.cases() if re.search(options.only, case.name)]
    if options.list or not cases:
        print("\n".join(case.name for case in cases) or f"no case matches {options.only!r}; see --list")
        return int(not cases)
    with unet.thread_limit(options.threads or unet.most_threads()):
        return run(cases, options)


def run(cases: list[Case], options) -> int:
    settings = Settings(2 if options.quick else 6, options.compile, min if options.best else median)
    peaks = {"GFLOP/s": machine.fma_peak(), "GB/s": machine.bandwidth()}
    print(machine.describe() + (f"; PyTorch {torch.__version__}" if torch else "; no PyTorch: ours only"))
    print(f"peak: {peaks['GFLOP/s'] / 1e9:.0f} GFLOP/s float32 from registers, {peaks['GB/s'] / 1e9:.0f} GB/s triad\n")
    write = markdown if options.markdown else line
    width = max(len(case.name) for case in cases)
    print(write(width, "", "tinyseg", "PyTorch", "ratio", "target", "rate", "of peak", "", "PyTorch's best"))
    if options.markdown:
        print("|---" * 9 + "|")
    short, broken = [], []
    for case in cases:
        try:
            result = case.measure(settings)
        except Disagreement as reason:
            broken.append(case.name)
            print(write(width, case.name, "", "", "", "", "", "", "NOT TIMED", str(reason)), flush=True)
            continue
        cells, behind = describe(case, result, peaks)
        short += [case.name] * behind
        print(write(width, case.name, *cells), flush=True)
    print(f"\n{len(cases)} cases, {len(short)} behind their target, {len(broken)} that do not agree")
    return int(bool(broken))


def describe(case: Case, result: Result, peaks: dict[str, float]) -> tuple[list[str], bool]:
    """The cells of a line, and whether it falls short."""
    ratio = result.ours / result.torch if result.torch else None
    behind = bool(case.target and ratio and ratio > case.target) or bool(case.limit and result.ours > case.limit)
    target = f"{case.target:.2f}" if case.target else f"{case.limit:g} {result.unit}" if case.limit else ""
    rate = share = ""
    if result.roof:
        per_second = result.work / (result.ours / 1e3)
        rate, share = quantity(per_second / 1e9, result.roof), f"{per_second / peaks[result.roof]:.0%}"
    cells = [
        quantity(result.ours, result.unit),
        quantity(result.torch, result.unit) if result.torch else "",
        f"{ratio:.2f}" if ratio else "",
        target,
        rate,
        share,
        "behind" if behind else "",
        result.peer,
    ]
    return cells, behind


def quantity(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"


def line(width: int, name: str, ours, theirs, ratio, target, rate, share, mark, note) -> str:
    cells = f"{name:{width}} {ours:>9} {theirs:>9} {ratio:>6} {target:>6} {rate:>13} {share:>8}  {mark:6} {note}"
    return cells.rstrip()


def markdown(width: int, *cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
