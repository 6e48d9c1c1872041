"""Copies that overlap kernels, on a GPU that runs its streams in any order it may: what arrives is what was sent."""

import gc
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given

from tinyseg.cuda.copies import LARGE, Copies

from ..strategies import seeds
from .fake_gpu import FakeCuda

SIZES = 8, LARGE // 4, LARGE // 4, LARGE // 2  # in floats: small, and large twice


class Machine:
    """Copies of a fake GPU, and a kernel that reads an array when its turn comes."""

    def __init__(self, seed=0, mistake=""):
        self.cuda = FakeCuda(seed, mistake)
        self.copies, self.wrong = Copies(self.cuda), 0

    def array(self, host):
        array = SimpleNamespace(data=self.cuda.alloc(host.nbytes))
        self.copies.upload(array, host)
        return array

    def read(self, array, expected):
        def kernel(memory=array.data.bytes):  # no reference to the block: it goes back when Python lets go of it
            self.wrong += not np.array_equal(memory.view(np.float32)[: len(expected)], expected)

        self.cuda.get_current_stream().queue.append(kernel)


def steps(seed, mistake=""):
    """A few training steps: batches are sent ahead or not, arrays die as soon as their kernels are launched."""
    rng, machine = np.random.default_rng(seed), Machine(seed, mistake)
    ahead = []
    for step in range(12):
        host = np.full(SIZES[rng.integers(len(SIZES))], step, np.float32)
        if rng.random() < 0.6:
            machine.copies.send(host)
        ahead.append(host)
        while len(ahead) > rng.integers(1, 4):
            host = ahead.pop(0)
            if rng.random() < 0.2:
                continue  # nobody asks for it
            array, expected = machine.array(host), host.copy()
            host[...] = -1  # from here on it may change
            machine.read(array, expected)
            del array
            machine.cuda.advance(int(rng.integers(8)))
    machine.cuda.drain()
    return machine.wrong


@given(seeds)
def test_what_arrives_is_what_was_sent(seed):
    assert steps(seed) == 0


@pytest.mark.parametrize("mistake", ["no wait", "no patience", "one pool"])
def test_planted_mistakes_show(mistake):
    assert any(steps(seed, mistake) for seed in range(100))


def test_a_copy_overlaps_the_kernels_before_it():
    machine, ran = Machine(), []
    machine.cuda.default.queue.append(event := SimpleNamespace(passed=False))  # a long kernel
    machine.copies.send(host := np.ones(LARGE, np.float32))
    machine.read(machine.array(host), host)
    machine.cuda.default.queue.append(lambda: ran.append("next"))
    machine.cuda.advance(50)
    assert not machine.copies.stream.queue and not ran  # it has arrived while the kernel goes on
    event.passed = True
    machine.cuda.drain()
    assert ran and not machine.wrong


def test_memory_goes_back():
    machine = Machine()
    for i in range(20):
        host = np.full(LARGE, i, np.float32)
        if i % 2:
            machine.copies.send(host)
        machine.read(machine.array(host), host.copy())
        machine.cuda.drain()
    copies = machine.copies
    copies._release()
    assert not copies._held and not copies._sent
    assert sum(map(len, machine.cuda.pinned.values())) <= 2  # blocks that were ever needed at a time
    assert sum(len(free) for (stream, _), free in machine.cuda.pools.items() if stream == id(copies.stream)) <= 2


def test_what_nobody_asks_for_goes_back():
    machine = Machine()
    host = np.ones(LARGE, np.float32)
    machine.copies.send(host)
    assert len(machine.copies._sent) == 1
    del host
    gc.collect()
    machine.cuda.drain()
    assert not machine.copies._sent and sum(len(f) for (_, n), f in machine.cuda.pools.items() if n == 4 * LARGE) == 1


def test_another_array_in_its_place_is_not_taken_for_it():
    machine = Machine()
    one, other = np.full(LARGE, 1, np.float32), np.full(LARGE, 2, np.float32)
    machine.copies.send(one)
    machine.copies._sent[id(other)] = machine.copies._sent.pop(id(one))  # as if the number were used again
    machine.read(machine.array(other), other)
    machine.cuda.drain()
    assert not machine.wrong


def test_without_room_the_kernels_stream_does_it():
    machine = Machine()
    host = np.ones(LARGE, np.float32)
    array = SimpleNamespace(data=machine.cuda.alloc(host.nbytes))
    machine.cuda.room = 0
    machine.copies.send(host)
    machine.copies.upload(array, host)
    machine.read(array, host)
    machine.cuda.drain()
    assert [stream for _, stream in machine.cuda.copies] == [machine.cuda.default] and not machine.wrong


def test_nothing_and_small_arrays():
    machine = Machine()
    machine.copies.upload(None, np.zeros((0, 3), np.float32))
    machine.array(np.ones(3, np.float32))
    assert machine.cuda.copies == [(12, machine.cuda.default)] and machine.copies.stream is None


def test_several_threads_send():
    machine, lock = Machine(), threading.Lock()
    hosts = [np.full(LARGE // 4, i, np.float32) for i in range(40)]

    def work(mine):
        for host in mine:
            machine.copies.send(host)
            with lock:
                machine.cuda.advance(3)

    threads = [threading.Thread(target=work, args=(hosts[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for host in hosts:
        machine.read(machine.array(host), host)
    machine.cuda.drain()
    assert not machine.wrong and not machine.copies._sent
    assert [stream for _, stream in machine.cuda.copies] == [machine.copies.stream] * 40


def test_cupy_has_what_the_fake_pretends():
    cuda = pytest.importorskip("cupy").cuda
    assert all(hasattr(cuda, name) for name in ("MemoryPool", "using_allocator", "alloc", "alloc_pinned_memory"))
    names = "begin_capture", "end_capture", "synchronize", "wait_event", "__enter__"
    assert all(hasattr(cuda.Stream, name) for name in names)
    assert all(hasattr(cuda.MemoryPointer, name) for name in ("copy_from_host_async", "copy_from_device_async"))
    assert hasattr(cuda.Event, "done") and hasattr(cuda, "get_current_stream")
    assert hasattr(cuda.memory, "OutOfMemoryError") and hasattr(cuda.graph.Graph, "launch")
