"""Numba compilation with a disk cache that is never stale.

Numba's own cache looks at the time stamp of the one file in which a function stands. A kernel here also calls vector
helpers of other files, so its cache entry is stamped with the text of every tinyseg file that it reaches; Numba adds
the CPU. Entries live in the user's cache folder (`TINYSEG_CACHE` moves it), so that a read-only install works too.
"""

import hashlib
import inspect
import logging
import os
import sys
from pathlib import Path

log = logging.getLogger("tinyseg")


def cache_folder() -> Path:
    """The folder of compiled kernels: $TINYSEG_CACHE, else the platform's cache folder."""
    if "TINYSEG_CACHE" in os.environ:
        return Path(os.environ["TINYSEG_CACHE"])
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "tinyseg"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tinyseg"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tinyseg"


def thread_count() -> int:
    """How many threads a kernel runs on (`NUMBA_NUM_THREADS`, `numba.set_num_threads`)."""
    from numba import get_num_threads

    return get_num_threads()


def _reached_files(function) -> set[Path]:
    """The tinyseg source files of a function and of all that it names, transitively."""
    package = Path(__file__).parent
    files, seen, waiting = set(), set(), [function]
    while waiting:
        item = waiting.pop()
        item = getattr(item, "py_func", None) or getattr(item, "_defn", None) or item
        code = getattr(item, "__code__", None)
        if code is None or item in seen:
            continue
        seen.add(item)
        path = Path(code.co_filename)
        if not path.is_relative_to(package):
            continue
        files.add(path)
        names = inspect.getclosurevars(item)
        waiting += [*names.globals.values(), *names.nonlocals.values()]
    return files


def compile_kernel(body):
    """Compile a kernel body for the CPU: parallel, the GIL released, cached on disk."""
    from numba import njit
    from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

    stamp = hashlib.sha256()
    for path in sorted(_reached_files(body)):
        stamp.update(path.read_bytes())
    stamp = stamp.hexdigest()

    class Locator(_CacheLocator):
        def __init__(self, function, source):
            self._name = hashlib.sha256(source.encode()).hexdigest()[:12]

        def get_cache_path(self):
            return str(cache_folder())

        def get_source_stamp(self):
            return stamp

        def get_disambiguator(self):
            return self._name

        @classmethod
        def from_function(cls, function, source):
            locator = cls(function, source)
            try:
                locator.ensure_cache_path()
            except OSError:  # nowhere to write: compile anew in each process
                return None
            return locator

    class Implementation(CompileResultCacheImpl):
        _locator_classes = [Locator]

    class Cache(FunctionCache):
        _impl_class = Implementation

        def load_overload(self, signature, target_context):
            found = super().load_overload(signature, target_context)
            if found is None:
                log.info("compiling %s", body.__name__)
            return found

    # without the wrapper for callers in C, which nobody calls and which takes a third of the compile time
    options = dict(no_cfunc_wrapper=True, error_model="numpy", fastmath={"contract", "nsz"})
    dispatcher = njit(body, parallel=True, nogil=True, **options)
    try:
        dispatcher._cache = Cache(body)
    except RuntimeError:  # no folder can be written
        log.info("no cache folder can be written: kernels are compiled anew in each process (set TINYSEG_CACHE)")
    return dispatcher
