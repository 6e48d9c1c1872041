"""The emulated device: it finds the mistakes of broken.cu, and finds none where there is none."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tinyseg.cuda import emulator
from tinyseg.cuda.source import KernelError
from tinyseg.device import Emulated

from .broken import kernels

pytestmark = pytest.mark.skipif(bool(emulator.unusable()), reason=str(emulator.unusable()))
K = SimpleNamespace(**kernels())
ORDERS = [("sequential", 0), ("reversed", 0)] + [("random", seed) for seed in range(6)]
each_order = pytest.mark.parametrize("order, seed", ORDERS)


def floats(n, seed=0):
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def results(kernel, size, *args):
    """What a kernel writes into zeros in every order of its threads."""
    found = []
    for order, seed in ORDERS:
        y = np.zeros(size, np.float32)
        Emulated(order, seed).launch(kernel, y, *args)
        found.append(y)
    return np.array(found)


@pytest.mark.parametrize(
    "kernel, size, args",
    [
        (K.no_barrier, 64, (floats(64),)),
        (K.no_second_barrier, 64, (floats(320), 5)),
        (K.no_syncwarp, 1, (np.arange(32, dtype=np.float32),)),
        (K.copy_no_barrier, 128, (floats(128),)),
        (K.uninitialised, 32, ()),
        (K.copy_not_awaited, 128, (floats(128),)),
    ],
    ids=lambda k: getattr(k, "name", ""),
)
def test_races_and_unwritten_memory_show_in_the_values(kernel, size, args):
    found = results(kernel, size, *args)
    assert np.isnan(found).any() or not (found == found[0]).all()


LINE = r".*broken.cu:\d+"


@pytest.mark.parametrize(
    "kernel, args, message",
    [
        (K.divergent_barrier, (), rf"block \(0,0,0\) thread \(16,0,0\): divergent barrier: {LINE}, others are at line"),
        (K.deadlock, (), rf"deadlock in block \(0,0,0\): 63 threads wait at a block barrier \({LINE}\), 1 at a warp "
         rf"operation \(warp 0, mask 00000021, arrived 00000001, {LINE}\), 0 have returned"),
        (K.returned_lanes, (20,), rf"the mask ffffffff of the warp operation at {LINE} names lanes that have returned"),
        (K.divergent_shuffle, (), rf"divergent warp operation: lane \d+ is at {LINE}"),
        (K.failed_assert, (5,), rf"block \(0,0,0\) thread \(7,0,0\): assertion failed: threadIdx.x != 7 {LINE}"),
        (K.copy_left_behind, (floats(128),), "the thread returned with cp.async copies"),
        (K.too_many_threads, (), "no GPU launches a grid of .* blocks of 2048 threads"),
        (K.grid_too_large, (70000,), r"no GPU launches a grid of \(1, 70000, 1\) blocks"),
        (K.too_much_shared, (300 << 10,), "307200 bytes of shared memory, a block has at most 232448"),
    ],
    ids=lambda k: getattr(k, "name", ""),
)  # fmt: skip
def test_errors_name_block_thread_and_line(kernel, args, message):
    with pytest.raises(KernelError, match=f"^kernel {kernel.name}: .*{message}"):
        Emulated().launch(kernel, np.zeros(128, np.float32), *args)
    y = np.zeros(128, np.float32)  # and the engine goes on
    Emulated().launch(K.copy_right, y, floats(128))
    assert_array_equal(y, floats(128)[::-1])


@each_order
def test_collective_operations(order, seed):
    y, z = np.zeros((3, 96, 8), np.int32), np.zeros((3, 96), np.float32)
    Emulated(order, seed).launch(K.collectives, y, z)
    lane, t = np.arange(96) % 32, np.arange(96)
    expected = np.stack(
        [
            np.full(96, np.array(sum(1 << i for i in range(0, 32, 3)), np.uint32).astype(np.int32)),
            np.full(96, 1),
            np.full(96, 48 + 1000),
            np.where(lane == 0, 0, lane - 1) + 100 * (lane // 8 * 8 + 5),
            np.full(96, 32),
            np.where(lane < 16, lane + 4, np.where(lane < 20, y[0, :, 5], 0)),  # from lanes 20 to 23: undefined
            np.full(96, t.sum() + 10000 * 48),
            np.full(96, 5),
        ],
        axis=-1,
    )
    assert_array_equal(y, np.broadcast_to(expected, y.shape))
    assert_array_equal(z, np.broadcast_to(lane ^ 16, z.shape))


@each_order
def test_atomics(order, seed):
    y, lock = np.zeros(5, np.int32), np.zeros(1, np.uint32)
    Emulated(order, seed).launch(K.counters, y, lock)
    assert y.tolist() == [1024, 511, -127, 65535, 16] and not lock[0]


def rounded(x, bits):
    """float32 with so many bits of mantissa, to nearest, ties away from zero."""
    cut = np.uint32(23 - bits)
    return ((x.view(np.uint32) + (np.uint32(1) << (cut - 1))) >> cut << cut).view(np.float32)


@pytest.mark.parametrize(
    "kernel, depth, number",
    [
        (K.matrix_tf32, 8, lambda x: rounded(x, 10)),
        (K.matrix_fp16, 16, lambda x: x.astype(np.float16)),
        (K.matrix_bf16, 16, lambda x: rounded(x, 7)),
    ],
    ids=["tf32", "fp16", "bf16"],
)
def test_products_of_matrices(kernel, depth, number):
    a, b, d = floats((16, depth), 1), floats((depth, 8), 2), np.zeros((16, 8), np.float32)
    for order, seed in ORDERS:
        Emulated(order, seed).launch(kernel, d, a, b)
        assert_allclose(d, number(a).astype(np.float64) @ number(b).astype(np.float64), atol=1e-6)


def test_launches_from_several_python_threads():
    def work(i):
        y = np.zeros(128, np.float32)
        for _ in range(20):
            device.launch(K.copy_right, y, floats(128, i))
        assert_array_equal(y, floats(128, i)[::-1])
        done.append(i)

    device, done = Emulated("random"), []
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(done) == [0, 1, 2, 3]


def test_what_does_not_compile_says_where(tmp_path):
    from tinyseg.cuda.source import source
    from tinyseg.kernel import Kernel

    (tmp_path / "typo.cu").write_text('#include "common.cuh"\n__global__ void f(float *y, Index n) {\n'
                                      "  PARALLEL_FOR(i, n) y[i] = zero;\n}\n")  # fmt: skip
    scope = {}
    exec(compile("def f(y, n): pass", str(tmp_path / "typo.py"), "exec"), scope)
    with pytest.raises(KernelError, match=r"typo.cu does not compile for the emulator:\n(.*\n)*.*typo.cu:3:.*zero"):
        Emulated().launch(Kernel(scope["f"], on_cpu=False), np.zeros(3, np.float32), 3)
    assert source(tmp_path / "typo.cu", (), False).name == "typo"


def test_an_order_that_is_none():
    with pytest.raises(ValueError, match="order 'backwards' is unknown, expected one of sequential, reversed, random"):
        Emulated("backwards")


def test_no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="'emulated': it needs a C.. compiler, and no-such-.* is not found; cure"):
        Emulated()
