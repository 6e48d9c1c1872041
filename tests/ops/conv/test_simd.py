"""The micro-kernel by itself: C[m, j] = sum_t sum_i A[t, m, i] B[t, i, j], and what is done to it in the end."""

import numba
import numpy as np
import pytest

from tinyseg.ops.conv.simd import (
    COLUMNS,
    ENTRY,
    FINISH,
    LANES,
    ROWS,
    VECTORS,
    add_rows,
    address,
    copy_floats,
    keep,
    multiply_tile,
)


@numba.njit
def call_multiply_tile(out, c_rows, a, panel, table, taps, run, a_step, a_shift, c_shift, width, accumulate, epilogue,
                       added):  # fmt: skip
    """Addresses from arrays, then the micro-kernel. `table` and `c_rows` hold offsets in floats."""
    entries = np.empty(table.shape, np.int64)
    for t in range(table.shape[0]):
        entries[t, 0] = table[t, 0] * 4
        for m in range(1, ENTRY):
            entries[t, m] = address(a) + table[t, m] * 4
    rows = np.empty(ROWS, np.int64)
    for m in range(ROWS):
        rows[m] = address(out) + c_rows[m] * 4
    finish = np.zeros(FINISH, np.int64)
    finish[0], finish[1] = address(epilogue), epilogue.shape[1] * 4
    if len(added):
        finish[2] = address(added) - address(out)
    multiply_tile(address(entries), taps, run, a_step * 4, a_shift * 4, address(panel), panel.shape[1] * 4,
                  address(rows), c_shift * 4, width, accumulate, address(finish) if len(epilogue) else 0)  # fmt: skip
    keep(entries, rows, finish)


def test_the_tile_fits_the_registers():
    assert COLUMNS == LANES * VECTORS
    assert ENTRY == ROWS + 1
    assert ROWS * VECTORS + VECTORS + 1 <= {16: 32, 8: 16, 4: 32}[LANES]


@pytest.mark.parametrize("columns", [1, LANES, LANES + 3, COLUMNS])
@pytest.mark.parametrize("last", ["", "epilogue", "epilogue and shortcut"])
@pytest.mark.parametrize("accumulate", [0, 1])
@pytest.mark.parametrize("taps, run, a_step", [(0, 4, 1), (1, 0, 1), (1, 1, 1), (3, 5, 1), (2, 17, 3)])
def test_the_sum(taps, run, a_step, accumulate, last, columns):
    rng = np.random.default_rng(taps)
    a = rng.standard_normal(2000).astype(np.float32)
    width = COLUMNS + 5 * accumulate
    panel = rng.standard_normal((max(taps, 1) * run + 1, width)).astype(np.float32)
    epilogue = rng.standard_normal((3 if last else 0, COLUMNS + 2)).astype(np.float32)
    added = rng.standard_normal((ROWS if "shortcut" in last else 0, COLUMNS + 8)).astype(np.float32)
    out = rng.standard_normal((ROWS, COLUMNS + 8)).astype(np.float32)
    table = np.zeros((taps, ENTRY), np.int64)
    table[:, 0] = rng.permutation(taps) * run * width  # where a tap's B stands in the panel
    table[:, 1:] = rng.integers(0, 1900, (taps, ROWS))  # rows of A lie anywhere
    expected = out.astype(np.float64)
    tile = expected[:, 3 : 3 + columns]
    if not accumulate:
        tile[:] = 0
    for t in range(taps):
        first = table[t, 0] // width
        for i in range(run):
            tile += np.outer(a[table[t, 1:] + 2 + i * a_step], panel[first + i, :columns].astype(np.float64))
    if last:
        factor, addend, floor = epilogue[:, :columns]
        tile[:] = factor * tile + addend + (added[:, 3 : 3 + columns] if len(added) else 0)
        np.maximum(tile, floor, out=tile)
    c_rows = np.arange(ROWS) * (COLUMNS + 8)
    call_multiply_tile(out, c_rows, a, panel, table, taps, run, a_step, 2, 3, columns, accumulate, epilogue, added)
    np.testing.assert_allclose(out, expected, atol=2e-5)
    beside = np.r_[:3, 3 + columns : COLUMNS + 8]
    assert np.array_equal(out[:, beside], expected[:, beside])


@numba.njit
def call_copy_floats(target, source, count, room):
    copy_floats(address(target) + 4, address(source), count, room)


@pytest.mark.parametrize("count, room", [(0, 0), (0, 1), (1, 1), (3, 40), (LANES, LANES), (2 * LANES + 3,) * 2])
def test_copy_floats(count, room):
    source = np.arange(1, 200, dtype=np.float32)
    target = np.full(200, -1, np.float32)
    call_copy_floats(target, source, count, room)
    expected = np.full(200, -1, np.float32)
    expected[1 : 1 + room] = 0
    expected[1 : 1 + count] = source[:count]
    assert np.array_equal(target, expected)


@numba.njit
def call_add_rows(sums, squares, rows, table, count, channels):
    for i in range(count):
        table[i] = address(rows[i])
    add_rows(address(table), count, 8, channels, address(rows[0]) + 8, address(sums), address(squares))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_add_rows(count):
    rows = np.random.default_rng(0).standard_normal((8, 3 * LANES + 2)).astype(np.float32)
    sums, squares = np.ones((2, 3 * LANES), np.float32)
    call_add_rows(sums, squares, rows, np.empty(8, np.int64), count, 3 * LANES)
    d = rows[:count, 2:].astype(np.float64) - rows[0, 2:]
    np.testing.assert_allclose(sums, 1 + d.sum(0), rtol=1e-5)
    np.testing.assert_allclose(squares, 1 + (d * d).sum(0), rtol=1e-5)
