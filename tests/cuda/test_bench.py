"""bench.gpu without a GPU: at full size as far as shapes go, tiny ones on the emulated device, and rows that fail."""

import re
import sys

import numpy as np
import pytest

import tinyseg as ts
from bench import gpu
from tinyseg import nn

from .shapes import Shapes, zeros


def test_every_row_runs_at_full_size(monkeypatch):
    """What a GPU would refuse raises here: a conversion that CuPy does not make, a grid, dropout in a graph."""
    monkeypatch.setattr(gpu, "torch_cuda", None)
    device = Shapes()
    bench = gpu.Bench(device, small=False)
    bench.tensor = lambda *shape, seed=0, grad=False: zeros(device, *shape, grad=grad)
    monkeypatch.setattr(gpu.gpu_steps, "example", lambda size, batch: (
        np.broadcast_to(np.float32(0), (batch, size, size, 3)), np.zeros((batch, size, size), int)))  # fmt: skip
    rows = [row for row in bench.rows() if not row.name.startswith("mask_rcnn")]  # which goes by what it finds
    with nn.no_init(device):
        for row in rows:
            run, theirs = row.make()
            run()
            assert theirs is None and row.work > 0
    names = [row.name for row in rows]
    assert len(set(names)) == len(names) and sum("graph" in name for name in names) == 4
    assert sum("conv" in name or "depthwise" in name for name in names) == 2 * len(gpu.LAYERS)
    launched = {p.twin.expression(p.types) for p in device.plans}
    assert {"turned_product<half, half>", "gather_product<float, float>", "sgd_all"} <= launched


def run_main(monkeypatch, *words):
    monkeypatch.setattr(gpu, "torch_cuda", None)
    monkeypatch.setattr(sys, "argv", ["bench.gpu", "--markdown", *words])
    gpu.main()


def test_small_rows_run_on_the_emulated_device(capable, monkeypatch, capsys):
    run_main(monkeypatch, "--small", "--device", capable.name, "--only", "softmax|cross_entropy")
    head, _, *table = capsys.readouterr().out.splitlines()
    assert re.match(r"20\d\d-\d\d-\d\d, usable: .*; copy [\d.e+]+ GB/s, float16 product", head)
    assert len(table) == 2 + 2 and all(line.count("|") == 8 for line in table)
    assert all(re.search(r"\| +[\d.]+ ms \|", line) for line in table[2:])


def test_a_row_that_fails_says_why_and_the_others_follow(monkeypatch, capsys):
    def broken():
        raise MemoryError("out of memory on 'cuda'")

    x = ts.tensor(np.ones(3, np.float32))
    rows = [gpu.Row("first", broken, 1, "GB/s"), gpu.Row("second", lambda: (lambda: x + x, None), 1, "GB/s")]
    monkeypatch.setattr(gpu.Bench, "rows", lambda self: iter(rows))
    with pytest.raises(SystemExit, match="1 rows failed: first"):
        run_main(monkeypatch, "--small", "--device", "cpu")
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first.startswith("| first | failed: MemoryError: out of memory on 'cuda' |") and " ms |" in second


def test_a_call_is_timed_in_batches_that_are_waited_for_once():
    log = []
    taken = gpu.seconds(lambda: log.append("call"), lambda: log.append("wait"), most=3, batches=2)
    assert log == [*["call"] * 2, "wait", "call", "wait", *(["call"] * 3 + ["wait"]) * 2] and 0 < taken < 1
