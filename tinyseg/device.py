"""Where arrays live and kernels run. Everything that depends on the device goes through one object.

    device.empty(shape, dtype)      an uninitialised array        device.launch(kernel, *args)    run a kernel
    device.array(host_array)        copy to the device            device.numpy(array)             copy to the host
    device.xp                       the array module (numpy; CuPy on a GPU) for operations that need no kernel

`Device.launch` is the only dispatch in tinyseg: nothing outside this file asks which device it is on.
"""

import os
import threading
from collections.abc import Callable
from functools import cache

import numpy as np

from .jit import compile_ahead
from .kernel import Kernel
from .memory import Pool


class Device:
    """A place for arrays and kernels. `name` is what `get_device` was given; `xp` is its array module."""

    name: str
    xp = np
    threads = 1  # how many shares of a sum are worth adding up side by side
    half = False  # whether kernels take float16
    capturing = False  # whether launches are recorded and not run: see `captured`

    def empty(self, shape, dtype=np.float32):
        """An uninitialised C-contiguous array on this device."""
        raise NotImplementedError

    def zeros(self, shape, dtype=np.float32):
        """An array of zeros on this device."""
        array = self.empty(shape, dtype)
        array.fill(0)
        return array

    def array(self, host, dtype=None):
        """Copy a NumPy array (or what NumPy makes an array of) to this device, C-contiguous."""
        raise NotImplementedError

    def send(self, host) -> None:
        """Told that `array` will soon be asked for this very NumPy array, which must not change until then.

        A device that can copies it meanwhile. May be called from any thread.
        """

    def copy(self, array):
        """A C-contiguous copy on this device."""
        copy = self.empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    def numpy(self, array) -> np.ndarray:
        """Copy an array of this device to the host."""
        raise NotImplementedError

    def owner(self, array) -> int:
        """A number for the memory that an array lies in: the same for all views of one block while it lives."""
        raise NotImplementedError

    def address(self, array) -> int:
        """Where the array lies in this device's memory."""
        return array.ctypes.data

    def has(self, kernel: Kernel) -> bool:
        """Whether this device has a body for a kernel: what chooses between several algorithms asks this."""
        raise NotImplementedError

    def launch(self, kernel: Kernel, *args) -> None:
        """Run a kernel on arrays of this device: outputs, inputs, numbers."""
        raise NotImplementedError

    def captured(self, run: Callable[[], None]) -> Callable[[], None]:
        """A function that does the launches of run() again, on the same memory, with little of the host's time."""
        return run

    def shares(self, columns: int) -> int:
        """How many shares of a sum over rows are worth adding up side by side, if each share has so many columns."""
        return self.threads

    def prepare(self) -> None:
        """Told that training is about to begin: what can be made ready meanwhile is."""

    def check(self, found, error) -> None:
        """Raise what error(found on the host) returns, unless it is None.

        A device that works ahead of the host raises it later, at the next copy to the host, instead of waiting here.
        """
        if (e := error(self.numpy(found))) is not None:
            raise e

    def __eq__(self, other):
        return isinstance(other, Device) and self.name == other.name

    def __hash__(self):
        return hash(self.name)

    def __repr__(self):
        return f"device({self.name!r})"

    def __reduce__(self):  # a copy, or what a pickle holds, is the device of that name
        return get_device, (self.name,)


class Cpu(Device):
    """NumPy arrays from an aligned pool, kernels compiled by Numba.

    Kernels use all of Numba's threads (`NUMBA_NUM_THREADS`) and release the GIL. One kernel runs at a time: launches
    from several Python threads wait for each other instead of competing for the cores. A fork waits for them too: the
    child would find a lock that a thread holds for ever which it does not have.
    """

    name = "cpu"

    def __init__(self):
        self.pool = Pool()
        self._one_at_a_time = threading.Lock()
        self.prepared = False
        if hasattr(os, "register_at_fork"):
            for lock in (self.pool.lock, self._one_at_a_time):  # taken in reverse: a launch may take the pool's inside
                os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)

    @property
    def threads(self):
        from .native import threads

        return threads()

    def empty(self, shape, dtype=np.float32):
        return self.pool.empty(shape, dtype)

    def array(self, host, dtype=None):
        host = np.asarray(host, dtype)
        array = self.pool.empty(host.shape, host.dtype)
        array[...] = host
        return array

    def numpy(self, array):
        return np.array(array)

    def owner(self, array):
        return _owner(array)

    def has(self, kernel):
        return kernel.on_cpu

    def launch(self, kernel, *args):
        with self._one_at_a_time:
            kernel.compiled(*args)

    def prepare(self):
        """Kernels that are not in the cache yet are compiled in a second process: once, by the first who asks."""
        if not self.prepared:
            self.prepared = True
            compile_ahead()


def _owner(array) -> int:
    while getattr(array, "base", None) is not None:
        array = array.base
    return id(array)


class Emulated(Device):
    """NumPy arrays, and the CUDA kernels themselves, compiled by the host's C++ compiler and run on the CPU.

    A device for tests and for learning: see `tinyseg.cuda.emulator`. Memory comes straight from NumPy, so that a
    sanitizer sees its end, and is filled with NaN, so that what a kernel forgets to write shows.
    """

    name = "emulated"
    threads = 3
    half = True

    def __init__(self, order: str = "sequential", seed: int = 0):
        """`order` in which threads and blocks run: "sequential", "reversed" or "random" (another one each launch)."""
        from .cuda.emulator import Emulator, unusable

        if reason := unusable():
            raise RuntimeError(f"device 'emulated': {reason}")
        self.emulator = Emulator(order, seed)

    def empty(self, shape, dtype=np.float32):
        array = np.empty(shape, dtype)
        array.reshape(-1).view(np.uint8).fill(255)
        return array

    def array(self, host, dtype=None):
        return np.array(host, dtype, order="C", copy=True)

    def numpy(self, array):
        return np.array(array)

    def owner(self, array):
        return _owner(array)

    def has(self, kernel):
        return self.emulator.has(kernel)

    def launch(self, kernel, *args):
        self.emulator.run(kernel, args)


class Cuda(Device):
    """CuPy arrays on one GPU, from CuPy's pool; kernels compiled by NVRTC. Nothing waits but `numpy`.

    Copies to the GPU overlap its kernels (`cuda/copies.py`); those of arrays that `send` was told of, the step before.

    The GPU that was last asked for memory or for a launch is CuPy's current one in this thread.
    """

    half = True
    threads = 256  # a sum is worth that many shares: each is added up by one thread for every column

    def __init__(self, name: str, number: int):
        from .cuda.gpu import Gpu

        self.name = name
        try:
            self.gpu = Gpu(number)
        except RuntimeError as error:
            raise RuntimeError(f"device {name!r}: {error}") from None
        self.xp = self.gpu.cupy
        self._pending, self._lock = [], threading.Lock()  # checks whose result the GPU may not have computed yet
        self._thread = threading.local()

    def empty(self, shape, dtype=np.float32):
        self.gpu.use()
        try:
            return self.xp.empty(shape, dtype)
        except self.xp.cuda.memory.OutOfMemoryError:
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            free, total = self.xp.cuda.runtime.memGetInfo()
            raise MemoryError(
                f"out of memory on {self.name!r}: an array {tuple(np.atleast_1d(shape).tolist())} {np.dtype(dtype)} of "
                f"{size / 2**20:.0f} MiB was asked for, {free / 2**20:.0f} of {total / 2**20:.0f} MiB are free. "
                "Cure: a smaller batch, a smaller crop, autocast, or to compute blocks again in backward "
                "(ts.nn.recompute_blocks)."
            ) from None

    def array(self, host, dtype=None):
        host = np.asarray(host, dtype, order="C")  # the very object, where it fits
        array = self.empty(host.shape, host.dtype)
        self.gpu.upload(array, host)
        return array

    def numpy(self, array):
        if self.capturing:
            raise RuntimeError(
                "graph: a value is read on the host (item(), numpy(), print) by a function that is captured: a replay "
                "would not; cure: return the tensor, and read it behind the graph"
            )
        self.gpu.use()
        host = self.xp.asnumpy(array)
        with self._lock:
            pending, self._pending = self._pending, []
        for found, error in pending:
            if (e := error(self.xp.asnumpy(found))) is not None:
                raise e
        return host

    def check(self, found, error):
        if self.capturing:
            self._thread.checks.append((found, error))  # nothing is computed yet: every replay is checked
            return
        with self._lock:
            self._pending.append((found, error))
            many = len(self._pending) > 64
        if many:  # nobody reads: then wait once in a while
            self.numpy(found)

    def shares(self, columns):
        return max(self.threads, (1 << 18) // max(columns, 1))  # few columns: threads for every multiprocessor

    def send(self, host):
        self.gpu.send(host)

    def owner(self, array):
        return id(array.data.mem)

    def address(self, array):
        return array.data.ptr

    def has(self, kernel):
        return self.gpu.has(kernel)

    def launch(self, kernel, *args):
        self.gpu.run(kernel, args)

    @property
    def capturing(self):
        return getattr(self._thread, "capturing", False)

    def captured(self, run):
        for _ in range(2):  # compiles kernels, and makes what is made at a first call
            run()
        self._thread.capturing, self._thread.checks = True, []
        try:
            replay, checks = self.gpu.capture(run), self._thread.checks
        finally:
            self._thread.capturing, self._thread.checks = False, None

        def again():
            replay()
            for found, error in checks:
                self.check(self.copy(found), error)  # a copy: the next replay writes the same memory

        return again


_devices: dict[str, Device] = {}
_making = threading.Lock()


def get_device(name: str | Device = "auto") -> Device:
    """The device of a name: "cpu", "cuda", "cuda:1", "emulated" or "auto" (the best there is). Always the same object.

    Raises ValueError for a name that is none of these, RuntimeError for a device that this machine or this version
    cannot use; the message says what to install.
    """
    if isinstance(name, Device):
        return name
    if name == "auto":
        name = _best()
    with _making:
        if name not in _devices:
            _devices[name] = _make(name)
    return _devices[name]


@cache
def _best() -> str:
    """The fastest device that this machine can use."""
    from .cuda.gpu import unusable

    return "cpu" if unusable() else "cuda"


def _make(name: str) -> Device:
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "emulated") or (name != kind and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"device {name!r} is unknown: expected 'cpu', 'cuda', 'cuda:1', 'emulated' or 'auto'")
    if kind == "cpu":
        return Cpu()
    return Emulated() if kind == "emulated" else Cuda(name, int(number or 0))


def usable_devices() -> dict[str, str]:
    """Each kind of device and, in words, whether it can be used and what to do if not."""
    import os

    from .cuda import emulator, gpu
    from .jit import cache_folder

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("NUMBA_NUM_THREADS", cores)
    cached = f"cached in {cache_folder()}" if cache_folder() else "not cached (no home folder; TINYSEG_CACHE names one)"
    return {
        "cpu": f"usable: {threads} threads, kernels {cached}",
        "cuda": gpu.unusable() or f"usable: {gpu.description()}",
        "emulated": emulator.unusable() or "usable: runs the CUDA kernels on the CPU, for tests",
    }
