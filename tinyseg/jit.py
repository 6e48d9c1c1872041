"""Where compiled kernels are kept, and how to tell that one is stale.

Numba's own cache looks at the time stamp of the one file in which a function stands. A kernel here also calls vector
helpers of other files, so its cache entry is stamped with the text of every tinyseg file that it reaches; Numba adds
the CPU. Entries live in the user's cache folder (`TINYSEG_CACHE` moves it), so that a read-only install works too.
"""

import atexit
import hashlib
import inspect
import logging
import os
import subprocess
import sys
from pathlib import Path

log = logging.getLogger("tinyseg")


def cache_folder() -> Path | None:
    """The folder of compiled kernels: $TINYSEG_CACHE, else the platform's cache folder; None where there is no home."""
    if "TINYSEG_CACHE" in os.environ:
        return Path(os.environ["TINYSEG_CACHE"])
    variable, below_home = {
        "win32": ("LOCALAPPDATA", "AppData/Local"),
        "darwin": ("", "Library/Caches"),
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    if variable in os.environ:
        return Path(os.environ[variable]) / "tinyseg"
    try:
        return Path.home() / below_home / "tinyseg"
    except RuntimeError:
        return None


def _reached_files(function) -> set[Path]:
    """The source files of a function and of all that it names, transitively, in tinyseg and in the function's folder.

    Packages installed inside that folder (a virtual environment beside the user's file) are not the user's own.
    """
    package, own = Path(__file__).parent, Path(function.__code__.co_filename)

    def counts(path):
        if path == own or path.is_relative_to(package):
            return True
        installed = {"site-packages", "dist-packages"}
        return path.is_relative_to(own.parent) and installed.isdisjoint(path.relative_to(own.parent.parent).parts)

    files, seen, waiting = set(), set(), [function]
    while waiting:
        item = waiting.pop()
        item = getattr(item, "py_func", None) or getattr(item, "_defn", None) or item
        code = getattr(item, "__code__", None)
        if code is None or item in seen:
            continue
        seen.add(item)
        path = Path(code.co_filename)
        if not counts(path):
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


def ahead_mark() -> Path:
    """The file in the cache folder that tells that this version's kernels are compiled (`ahead.py`)."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return cache_folder() / f"ahead-{digest.hexdigest()[:16]}"


def compile_ahead() -> None:
    """Start `python -m tinyseg.ahead`, unless its work is done, cannot be kept, or would only take the one core."""
    if cache_folder() is None or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else "ab") < 2:
        return
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        if ahead_mark().exists() or not os.access(cache_folder(), os.W_OK):
            return
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        helper = subprocess.Popen([sys.executable, "-P", "-m", f"{__package__}.ahead"], **quiet, env=_environment())
    except OSError:
        return
    atexit.register(_end, helper)


def _environment() -> dict[str, str]:
    """That of a helper: it finds this very package, and starts no helper of its own."""
    path = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "NUMBA_NUM_THREADS": "1"}


def _end(helper: subprocess.Popen) -> None:
    helper.terminate()
    helper.wait()
