"""A pool of aligned buffers: what one step frees, the next step takes, without asking the operating system.

Fresh memory costs a page fault every 4 KiB, which is more than many kernels take; and `numpy.empty` aligns to 16
bytes where a vector load wants 64. A buffer goes back to the pool when the last array that views it dies.
"""

import threading

import numpy as np

ALIGNMENT = 64


class _Buffer:
    """Owner of one block, of which `size` bytes were asked for: NumPy keeps it as the `base` of every view, and its end
    gives the block back."""

    __slots__ = ("__array_interface__", "block", "pool", "size")

    def __init__(self, pool, block, size):
        self.pool, self.block, self.size = pool, block, size
        self.__array_interface__ = block.__array_interface__

    def __del__(self):
        self.pool._give_back(self.block, self.size)


class Pool:
    """`empty(shape, dtype)` like NumPy's, 64-byte aligned, from blocks kept by size class.

    Size classes are eighths of a power of two, so at most 1/8 of a block of its class is unused. Where none of the
    class is idle, one that is a little larger will do, and one several times larger where the pool would else hold much
    more than was ever in use. Small arrays (under 4 KiB) come from NumPy. `trim()` hands all idle blocks back to the
    operating system. Safe to use from several threads.

    Steps of changing sizes would fill the pool with blocks that fit none of the next. So wherever none of the class is
    idle, blocks beyond the bytes in use and half of their peak are handed back: classes that were not taken for long,
    longest first, and beyond two peaks any class. Steps of the same sizes ask for nothing new after the first two, and
    so lose nothing.
    """

    SMALL = 4096
    LONG = 32  # a class is stale when this many times the peak was taken since it was
    LARGER, MUCH_LARGER = 1.25, 4  # how much an idle block may be
    MUCH = 1.4  # times the peak: the bytes held beyond which the second of these counts

    def __init__(self):
        self._idle: dict[int, list[np.ndarray]] = {}
        self.lock = threading.RLock()  # reentrant: a collection inside `empty` may end buffers
        self._taken = 0  # bytes taken in all: the clock
        self._last_taken: dict[int, int] = {}  # by size class
        # bytes: asked for and not yet given back, and the most of these since `trim`; of idle blocks; of all blocks
        self.in_use = self.peak = self.idle = self.held = 0

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
        asked = self._size_class(size)
        owner = _Buffer(self, self._take(asked), asked)
        return np.asarray(owner)[:size].view(dtype).reshape(shape)

    @staticmethod
    def _size_class(size: int) -> int:
        step = 1 << max(size.bit_length() - 4, 6)
        return -(-size // step) * step

    def _take(self, size: int) -> np.ndarray:
        with self.lock:
            self._taken += size
            block = self._idle_block(size)
            if block is None or block.nbytes > size:
                self._hand_back_surplus()
            if block is not None:
                self._use(size)
                return block
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
            self.held += size
            self._use(size)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + size]

    def _idle_block(self, size: int) -> np.ndarray | None:
        """The smallest idle block that will do."""
        found = size
        if not self._idle.get(size):
            much = self.held + size > self.MUCH * max(self.peak, self.in_use + size)
            most = size * (self.MUCH_LARGER if much else self.LARGER)
            larger = (each for each in sorted(self._idle) if size <= each <= most and self._idle[each])
            found = next(larger, size)
        self._last_taken[found] = self._taken
        if not (blocks := self._idle.get(found)):
            return None
        self.idle -= found
        return blocks.pop()

    def _give_back(self, block: np.ndarray, size: int) -> None:
        with self.lock:
            self._idle.setdefault(block.nbytes, []).append(block)
            self.in_use -= size
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
                self.held -= size
            if not self._idle[size]:
                del self._idle[size]

    def trim(self) -> None:
        """Hand every idle block back to the operating system."""
        with self.lock:
            self._idle.clear()
            self.held -= self.idle
            self.idle, self.peak = 0, self.in_use
