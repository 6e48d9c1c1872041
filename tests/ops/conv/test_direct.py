"""The steps of the direct algorithm that have a meaning of their own."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops.conv import direct_maps
from tinyseg.ops.conv.direct import by_channel_tiles, pack_panel, pad_columns, sum_parts
from tinyseg.ops.conv.order import NO_ORDER, order_by_taps
from tinyseg.ops.conv.simd import COLUMNS, ROWS

from ...strategies import normal

cpu = ts.get_device("cpu")


@numba.njit
def call_pack_panel(packed, w, tap, C, K, first, width, k0, begin, end, transposed):
    pack_panel(packed, 3, w, tap, C, K, first, width, k0, begin, end, transposed)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups, Cg, Kg", [(1, 3, 5), (1, COLUMNS + 1, 2 * COLUMNS), (3, 4, COLUMNS + 7)])
def test_pack_panel(groups, Cg, Kg, transposed):
    """Row i, column j of a panel: w of a tap, input channel begin + i, output channel first + j of a group; else 0."""
    taps, K = 6, groups * Kg
    w = normal((taps, Cg, K), 0, np.float32)
    run, columns = (Kg, Cg) if transposed else (Cg, Kg)
    for g in range(groups):
        for first in range(0, columns, COLUMNS):
            width, begin = min(COLUMNS, columns - first), run // 3
            packed = np.full(3 + (run - begin) * COLUMNS + 1, np.nan, np.float32)
            call_pack_panel(packed, w.reshape(-1), 4, Cg, K, first, width, g * Kg, begin, run, transposed)
            of_group = w[4][:, g * Kg : (g + 1) * Kg]
            of_group = of_group.T if transposed else of_group
            expected = np.zeros((run - begin, COLUMNS), np.float32)
            expected[:, :width] = of_group[begin:, first : first + width]
            assert np.array_equal(packed[3:-1].reshape(-1, COLUMNS), expected)
            assert np.isnan(packed[[0, 1, 2, -1]]).all()


@pytest.mark.parametrize("stride, groups", [(1, 1), (2, 1), (2, 3)])
def test_any_cut_of_the_work_makes_the_same_map(monkeypatch, stride, groups):
    """Blocks of few pixels, few channels at a time, channels in shares."""
    x, w, b = (normal(s, i, np.float32) for i, s in enumerate([(2, 9, 8, 66), (5, 5, 66 // groups, 96), (96,)]))
    dy, found = normal((2, -(-5 // stride), -(-4 // stride), 96), 3, np.float32), []
    cuts = direct_maps._blocks_and_shares
    for settings, cut in (((512, 256, 32), cuts), ((ROWS, 7, 1), cuts), ((512, 50, 50), lambda *sizes: (3 * ROWS, 2))):
        for name, value in zip(("BLOCK", "DEPTH", "LEAST"), settings):
            monkeypatch.setattr(direct_maps, name, value)
        monkeypatch.setattr(direct_maps, "_blocks_and_shares", cut)
        tensors = [ts.tensor(a, requires_grad=True) for a in (x, w, b)]
        y = ts.ops.conv2d(*tensors, stride=stride, groups=groups)
        y.backward(dy)
        found.append([y.numpy(), *(t.grad.numpy() for t in tensors)])
    for other in found[1:]:
        for one, two in zip(found[0], other):
            np.testing.assert_allclose(two, one, atol=1e-5 * abs(one).max())


@given(pixels=st.integers(0, 5000), phases=st.integers(1, 9), panels=st.integers(1, 70), threads=st.integers(1, 40))
def test_blocks_and_shares_occupy_the_threads(pixels, phases, panels, threads):
    """Whole tiles that cover the pixels; jobs enough for all threads where there are pixels and channels enough."""
    block, shares = direct_maps._blocks_and_shares(pixels, phases, panels, threads)
    assert block % ROWS == 0 and ROWS <= block <= -(-512 // ROWS) * ROWS and 1 <= shares <= panels
    if pixels:
        assert -(-pixels // block) * phases * shares >= min(threads, panels * phases * (pixels // ROWS)) / 2


@pytest.mark.parametrize("dilation, stride", [(6, 1), (12, 1), (5, 2), (2, 1)])
def test_order_by_taps(dilation, stride):
    """Every pixel once; and tiles see fewer taps than as they lie, where that is what the order is for."""
    N, H, P, tile = 2, 16, -(-16 // stride), 8
    order = order_by_taps(N, H, H, P, P, 3, 3, (stride,) * 2, (-dilation,) * 2, (dilation,) * 2, tile)
    if dilation == 2:
        assert order is NO_ORDER
        return
    assert np.array_equal(np.sort(order), np.arange(N * P * P))
    at = np.arange(P)[:, None] * stride - dilation + np.arange(3) * dilation
    inside = (at >= 0) & (at < H)
    seen = np.broadcast_to(inside[:, None, :, None] & inside[None, :, None, :], (N, P, P, 3, 3)).reshape(-1, 9)

    def products(pixels):
        return sum(seen[pixels[i : i + tile]].any(0).sum() for i in range(0, len(pixels), tile))

    assert products(order) < 0.9 * products(np.arange(len(order)))


@pytest.mark.parametrize("dilation", [1, 6])
def test_filters_gradient_of_many_channels(dilation):
    """x is laid out anew for it; every sum as the definition has it."""
    channels = -(-direct_maps.FAR // ROWS) * ROWS
    x, w = normal((2, 7, 9, channels), 0, np.float32), normal((3, 3, channels, 40), 1, np.float32)
    gradients = []
    for dtype in (np.float32, np.float64):
        tensors = [ts.tensor(a.astype(dtype), requires_grad=True) for a in (x, w)]
        y = ts.ops.conv2d(*tensors, padding=dilation, dilation=dilation, stride=2)
        y.backward(normal(y.shape, 2, dtype))
        gradients.append([t.grad.numpy() for t in tensors])
    for single, double in zip(*gradients):
        np.testing.assert_allclose(single, double, atol=2e-4 * abs(double).max())


def test_by_channel_tiles():
    x = normal((13, 3 * ROWS), 0, np.float32)
    out = np.full((3, 13, ROWS), np.nan, np.float32)
    cpu.launch(by_channel_tiles, out, x, 13, 3 * ROWS)
    assert np.array_equal(out, x.reshape(13, 3, ROWS).transpose(1, 0, 2))


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
