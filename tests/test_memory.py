import gc
import threading
import weakref

import numpy as np
import pytest

from tinyseg.memory import ALIGNMENT, Pool


@pytest.mark.parametrize("shape", [(1024,), (3, 1000, 7), 5000, (2, 0, 4), (), (1,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
def test_like_numpy_empty(shape, dtype):
    a, b = Pool().empty(shape, dtype), np.empty(shape, dtype)
    assert a.shape == b.shape and a.dtype == b.dtype and a.flags.c_contiguous and a.flags.writeable
    a[...] = 1
    assert (a == 1).all()


def test_large_arrays_are_aligned_and_apart():
    pool = Pool()
    arrays = [pool.empty(n) for n in (1024, 1025, 100_000, 1024)]
    for i, a in enumerate(arrays):
        assert a.ctypes.data % ALIGNMENT == 0
        a.fill(i)
    assert [(a == i).all() for i, a in enumerate(arrays)] == [True] * 4


def test_what_is_freed_is_taken_again():
    pool = Pool()
    a = pool.empty((100, 100))
    address, held = a.ctypes.data, pool.held
    del a
    b = pool.empty((99, 100))  # of the same size class
    assert b.ctypes.data == address and pool.held == held
    assert pool.empty((99, 100)).ctypes.data != address


def test_a_block_returns_only_when_its_last_view_dies():
    pool = Pool()
    a = pool.empty((100, 100))
    address, view = a.ctypes.data, a[3:].reshape(-1)[5:]
    del a
    assert pool.empty((100, 100)).ctypes.data != address
    view.fill(1)
    del view
    assert address in (pool.empty((100, 100)).ctypes.data, pool.empty((100, 100)).ctypes.data)


def test_reference_counts_are_enough():
    gc.disable()
    try:
        pool = Pool()
        for _ in range(100):
            pool.empty((256, 256))
        assert pool.held < 2 * 256 * 256 * 4
    finally:
        gc.enable()


def test_an_array_may_outlive_its_pool():
    pool = Pool()
    a, gone = pool.empty(5000), weakref.ref(pool)
    del pool
    a.fill(3)
    assert a.sum() == 15000
    del a
    assert gone() is None


def test_size_classes_waste_at_most_an_eighth():
    for size in [4096, 4097, 5000, 8191, 8192, 10**6, 2**20 + 1, 3 * 2**20 - 1, 10**9 + 7]:
        block = Pool._size_class(size)
        assert size <= block <= size * 9 / 8 + 64 and block % ALIGNMENT == 0


def test_trim_hands_idle_blocks_back():
    pool = Pool()
    a, b = pool.empty(10_000), pool.empty(20_000)
    held = pool.held
    del a
    pool.trim()
    assert 0 < pool.held < held
    del b
    pool.trim()
    assert pool.held == 0


def test_out_of_memory_names_the_size_and_the_cure():
    with pytest.raises(
        MemoryError, match=r"out of memory: \d+ MiB more were asked for, 0 MiB are held. Cure: a smaller"
    ):
        Pool().empty((1 << 58,), np.uint8)


def test_out_of_memory_takes_the_idle_blocks_first(monkeypatch):
    pool = Pool()
    pool.empty(100_000)
    assert pool.held
    real, calls = np.empty, []

    def empty(n, dtype):
        calls.append(n)
        if len(calls) == 1:
            raise MemoryError
        return real(n, dtype)

    monkeypatch.setattr(np, "empty", empty)
    assert pool.empty(200_000).size == 200_000 and len(calls) == 2
    assert pool.held < 1_000_000


def test_threads():
    pool, errors = Pool(), []

    def work(k):
        rng = np.random.default_rng(k)
        for _ in range(300):
            arrays = [pool.empty(int(n)) for n in rng.integers(1024, 4096, 4)]
            for i, a in enumerate(arrays):
                a.fill(k * 10 + i)
            if not all((a == k * 10 + i).all() for i, a in enumerate(arrays)):
                errors.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
