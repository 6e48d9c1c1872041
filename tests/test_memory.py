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


def test_a_little_larger_block_will_do():
    """But no much larger one, while the pool holds little; what counts as in use is what was asked for."""
    pool = Pool()
    large, huge = pool.empty(1_200_000, np.uint8), pool.empty(10_000_000, np.uint8)
    address, held = large.ctypes.data, pool.held
    del large, huge
    small = pool.empty(1_000_000, np.uint8)
    assert small.ctypes.data == address and pool.held == held
    assert pool.in_use == Pool._size_class(1_000_000) and pool.in_use + pool.idle < held
    other = pool.empty(1_000_000, np.uint8)
    assert pool.held == held + Pool._size_class(1_000_000)
    del small, other
    assert pool.in_use == 0 and pool.idle == pool.held


def test_any_block_will_do_rather_than_much_more_memory():
    """One after the other, each of a class of its own: the second would make it 1.5 of the first, the last does not."""
    pool = Pool()
    for size in (8_000_000, 4_000_000, 6_000_000, 2_500_000):
        pool.empty(size, np.uint8)
    assert pool.held == Pool._size_class(8_000_000) + Pool._size_class(2_500_000) and pool.in_use == 0


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


def step(pool, sizes):
    """Forward keeps all, backward takes as much again and frees both."""
    forward = [pool.empty(n, np.uint8) for n in sizes]
    for n in reversed(sizes):
        pool.empty(n, np.uint8)
        forward.pop()


def system_calls(monkeypatch):
    real, calls = np.empty, []

    def empty(n, dtype):
        calls.append(n)
        return real(n, dtype)

    monkeypatch.setattr(np, "empty", empty)
    return calls


def test_steps_of_changing_sizes_do_not_hoard():
    pool, rng = Pool(), np.random.default_rng(0)
    for _ in range(300):
        step(pool, [int(n) for n in 10_000 * 2 ** rng.uniform(0, 5) * 2 ** rng.uniform(-1, 1, 20)])
        assert pool.held <= 4 * pool.peak
    step(pool, [5000] * 10)
    for n in range(200):  # small ones from here on: what the large ones left is stale in the end
        step(pool, [5000] * 9 + [6000 + 700 * n])
    pool.trim()
    assert pool.held == pool.in_use == pool.idle == 0


def test_stale_blocks_are_handed_back_when_new_ones_are_asked_for():
    pool = Pool()
    for n in (100_000, 150_000, 230_000, 340_000):
        step(pool, [n] * 4)
    assert pool.idle > 1.5 * pool.peak
    for _ in range(100):
        step(pool, [200_000] * 4)
    step(pool, [50_000] * 2)
    assert pool.idle <= 0.8 * pool.peak


def test_steady_steps_ask_the_system_for_nothing(monkeypatch):
    pool, rng = Pool(), np.random.default_rng(1)
    kept = pool.empty(50_000, np.uint8)
    training, validation = ([int(n) for n in rng.integers(5000, 500_000, 30)] for _ in range(2))
    for _ in range(3):
        step(pool, training)
        step(pool, validation)
    calls = system_calls(monkeypatch)
    for _ in range(50):
        step(pool, training)
        step(pool, validation)
    assert not calls and kept.size
