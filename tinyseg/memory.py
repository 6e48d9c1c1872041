"""A pool of aligned buffers: what one step frees, the next step takes, without asking the operating system.

Fresh memory costs a page fault every 4 KiB, which is more than many kernels take; and `numpy.empty` aligns to 16
bytes where a vector load wants 64. A buffer goes back to the pool when the last array that views it dies.
"""

import threading

import numpy as np

ALIGNMENT = 64


class _Buffer:
    """Owner of one block: NumPy keeps it as the `base` of every view, and its end gives the block back."""

    __slots__ = ("__array_interface__", "block", "pool")

    def __init__(self, pool, block):
        self.pool, self.block = pool, block
        self.__array_interface__ = block.__array_interface__

    def __del__(self):
        self.pool._give_back(self.block)


class Pool:
    """`empty(shape, dtype)` like NumPy's, 64-byte aligned, from blocks kept by size class.

    Size classes are eighths of a power of two, so at most 1/8 of a block is unused. Small arrays (under 4 KiB) come
    from NumPy. `trim()` hands all idle blocks back to the operating system. Safe to use from several threads.

    Steps of changing sizes would fill the pool with blocks that fit none of the next. So wherever a new block must be
    asked of the system, idle ones beyond the bytes in use and half of their peak are handed back: classes that were
    not taken for long, longest first, and beyond two peaks any class. Steps of the same sizes ask for nothing new after
    the first, and so lose nothing.
    """

    SMALL = 4096
    LONG = 32  # a class is stale when this many times the peak was taken since it was

    def __init__(self):
        self._idle: dict[int, list[np.ndarray]] = {}
        self.lock = threading.RLock()  # reentrant: a collection inside `empty` may end buffers
        self._taken = 0  # bytes taken in all: the clock
        self._last_taken: dict[int, int] = {}  # by size class
        self.in_use = self.idle = self.peak = 0  # bytes; peak: the most that were ever in use

    @property
    def held(self) -> int:
        """Bytes asked of the system and not yet handed back, in use or idle."""
        return self.in_use + self.idle

    def empty(self, shape, dtype=np.float32) -> np.ndarray:
        """An array of arbitrary content; shape and dtype as `numpy.empty`. Raises MemoryError naming the size."""
        dtype = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        count = 1
        for n in shape:
            count *= n
        size = count * dtype.itemsize
        if size < self.SMALL:
            return np.empty(shape, dtype)
        owner = _Buffer(self, self._take(self._size_class(size)))
        return np.asarray(owner)[:size].view(dtype).reshape(shape)

    @staticmethod
    def _size_class(size: int) -> int:
        step = 1 << max(size.bit_length() - 4, 6)
        return -(-size // step) * step

    def _take(self, size: int) -> np.ndarray:
        with self.lock:
            self._taken += size
            self._last_taken[size] = self._taken
            idle = self._idle.get(size)
            if idle:
                self.idle -= size
                self._use(size)
                return idle.pop()
            self._hand_back_surplus()
        try:
            raw = np.empty(size + ALIGNMENT, np.uint8)
        except MemoryError:
            self.trim()
            try:
                raw = np.empty(size + ALIGNMENT, np.uint8)
            except MemoryError:
                raise MemoryError(
                    f"out of memory: {size / 2**20:.0f} MiB more were asked for, {self.held / 2**20:.0f} MiB are held. "
                    "Cure: a smaller batch, a smaller crop or a narrower model."
                ) from None
        with self.lock:
            self._use(size)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + size]

    def _give_back(self, block: np.ndarray) -> None:
        with self.lock:
            self._idle.setdefault(block.nbytes, []).append(block)
            self.in_use -= block.nbytes
            self.idle += block.nbytes

    def _use(self, size):
        self.in_use += size
        self.peak = max(self.peak, self.in_use)

    def _hand_back_surplus(self):
        for size in sorted(self._idle, key=self._last_taken.__getitem__):
            stale = self._taken - self._last_taken[size] > self.LONG * self.peak
            allowed = self.in_use + self.peak // 2 if stale else 2 * self.peak
            while self._idle[size] and self.idle > allowed:
                self._idle[size].pop()
                self.idle -= size
            if not self._idle[size]:
                del self._idle[size]

    def trim(self) -> None:
        """Hand every idle block back to the operating system."""
        with self.lock:
            self._idle.clear()
            self.idle, self.peak = 0, self.in_use
