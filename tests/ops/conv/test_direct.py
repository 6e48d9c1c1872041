"""The steps of the direct algorithm that have a meaning of their own."""

import sys

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.ops.conv.direct import pack_filters, pad_columns, sum_parts
from tinyseg.ops.conv.simd import COLUMNS

from ...strategies import normal

cpu = ts.get_device("cpu")


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups, Cg, Kg", [(1, 3, 5), (1, COLUMNS + 1, 2 * COLUMNS), (3, 4, COLUMNS + 7)])
def test_pack_filters(groups, Cg, Kg, transposed):
    """panels[g, p, tap, i, j] is w of tap, input channel i and output channel p COLUMNS + j of group g; else zero."""
    R, S, K = 2, 3, groups * Kg
    w = normal((R, S, Cg, K), 0, np.float32)
    run, columns = (Kg, Cg) if transposed else (Cg, Kg)
    count = -(-columns // COLUMNS)
    panels = np.full((groups, count, R * S, run, COLUMNS), np.nan, np.float32)
    cpu.launch(pack_filters, panels, w, R, S, Cg, K, groups, transposed, 0)
    wide = panels.transpose(2, 3, 0, 1, 4).reshape(R, S, run, groups, count * COLUMNS)
    by_group = w.reshape(R, S, Cg, groups, Kg)
    expected = by_group.transpose(0, 1, 4, 3, 2) if transposed else by_group.transpose(0, 1, 2, 3, 4)
    assert np.array_equal(wide[..., :columns], expected)
    assert not wide[..., columns:].any()
    rest = np.full((groups, count - 1, *panels.shape[2:]), np.nan, np.float32)
    cpu.launch(pack_filters, rest, w, R, S, Cg, K, groups, transposed, 1)
    assert np.array_equal(rest, panels[:, 1:])


@pytest.mark.parametrize("stride", [1, 2])
def test_filters_packed_in_slabs_make_the_same_map(monkeypatch, stride):
    """A panel at a time, to the bit: large filters must not need a second copy of themselves."""
    x, w, b = (normal(shape, i, np.float32) for i, shape in enumerate([(2, 9, 8, 64), (5, 5, 64, 96), (96,)]))
    dy, found = normal((2, -(-5 // stride), -(-4 // stride), 96), 3, np.float32), []
    for slab in (1 << 30, 1):
        monkeypatch.setattr(sys.modules["tinyseg.ops.conv.conv2d"], "SLAB", slab)
        tensors = [ts.tensor(a, requires_grad=True) for a in (x, w, b)]
        y = ts.ops.conv2d(*tensors, stride=stride)
        y.backward(dy)
        found.append([y.numpy(), *(t.grad.numpy() for t in tensors)])
    assert all(np.array_equal(one, other) for one, other in zip(*found))


def test_pad_columns():
    x = normal((5, 7, 3), 0, np.float32)
    out = np.full((5, 12, 3), np.nan, np.float32)
    cpu.launch(pad_columns, out.reshape(-1), x.reshape(-1), 5, 7, 3, 2, 12)
    assert np.array_equal(out, np.pad(x, ((0, 0), (2, 3), (0, 0))))


def test_sum_parts_adds_in_order():
    parts = normal((4, 100), 0, np.float32)
    total = np.empty(100, np.float32)
    cpu.launch(sum_parts, total, parts, 4, 100)
    assert np.array_equal(total, ((parts[0] + parts[1]) + parts[2]) + parts[3])
