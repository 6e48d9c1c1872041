"""Where compiled kernels are kept, and how to tell that one is stale.

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


def stamp(*functions) -> str:
    """A digest of the text of every tinyseg file that functions reach: a new one means that they must be compiled."""
    digest = hashlib.sha256()
    for path in sorted(set().union(*map(_reached_files, functions))):
        digest.update(path.read_bytes())
    return digest.hexdigest()
