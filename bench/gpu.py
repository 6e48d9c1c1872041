"""python -m bench.gpu: operators, convolutions and training steps on a GPU, beside PyTorch's where it has CUDA.

    python -m bench.gpu                        everything: a few minutes
    python -m bench.gpu --only conv2d          rows whose name matches a regular expression
    python -m bench.gpu --markdown             rows for bench/RESULTS.md
    python -m bench.gpu --compile              PyTorch's steps compiled
    python -m bench.gpu --small --device emulated       tiny sizes, to see that it runs: no figure of it means anything

Memory-bound rows are a share of the bandwidth of a copy, convolutions of the rate of the GPU's own matrix product in
float16, both measured first. Times are medians of batches of calls that are waited for once.
"""

import argparse
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from statistics import median
from typing import NamedTuple

import numpy as np

import tinyseg as ts

from . import gpu_steps
from .case import torch
from .convolution import LAYERS

torch_cuda = torch if torch and torch.cuda.is_available() else None


class Row(NamedTuple):
    """What one call of ours and of PyTorch's does at least: bytes moved, or FLOP."""

    name: str
    ours: Callable
    theirs: Callable | None
    work: float
    unit: str  # "GB/s" or "TFLOP/s"


def seconds(call: Callable, wait: Callable, calls: int, batches: int = 5) -> float:
    """The median time of a call in batches that are waited for once."""
    call()
    wait()
    times = []
    for _ in range(batches):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        times.append((time.perf_counter() - start) / calls)
    return median(times)


class Bench:
    """The device, sizes, and arrays on both sides."""

    def __init__(self, device: str, small: bool, compiled: bool = False):
        self.device, self.small, self.compiled = ts.get_device(device), small, compiled
        self.calls = 1 if small else 20

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
        yield from self.training()

    def memory_bound(self):
        F, n, h, c = torch and torch.nn.functional, self.size(8, 1), self.size(256), self.size(64)
        x, dy = self.tensor(n, h, h, c, grad=True), self.tensor(n, h, h, c, seed=1)
        size = 4 * x.size
        yield self.both("relu", x, dy, ts.ops.relu, lambda t: F.relu(t), 5 * size)
        yield self.both("add", x, dy, lambda x: x + dy, lambda t: t + self.twin_of_dy, 3 * size)
        numbers = [self.tensor(c, seed=i, grad=i < 2) for i in range(2)]
        running = [ts.tensor(np.zeros(c, np.float32), self.device), ts.tensor(np.ones(c, np.float32), self.device)]
        theirs = torch_cuda and [self.twin(t) for t in (*running, *numbers)]
        yield self.both(
            "batch norm + ReLU", x, dy, lambda x: ts.ops.batch_norm_relu(x, *running, *numbers, True),
            lambda t: F.relu(F.batch_norm(t, *theirs, training=True)), 8 * size,
        )  # fmt: skip
        half = self.tensor(n, h // 2, h // 2, c, seed=1)
        yield self.both("max_pool2d 2x2", x, half, lambda x: ts.ops.max_pool2d(x, 2), lambda t: F.max_pool2d(t, 2),
                        2.5 * size)  # fmt: skip
        logits, k, zoom = self.tensor(n, h // 8, h // 8, 21, grad=True), 21, (h, h)
        large = self.tensor(n, h, h, k, seed=1, grad=True)
        yield self.both(
            "interpolate bilinear x8", logits, self.tensor(n, h, h, k, seed=2),
            lambda x: ts.ops.interpolate(x, size=zoom), lambda t: F.interpolate(t, size=zoom, mode="bilinear"),
            2 * 4 * (large.size + logits.size),
        )  # fmt: skip
        target = ts.tensor(np.random.default_rng(0).integers(0, k, (n, h, h)).astype(np.int32), self.device)
        labels = torch_cuda and torch.tensor(target.numpy(), device="cuda", dtype=torch.long)
        yield self.both("softmax", large, self.tensor(n, h, h, k, seed=2), ts.ops.softmax, lambda t: F.softmax(t, 1),
                        5 * 4 * large.size)  # fmt: skip
        yield self.both("cross_entropy", large, None, lambda x: ts.ops.cross_entropy(x, target),
                        lambda t: F.cross_entropy(t, labels), 3 * 4 * large.size)  # fmt: skip

    def both(self, name, x, dy, ours, theirs, work) -> Row:
        """Forward and backward of one operator; dy is None for a loss."""
        if torch_cuda:
            t, dt = self.twin(x), None if dy is None else self.twin(dy)
            self.twin_of_dy = dt

        def run():
            x.grad = None
            ours(x).backward(dy)

        def run_torch():
            t.grad = None
            theirs(t).backward(dt)

        return Row(f"{name} {'x'.join(map(str, x.shape))}", run, run_torch if torch_cuda else None, work, "GB/s")

    def convolutions(self):
        for layer in [layer for layer in LAYERS if not layer.transposed][: 1 if self.small else None]:
            g = layer.geometry
            n, h, w, c = (1, 12, 12, g.C) if self.small else g.x_shape
            x, f = self.tensor(n, h, w, c, grad=True), self.tensor(*g.w_shape, seed=1, grad=True)
            options = dict(stride=g.stride, padding=g.padding, dilation=g.dilation, groups=g.groups)
            for mode in ("float32", "autocast"):
                name, context = str(layer), self.mode(mode)
                with context():
                    shape = ts.ops.conv2d(x, f, **options).shape
                yield self.conv(f"{name} {mode} forward+backward", x, f, self.tensor(*shape, seed=2), options, context)

    def mode(self, name):
        return ts.autocast if name == "autocast" else nullcontext

    def conv(self, name, x, f, dy, options, context) -> Row:
        run_torch = None
        if torch_cuda:
            torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
            t, dt = self.twin(x), self.twin(dy)
            w = torch.tensor(f.numpy().transpose(3, 2, 0, 1), device="cuda")
            w = w.contiguous(memory_format=torch.channels_last).requires_grad_()

            def run_torch():
                t.grad = w.grad = None
                with torch.autocast("cuda", enabled=context is ts.autocast):
                    torch.nn.functional.conv2d(t, w, **options).backward(dt)

        def run():
            x.grad = f.grad = None
            with context():
                y = ts.ops.conv2d(x, f, **options)
            y.backward(dy.data.astype(y.dtype))

        flop = 3 * 2 * dy.size * f.size / f.shape[3]
        return Row(name, run, run_torch, flop, "TFLOP/s")

    def training(self):
        for step in gpu_steps.steps(self.device, self.small, self.compiled, torch_cuda):
            yield Row(step.name, step.ours, step.theirs, step.flop, "TFLOP/s")


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
    print(f"{ts.device.usable_devices()[bench.device.name.split(':')[0]]}; "
          f"copy {top['GB/s'] / 1e9:.4g} GB/s, float16 product {top['TFLOP/s'] / 1e12:.3g} TFLOP/s")  # fmt: skip
    if options.markdown:
        print("\n| what | ours | PyTorch | ours / PyTorch | rate | of the peak | memory |")
        print("|---|--:|--:|--:|--:|--:|--:|")
    for row in bench.rows():
        if not re.search(options.only, row.name):
            continue
        ours = seconds(row.ours, bench.wait, bench.calls)
        theirs = seconds(row.theirs, bench.wait_torch, bench.calls) if row.theirs else None
        cells = [f"{row.name:64}", f"{1e3 * ours:9.3f} ms", f"{1e3 * theirs:9.3f} ms" if theirs else " " * 12]
        cells.append(f"{ours / theirs:5.2f}" if theirs else " " * 5)
        if row.work:
            scale = 1e9 if row.unit == "GB/s" else 1e12
            cells += [f"{row.work / ours / scale:8.3g} {row.unit}", f"{row.work / ours / top[row.unit]:4.0%}"]
        if ("step" in row.name or "inference" in row.name) and "graph" not in row.name:
            pools = [gpu_steps.pool_bytes(row.ours, bench.device)]
            pools += [gpu_steps.pool_bytes(row.theirs, bench.device, torch_cuda)] if row.theirs else []
            cells.append(" against ".join(f"{b / 2**20:.0f} MiB" for b in pools))
        if options.markdown:
            print(f"| {' | '.join(c.strip() for c in (*cells, *[''] * (7 - len(cells))))} |", flush=True)
        else:
            print("  ".join(cells).rstrip(), flush=True)


if __name__ == "__main__":
    main()
