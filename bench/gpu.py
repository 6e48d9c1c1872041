"""python -m bench.gpu: operators, convolutions and training steps on a GPU, beside PyTorch's where it has CUDA.

    python -m bench.gpu                        everything: a few minutes
    python -m bench.gpu --only conv2d          rows whose name matches a regular expression
    python -m bench.gpu --markdown             rows for bench/RESULTS.md
    python -m bench.gpu --compile              PyTorch's steps compiled
    python -m bench.gpu --small --device emulated       tiny sizes, to see that it runs: no figure of it means anything

Memory-bound rows are a share of the bandwidth of a copy, convolutions of the rate of the GPU's own matrix product in
float16, both measured first. Times are medians of batches of calls that are waited for once. A row that fails says why,
and the others follow; the exit status is then 1.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from statistics import median
from typing import NamedTuple

import numpy as np

import tinyseg as ts

from . import gpu_steps
from .case import torch
from .convolution import LAYERS

torch_cuda = torch if torch and torch.cuda.is_available() else None


class Row(NamedTuple):
    """What makes one call of ours and of PyTorch's (or None), and what a call does at least: bytes moved, or FLOP."""

    name: str
    make: Callable
    work: float  # 0: unknown
    unit: str  # "GB/s" or "TFLOP/s"


def seconds(call: Callable, wait: Callable, most: int, batches: int = 5) -> float:
    """The median time of a call in batches of a tenth of a second, `most` calls at most, that are waited for once."""
    for _ in range(2):  # the first compiles, chooses algorithms and fills pools
        call()
    wait()
    calls, times = 1, []
    for _ in range(batches + 1):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        times.append((time.perf_counter() - start) / calls)
        if len(times) == 1:
            calls = max(1, min(most, int(0.1 / times[0])))
    return median(times[1:])


class Bench:
    """The device, sizes, and arrays on both sides."""

    def __init__(self, device: str, small: bool, compiled: bool = False):
        self.device, self.small, self.compiled = ts.get_device(device), small, compiled
        self.calls = 1 if small else 100

    def wait(self):
        self.device.numpy(self.device.zeros(1))

    def wait_torch(self):
        torch_cuda.cuda.synchronize()

    def size(self, full: int, small: int = 8) -> int:
        return small if self.small else full

    def tensor(self, *shape, seed=0, grad=False):
        return ts.tensor(np.random.default_rng(seed).standard_normal(shape, np.float32), self.device, grad)

    def twin(self, tensor):
        """The same values in PyTorch, channels last where there are four axes."""
        array = torch_cuda.tensor(tensor.numpy(), device="cuda")
        if array.ndim == 4:
            array = array.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        return array.requires_grad_(tensor.requires_grad)

    # ---- rows

    def rows(self):
        yield from self.memory_bound()
        yield from self.convolutions()
        for name, make, flop in gpu_steps.steps(self.device, self.small, self.compiled, torch_cuda):
            yield Row(name, make, flop, "TFLOP/s")

    def memory_bound(self):
        F, n, h, c = torch and torch.nn.functional, self.size(8, 1), self.size(256), self.size(64)
        x, dy = self.tensor(n, h, h, c, grad=True), self.tensor(n, h, h, c, seed=1)
        size = 4 * x.size
        yield self.both("relu", x, dy, ts.ops.relu, lambda t, _: F.relu(t), 5 * size)
        yield self.both("add", x, dy, lambda x: x + dy, lambda t, dt: t + dt, 3 * size)
        numbers = [self.tensor(c, seed=i, grad=i < 2) for i in range(2)]
        running = [ts.tensor(np.zeros(c, np.float32), self.device), ts.tensor(np.ones(c, np.float32), self.device)]
        theirs = torch_cuda and [self.twin(t) for t in (*running, *numbers)]
        yield self.both(
            "batch norm + ReLU", x, dy, lambda x: ts.ops.batch_norm_relu(x, *running, *numbers, True),
            lambda t, _: F.relu(F.batch_norm(t, *theirs, training=True)), 8 * size,
        )  # fmt: skip
        half = self.tensor(n, h // 2, h // 2, c, seed=1)
        yield self.both("max_pool2d 2x2", x, half, lambda x: ts.ops.max_pool2d(x, 2), lambda t, _: F.max_pool2d(t, 2),
                        2.5 * size)  # fmt: skip
        logits, k, zoom = self.tensor(n, h // 8, h // 8, 21, grad=True), 21, (h, h)
        large = self.tensor(n, h, h, k, seed=1, grad=True)
        yield self.both(
            "interpolate bilinear x8", logits, self.tensor(n, h, h, k, seed=2),
            lambda x: ts.ops.interpolate(x, size=zoom), lambda t, _: F.interpolate(t, size=zoom, mode="bilinear"),
            2 * 4 * (large.size + logits.size),
        )  # fmt: skip
        target = ts.tensor(np.random.default_rng(0).integers(0, k, (n, h, h)).astype(np.int32), self.device)
        labels = torch_cuda and torch.tensor(target.numpy(), device="cuda", dtype=torch.long)
        yield self.both("softmax", large, self.tensor(n, h, h, k, seed=2), ts.ops.softmax,
                        lambda t, _: F.softmax(t, 1), 5 * 4 * large.size)  # fmt: skip
        yield self.both("cross_entropy", large, None, lambda x: ts.ops.cross_entropy(x, target),
                        lambda t, _: F.cross_entropy(t, labels), 3 * 4 * large.size)  # fmt: skip

    def both(self, name, x, dy, ours, theirs, work) -> Row:
        """Forward and backward of one operator; dy is None for a loss."""

        def run():
            x.grad = None
            ours(x).backward(dy)

        def make():
            if not torch_cuda:
                return run, None
            t, dt = self.twin(x), None if dy is None else self.twin(dy)

            def run_torch():
                t.grad = None
                theirs(t, dt).backward(dt)

            return run, run_torch

        return Row(f"{name} {'x'.join(map(str, x.shape))}", make, work, "GB/s")

    def convolutions(self):
        for layer in LAYERS[: 1 if self.small else None]:
            for mode in ("float32", "autocast"):
                name = f"{layer} {mode} forward+backward"
                g = (replace(layer, n=1, size=12) if self.small else layer).geometry
                flop = 3 * 2 * g.N * g.P * g.Q * g.K * g.R * g.S * g.C / g.groups
                half = mode == "autocast"
                yield Row(name, partial(self.conv, g, layer.transposed, half), flop, "TFLOP/s")

    def conv(self, g, transposed: bool, half: bool):
        """Forward and backward of a convolution of geometry g, or of its adjoint."""
        context = ts.autocast if half else nullcontext
        given, result = (g.y_shape, g.x_shape) if transposed else (g.x_shape, g.y_shape)
        x, f, dy = (
            self.tensor(*given, grad=True),
            self.tensor(*g.w_shape, seed=1, grad=True),
            self.tensor(*result, seed=2),
        )
        options = dict(stride=g.stride, padding=g.padding, dilation=g.dilation, groups=g.groups)
        op = ts.ops.conv_transpose2d if transposed else ts.ops.conv2d
        run_torch = None
        if torch_cuda:
            torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
            t, dt = self.twin(x), self.twin(dy)
            w = torch.tensor(f.numpy().transpose(3, 2, 0, 1), device="cuda")
            w = w.contiguous(memory_format=torch.channels_last).requires_grad_()
            their_op = getattr(torch.nn.functional, op.__name__)

            def run_torch():
                t.grad = w.grad = None
                with torch.autocast("cuda", enabled=half):
                    y = their_op(t, w, **options)
                y.backward(dt.to(y.dtype))

        def run():
            x.grad = f.grad = None
            with context():
                y = op(x, f, **options)
            y.backward(dy)  # in y's type, as PyTorch's

        return run, run_torch


def peaks(bench: Bench) -> dict[str, float]:
    """Bytes a second of a copy, and FLOP a second of a product of matrices in float16."""
    device, n = bench.device, bench.size(1 << 28, 1 << 12)
    a = device.zeros((n // 4,))
    copy = 2 * n / seconds(lambda: device.copy(a), bench.wait, bench.calls)
    m = bench.size(8192, 64)
    b = device.array(np.random.default_rng(0).standard_normal((m, m), np.float32).astype(np.float16))
    # random numbers: of zeros a GPU makes products faster, having less power to spend
    product = 2 * m**3 / seconds(lambda: device.xp.matmul(b, b), bench.wait, bench.calls)
    return {"GB/s": copy, "TFLOP/s": product}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default="", metavar="PATTERN", help="rows whose name matches this expression")
    parser.add_argument("--small", action="store_true", help="tiny sizes: a check that everything runs")
    parser.add_argument("--compile", action="store_true", help="PyTorch's steps by torch.compile")
    parser.add_argument("--markdown", action="store_true", help="rows of a table")
    options = parser.parse_args()
    bench = Bench(options.device, options.small, options.compile)
    top = peaks(bench)
    print(f"{time.strftime('%Y-%m-%d')}, {ts.device.usable_devices()[bench.device.name.split(':')[0]]}; "
          f"copy {top['GB/s'] / 1e9:.4g} GB/s, float16 product {top['TFLOP/s'] / 1e12:.3g} TFLOP/s")  # fmt: skip
    if options.markdown:
        print("\n| what | ours | PyTorch | ours / PyTorch | rate | of the peak | memory |")
        print("|---|--:|--:|--:|--:|--:|--:|")
    failed = []
    for row in bench.rows():
        if not re.search(options.only, row.name):
            continue
        try:
            cells = measured(bench, row, top)
        except Exception as error:  # the rows behind it are worth as much
            failed.append(row.name)
            cells = [
                f"{row.name:64}",
                f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            ]
        if options.markdown:
            print(f"| {' | '.join(c.strip() for c in (*cells, *[''] * (7 - len(cells))))} |", flush=True)
        else:
            print("  ".join(cells).rstrip(), flush=True)
    if failed:
        sys.exit(f"{len(failed)} rows failed: {', '.join(failed)}")


def measured(bench: Bench, row: Row, top: dict[str, float]) -> list[str]:
    """The cells of a row."""
    run, run_torch = row.make()
    ours = seconds(run, bench.wait, bench.calls)
    theirs = seconds(run_torch, bench.wait_torch, bench.calls) if run_torch else None
    cells = [f"{row.name:64}", f"{1e3 * ours:9.3f} ms", f"{1e3 * theirs:9.3f} ms" if theirs else " " * 12]
    cells.append(f"{ours / theirs:5.2f}" if theirs else " " * 5)
    if row.work:
        scale = 1e9 if row.unit == "GB/s" else 1e12
        cells += [f"{row.work / ours / scale:8.3g} {row.unit}", f"{row.work / ours / top[row.unit]:4.0%}"]
    else:
        cells += [" " * 16, " " * 4]
    if ("step" in row.name or "inference" in row.name) and "graph" not in row.name:
        pools = [gpu_steps.pool_bytes(run, bench.device)]
        pools += [gpu_steps.pool_bytes(run_torch, bench.device, torch_cuda)] if run_torch else []
        cells.append(" against ".join(f"{b / 2**20:.0f} MiB" for b in pools))
    return cells


if __name__ == "__main__":
    main()
