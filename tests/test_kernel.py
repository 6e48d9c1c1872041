"""Kernels and their cache, in processes of their own: a copy of the core files, a made-up kernel, a fresh folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import prange

import tinyseg
from tinyseg.device import get_device
from tinyseg.jit import cache_folder
from tinyseg.kernel import Kernel, kernel


@kernel
def add_one(y, x):
    """y = x + 1"""
    for i in prange(y.size):
        y[i] = x[i] + 1


CORE = ["jit", "native", "kernel", "memory", "device"]

HELPER = """
from numba import njit
@njit
def grow(x):
    return x + 1
"""
BODY = """
from .kernel import kernel
from .helper import grow
STEP = 10
@kernel
def work(y, x):
    for i in range(y.size):
        y[i] = grow(x[i]) * STEP
"""
MAIN = """
import logging, sys
import numpy as np
seen = []
class Seen(logging.Handler):
    def emit(self, record): seen.append(record.getMessage())
logging.getLogger("tinyseg").addHandler(Seen())
logging.getLogger("tinyseg").setLevel(logging.INFO)
from tinyseg.device import get_device
from tinyseg.body import work
y, x = np.zeros(3), np.ones(3)
get_device("cpu").launch(work, y, x)
print(y[0], "compiled" if any(m.startswith("compiling work") for m in seen) else "from the cache", *seen, sep="; ")
"""


@pytest.fixture
def package(tmp_path):
    """A folder with a small tinyseg of its own."""
    folder = tmp_path / "site" / "tinyseg"
    folder.mkdir(parents=True)
    for name in CORE:
        shutil.copy(Path(tinyseg.__file__).parent / f"{name}.py", folder)
    (folder / "__init__.py").touch()
    (folder / "helper.py").write_text(HELPER)
    (folder / "body.py").write_text(BODY)
    return folder


def run(package, cache, main=MAIN) -> str:
    environment = os.environ | {
        "PYTHONPATH": str(package.parent),
        "TINYSEG_CACHE": str(cache),
        "NUMBA_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", main], capture_output=True, text=True, env=environment, cwd=package.parent, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def edit(path, old, new):
    """Change a file without changing its size or its time stamp: only its text can tell."""
    stat, text = path.stat(), path.read_text()
    assert old in text and len(old) == len(new)
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_the_cache_is_hit_and_never_stale(package, tmp_path):
    cache = tmp_path / "cache"
    assert run(package, cache).startswith("20.0; compiled")
    assert run(package, cache).startswith("20.0; from the cache")
    edit(package / "body.py", "STEP = 10", "STEP = 70")
    assert run(package, cache).startswith("140.0; compiled")
    edit(package / "helper.py", "x + 1", "x + 2")
    assert run(package, cache).startswith("210.0; compiled")


def test_a_cache_that_cannot_be_written_only_costs_time(package, tmp_path):
    no_folder = tmp_path / "a file"
    no_folder.write_text("in the way")
    out = run(package, no_folder / "cache")
    assert out.startswith("20.0; ") and "no cache folder can be written" in out and "TINYSEG_CACHE names one" in out
    assert not list(package.glob("**/*.nbi"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_folder(package, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o500)
    try:
        assert run(package, cache).startswith("20.0; ")
    finally:
        cache.chmod(0o700)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYSEG_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("TINYSEG_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "tinyseg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "tinyseg"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "tinyseg"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "tinyseg"


def test_a_kernel_has_a_name_a_docstring_and_a_twin():
    @kernel
    def double(y, x):
        """y = 2 x"""

    assert isinstance(double, Kernel) and double.name == "double" and double.__doc__ == "y = 2 x"
    assert double.cuda_source == Path(__file__).with_suffix(".cu") and repr(double) == "<kernel double>"
    with pytest.raises(TypeError):
        double(np.zeros(1), np.zeros(1))
    assert "compiled" not in vars(double)  # importing a module compiles nothing


def test_float32_kernels_stay_in_float32(device):
    from tinyseg.ops.activation import relu_flat

    x = device.array(np.linspace(-1, 1, 100), np.float32)
    y = device.empty(100, np.float32)
    device.launch(relu_flat, y, x, 100)
    if device is get_device("cpu"):
        kinds = [(np.dtype(np.float32), 1)] * 2 + ["integer"]
        assert tuple(kinds) in relu_flat.compiled.versions


@kernel
def scale_rows_of(y, x, factor, offset, exact, rows):
    """y = x * factor + offset, row by row."""
    for row in prange(rows):
        for i in range(x.shape[1]):
            y[row, i] = x[row, i] * factor + offset + (1 if exact else 0)


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 64])
def test_numbers_arrive_as_they_are_and_every_row_is_done_once(rows):
    x, y = np.arange(rows * 3.0).reshape(rows, 3), np.zeros((rows, 3))
    get_device("cpu").launch(scale_rows_of, y, x, np.float32(0.5), -(2.0**40), True, rows)
    assert np.array_equal(y, x * 0.5 - 2.0**40 + 1)


@kernel
def count_up(y, share, shares):
    """y[i] = share + i * shares. The names of the arguments are the kernel's own business."""
    for i in prange(y.size):
        y[i] = share + i * shares


def test_arguments_may_have_any_name():
    y = np.zeros(5, np.int64)
    get_device("cpu").launch(count_up, y, 3, 10)
    assert y.tolist() == [3, 13, 23, 33, 43]


def test_an_array_that_is_not_contiguous_is_refused():
    x = np.zeros((4, 6))[:, ::2]
    with pytest.raises(TypeError, match=r"kernel scale_rows_of: argument 1 is not C-contiguous \(shape \(4, 3\)"):
        get_device("cpu").launch(scale_rows_of, np.zeros((4, 3)), x, 1.0, 0.0, False, 4)


def test_a_body_has_one_parallel_loop():
    @kernel
    def twice(y, n):
        for i in prange(n):
            y[i] = 1
        for i in prange(n):
            y[i] += 1

    with pytest.raises(TypeError, match="twice: it has 2 loops over prange, expected one"):
        get_device("cpu").launch(twice, np.zeros(3), 3)


def test_a_body_without_source_is_refused():
    scope = {"prange": prange}
    exec("def typed(y, n):\n    for i in prange(n):\n        y[i] = 1", scope)
    with pytest.raises(TypeError, match="typed: its source cannot be read"):
        get_device("cpu").launch(kernel(scope["typed"]), np.zeros(3), 3)


def test_a_range_has_one_end():
    @kernel
    def later(y, n):
        for i in prange(1, n):
            y[i] = 1

    with pytest.raises(
        TypeError, match=r"kernel later: prange\(1, n\) has 2 arguments, expected one; cure: count from"
    ):
        get_device("cpu").launch(later, np.zeros(3), 3)


def test_a_variable_of_the_function_around_is_refused():
    step = 3

    @kernel
    def closed(y, n):
        for i in prange(n):
            y[i] = step

    with pytest.raises(TypeError, match="kernel closed: it takes step from the function around it; cure: an argument"):
        get_device("cpu").launch(closed, np.zeros(3), 3)


def test_packages_beside_a_users_kernel_are_not_the_users(tmp_path):
    site = tmp_path / ".venv" / "lib" / "site-packages"
    site.mkdir(parents=True)
    (site / "other.py").write_text("def far(x):\n    return x")
    (tmp_path / "near.py").write_text("def near(x):\n    return x")
    (tmp_path / "mine.py").write_text("from other import far\nfrom near import near\ndef f(x):\n    far(near(x))")
    (site / "alone.py").write_text("from other import far\ndef g(x):\n    far(x)")
    code = "import mine, alone; from tinyseg.jit import _reached_files as r; print(r(mine.f), r(alone.g))"
    path = os.pathsep.join(map(str, (tmp_path, site, Path(tinyseg.__file__).parents[1])))
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        check=True,
        cwd=tmp_path,
    ).stdout
    assert "mine.py" in out and "near.py" in out and "alone.py" in out and "other.py" not in out


def test_tinysegs_own_files_count_where_it_is_installed(tmp_path):
    site = tmp_path / "site-packages"
    shutil.copytree(Path(tinyseg.__file__).parent, site / "tinyseg", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "from tinyseg.jit import _reached_files; from tinyseg.ops.softmax import softmax_forward as kernel;"
        "print(_reached_files(kernel.body))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(site)},
        cwd=site,
        check=True,
    ).stdout
    assert str(site) in out and "softmax.py" in out and "exponential.py" in out


def test_arrays_that_nobody_may_write_to_or_that_are_empty():
    x = np.arange(5.0)
    x.flags.writeable = False
    y = np.zeros(5)
    get_device("cpu").launch(add_one, y, x)
    assert np.array_equal(y, [1, 2, 3, 4, 5])
    get_device("cpu").launch(add_one, np.zeros(0), np.zeros(0))


def test_a_kernel_that_is_not_shared_leaves_the_number_of_threads_alone():
    from tinyseg.structured import max_flow

    before = numba.get_num_threads()
    max_flow(np.array([3.0, 0.0]), np.array([0.0, 2.0]), np.array([[0, 1]]), np.array([1.0]), np.array([0.0]))
    assert numba.get_num_threads() == before
