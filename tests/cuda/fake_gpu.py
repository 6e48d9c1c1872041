"""A GPU as far as copies go: streams that run when they like, events, and pools that give freed memory out at once.

What is asked of a stream waits in its queue. `FakeCuda.advance` lets one operation of one stream happen, drawn at
random among those whose events have passed; so every order that a GPU is free to choose comes up. Memory is real: a
block that is given out again too early shows as a wrong number.
"""

import ctypes
import threading
from collections import defaultdict
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np


class OutOfMemoryError(Exception):
    pass


class CUDARuntimeError(RuntimeError):
    pass


class Block:
    """Memory of a pool; its end gives it back, as CuPy's does."""

    def __init__(self, free: list, bytes_: np.ndarray, cuda):
        self.free, self.bytes, self.cuda = free, bytes_, cuda
        self.ptr = bytes_.ctypes.data

    def __del__(self):
        self.free.append(self.bytes)

    def copy_from_host_async(self, address, size, stream):
        target, source = self.bytes, self.cuda.pinned_bytes[address]
        self.cuda.copies.append((size, stream))
        stream.queue.append(lambda: np.copyto(target[:size], source[:size]))  # reads when it runs, not now

    def copy_from_device_async(self, block, size, stream):
        target, source = self.bytes, block.bytes
        stream.queue.append(lambda: np.copyto(target[:size], source[:size]))


class FakeCuda:
    """As much of cupy.cuda as copies and captures need. `mistake` leaves something out, to see that it shows."""

    memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    runtime = SimpleNamespace(CUDARuntimeError=CUDARuntimeError)

    def __init__(self, seed=0, mistake=""):
        self.rng, self.mistake, self.log = np.random.default_rng(seed), mistake, []
        self.streams, self.pools, self.pinned_bytes, self.pinned = [], defaultdict(list), {}, defaultdict(list)
        self.copies, self.room, self._thread = [], 1 << 40, threading.local()
        self.turn = threading.RLock()  # an operation begins and ends before another does
        cuda = self

        class Stream:
            def __init__(self, non_blocking=False):
                self.queue, self.before = [], None
                cuda.streams.append(self)

            def __enter__(self):
                cuda.log.append("enter stream")
                self.before, cuda._thread.current = cuda.get_current_stream(), self

            def __exit__(self, *_):
                cuda.log.append("leave stream")
                cuda._thread.current = self.before

            def wait_event(self, event):
                if cuda.mistake != "no wait":
                    self.queue.append(event)

            def synchronize(self):
                cuda.log.append("synchronize")

            def begin_capture(self):
                cuda.log.append("begin")

            def end_capture(self):
                cuda.log.append("end")
                return SimpleNamespace(launch=lambda stream: cuda.log.append("launch"))

        class Event:
            def __init__(self, disable_timing):
                self.passed = False

            def record(self, stream):
                stream.queue.append(lambda: setattr(self, "passed", True))

            @property
            def done(self):
                cuda.advance(int(cuda.rng.integers(3)))  # meanwhile the GPU goes on
                return self.passed or cuda.mistake == "no patience"

        class MemoryPool:
            malloc = staticmethod(lambda size: cuda.alloc(size))

        self.Stream, self.Event, self.MemoryPool = Stream, Event, MemoryPool
        self.default = Stream()

    def get_current_stream(self):
        return getattr(self._thread, "current", self.default)

    def alloc(self, size):
        """From the part of the pool that belongs to the current stream."""
        if size > self.room:
            raise OutOfMemoryError
        free = self.pools[() if self.mistake == "one pool" else id(self.get_current_stream()), size]
        return Block(free, free.pop() if free else np.full(size, 255, np.uint8), self)

    def alloc_pinned_memory(self, size):
        free = self.pinned[size]

        class Pinned(ctypes.c_ubyte * size):  # which has the buffer that NumPy asks for
            def __del__(self):
                free.append(self.bytes)

        with self.turn:
            memory = free.pop() if free else np.zeros(size, np.uint8)
        block = Pinned.from_buffer(memory)
        block.bytes, block.ptr = memory, memory.ctypes.data
        self.pinned_bytes[block.ptr] = memory
        return block

    @contextmanager
    def using_allocator(self, malloc):
        self.log.append("own pool")
        yield
        self.log.append("common pool")

    def advance(self, steps: int) -> None:
        """So many operations, each of a stream that need not wait."""
        for _ in range(steps):
            with self.turn:
                ready = [s for s in self.streams if s.queue and getattr(s.queue[0], "passed", True)]
                if not ready:
                    return
                operation = ready[self.rng.integers(len(ready))].queue.pop(0)
                if callable(operation):
                    operation()

    def drain(self) -> None:
        """All that was asked for."""
        while any(s.queue for s in self.streams):
            self.advance(100)
