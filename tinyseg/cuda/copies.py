"""Copies from the host to a GPU that overlap its kernels: on a stream of their own.

    begin(host)     host --memcpy--> pinned memory --the copies' stream--> staging memory on the GPU        an event
    finish(...)     the kernels' stream waits for that event; staging memory --the kernels' stream--> array  an event

Nothing here waits on the host. What keeps memory from being used twice at a time:

- An array belongs to the kernels' stream, like all others. The copies' stream never touches one, so what CuPy's pool
  gives out again the moment an array dies is safe in that stream's order, as always.
- Staging memory comes from the pool's part for the copies' stream, where nothing else is. It goes back there when the
  event behind its last reader, a copy on the kernels' stream, has passed; until then it is held here.
- Pinned memory is held until the event behind the copy that reads it has passed.

The last step costs 1/50 of the first, or less: memory of a GPU is that much faster than the way to it. Small arrays go
the direct way, in the kernels' stream. So does all in a capture, whose replays read the pinned memory again.
"""

import threading
import weakref
from typing import NamedTuple

import numpy as np

LARGE = 1 << 16  # bytes from which a copy is worth a stream of its own: 5 us of transfer, about what two events cost


class Arriving(NamedTuple):
    """A copy under way: where it goes, and the event when it is there."""

    staging: object
    event: object


class Copies:
    """The copies to one GPU, which is the current one wherever a method is called. Safe to use from several threads."""

    def __init__(self, cuda):
        self.cuda = cuda  # cupy.cuda
        self.stream = None  # made at the first copy
        self._lock = threading.Lock()
        self._held = []  # (event, memory that must live until it has passed)
        self._sent = {}  # id of an array on the host -> a weak reference to it, and where its copy is
        self._thread = threading.local()  # .kept: pinned memory that the capture of this thread reads at each replay

    def upload(self, array, host) -> None:
        """Copy a C-contiguous NumPy array to one on the GPU, in its order with kernels; returns at once."""
        if not host.size:
            return
        if getattr(self._thread, "kept", None) is not None:
            self._thread.kept.append(self._direct(array, host))
            return
        arriving = self._taken(host) or (self.begin(host) if host.nbytes >= LARGE else None)
        if arriving is not None:
            self.finish(array, host.nbytes, arriving)
        else:
            pinned = self._direct(array, host)
            with self._lock:
                self._hold(self.cuda.get_current_stream(), pinned)

    def send(self, host) -> None:
        """Begin to copy an array that `upload` will be asked for; it must not change until then."""
        if host.nbytes >= LARGE and host.flags.c_contiguous and (arriving := self.begin(host)):
            key, sent = id(host), self._sent
            reference = weakref.ref(host, lambda _: sent.pop(key, None))  # if nobody asked, its memory goes back
            sent[key] = reference, arriving

    def begin(self, host) -> Arriving | None:
        """Start a copy to staging memory; None where there is no room for that."""
        pinned = self._pinned(host)
        with self._lock:
            self.stream = self.stream or self.cuda.Stream(non_blocking=True)
            self._release()
            try:
                with self.stream:  # where the pool then takes memory from
                    staging = self.cuda.alloc(host.nbytes)
            except self.cuda.memory.OutOfMemoryError:
                return None
            staging.copy_from_host_async(pinned.ptr, host.nbytes, self.stream)
            return Arriving(staging, self._hold(self.stream, pinned))

    def finish(self, array, size: int, arriving: Arriving) -> None:
        """Let the current stream bring to an array what has been copied, when it has."""
        stream = self.cuda.get_current_stream()
        with self._lock:
            stream.wait_event(arriving.event)
            array.data.copy_from_device_async(arriving.staging, size, stream)
            self._hold(stream, arriving.staging)

    def captured(self, run) -> list:
        """run(), whose copies are part of a capture; returns the memory that they read."""
        self._thread.kept = kept = []
        try:
            run()
        finally:
            self._thread.kept = None
        return kept

    def _taken(self, host) -> Arriving | None:
        reference, arriving = self._sent.pop(id(host), (None, None))
        return arriving if reference is not None and reference() is host else None

    def _direct(self, array, host):
        pinned = self._pinned(host)
        array.data.copy_from_host_async(pinned.ptr, host.nbytes, self.cuda.get_current_stream())
        return pinned

    def _pinned(self, host):
        pinned = self.cuda.alloc_pinned_memory(host.nbytes)
        np.frombuffer(pinned, host.dtype, host.size)[...] = host.reshape(-1)
        return pinned

    def _hold(self, stream, memory):
        """Keep memory until a stream has done what it was given so far."""
        self._release()
        event = self.cuda.Event(disable_timing=True)
        event.record(stream)
        self._held.append((event, memory))
        return event

    def _release(self):
        """Let go of what nothing uses any more."""
        self._held = [(event, memory) for event, memory in self._held if not event.done]
