"""The twins in .cu files: every one has a Numba body or declaration with the same arguments, and a readable grid."""

import inspect
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.cuda.source import KernelError, plan_of, sources, twin_of, twins
from tinyseg.kernel import Kernel, cuda_kernel

PACKAGE = Path(ts.__file__).parent
FILES = sorted(PACKAGE.rglob("*.cu"))


def kernels_beside(path: Path) -> dict[str, Kernel]:
    """The kernels of the module foo.py beside foo.cu."""
    name = ".".join(("tinyseg", *path.relative_to(PACKAGE).with_suffix("").parts))
    found = {k.name: k for k in vars(import_module(name)).values() if isinstance(k, Kernel)}
    return {name: k for name, k in found.items() if k.cuda_source == path}


@pytest.mark.parametrize("path", FILES, ids=[p.stem for p in FILES])
def test_twins_take_the_same_arguments_in_the_same_order(path):
    kernels = kernels_beside(path)
    assert twins(path), f"{path.name} has no kernels"
    for name, twin in twins(path).items():
        assert name in kernels, f"{path.name}: {name} has no kernel in {path.stem}.py"
        expected = list(inspect.signature(kernels[name].body).parameters)
        assert [p.name for p in twin.parameters] == expected, name
        assert twin_of(kernels[name]) is twin
    for source in sources(path):
        assert source.expressions, f"{path.name}: no kernel for {source.types}"


@cuda_kernel
def nowhere(y):
    """A kernel without a twin."""


def test_kernels_of_one_side_only():
    cpu = ts.get_device("cpu")
    assert not cpu.has(nowhere) and twin_of(nowhere) is None
    with pytest.raises(TypeError, match="kernel nowhere has no twin in test_source.cu; see tinyseg/cuda"):
        plan_of(nowhere, (np.zeros(1),))


def read(tmp_path, text) -> dict:
    path = tmp_path / "written.cu"
    path.write_text(dedent(text))
    return twins(path)


def test_what_a_twin_says(tmp_path):
    twin = read(
        tmp_path,
        """
        constexpr int TILE = 16, UNUSED = TILE / 3;
        constexpr int ROWS = 2 * TILE;
        // template <class T> __global__ void commented(T *y) {}
        template <class T, class Tap = uint8>
        __global__ void __launch_bounds__(ROWS * 4) GRID(cdiv(N, ROWS), (K + 1) / 2) SHARED(ROWS * K * 4)
        tiles(T *__restrict__ y, const Tap *tap, const int32 *at, float factor, Index N, Index K) {
          if (N) { y[0] = 1; }
        }
        __global__ void plain(double *y, Index n) { PARALLEL_BLOCKS(i, n / 2) y[i] = 0; }
        template <class T> __global__ void __launch_bounds__(64) flat(T *y, Index n) { PARALLEL_FOR(i, n) y[i] = 0; }
        """,
    )
    assert list(twin) == ["tiles", "plain", "flat"]
    tiles = twin["tiles"]
    assert tiles.block == 128 and tiles.shape(None, None, None, 0.5, 65, 4) == ((3, 2), 32 * 4 * 4) and not tiles.loop
    assert tiles.signature == "tiles(T *y, Tap *tap, int32 *at, float factor, Index N, Index K)"
    assert twin["plain"].loop == "blocks" and twin["plain"].block == 256 and twin["plain"].shape(None, 7) == (3, 0)
    assert twin["flat"].loop == "for" and twin["flat"].block == 64

    assert tiles.types == (("float", "uint8"), ("double", "uint8")) and twin["plain"].types == ((),)

    f4, i4, u1 = (np.dtype(t) for t in (np.float32, np.int32, np.uint8))
    plan = tiles.plan((f4, u1, i4, None, None, None, False))
    assert plan.types == {"T": "float", "Tap": "uint8"} and tiles.expression(plan.types) == "tiles<float, uint8>"
    assert [n and n.name for n in plan.numbers] == [None, None, None, "float32", "int32", "int32"]
    assert plan.converted((0, 0, 0, 1, True, np.int64(7)))[3:] == [np.float32(1), 1, 7]
    with pytest.raises(TypeError, match="kernel tiles: N is 2.5, expected an integer"):
        plan.converted((0, 0, 0, 1, 2.5, 7))
    with pytest.raises(TypeError, match="kernel tiles: K is 4294967296, which Index cannot hold"):
        plan.converted((0, 0, 0, 1, 2, 1 << 32))
    wide = tiles.plan((f4, u1, i4, None, None, None, True))
    assert wide.numbers[-1] == np.int64 and wide.module.name == "written-float-uint8-wide"
    for kinds, message in (
        ((f4, u1, i4, None, None), "got 5 arguments, written.cu takes tiles"),
        ((f4, u1, None, None, None, None), "argument at should be an array"),
        ((f4, u1, i4, f4, None, None), "argument factor should be a number"),
        ((f4, u1, u1, None, None, None), "at is an array of uint8, expected int32"),
        ((np.dtype("complex64"), u1, i4, None, None, None), "y is complex64"),
    ):
        with pytest.raises(TypeError, match=f"kernel tiles: {message}"):
            tiles.plan((*kinds, False))


def test_types_are_those_that_are_said(tmp_path):
    twin = read(
        tmp_path,
        """
        template <class T, class S> __global__ void TYPES(double, half float)
        f(T *y, S *s, Index n) { PARALLEL_FOR(i, n) y[i] = s[i]; }
        template <class T, class S> __global__ void g(T *y, S *s, Index n) { PARALLEL_FOR(i, n) y[i] = s[i]; }
        """,
    )
    half, single = np.dtype(np.float16), np.dtype(np.float32)
    assert twin["f"].types == (("double", "double"), ("half", "float"))
    assert twin["f"].plan((half, single, None, False)).module.expressions == ("f<half, float>",)
    both = {source.types: source.expressions for source in sources(tmp_path / "written.cu")}
    assert both[("T", "double"), ("S", "double")] == ("f<double, double>", "g<double, double>") and len(both) == 3
    with pytest.raises(TypeError, match="kernel g<half, float> is not among g<float, float>, g<double, double>; cure"):
        twin["g"].plan((half, single, None, False))


def test_more_types_than_parameters(tmp_path):
    kernel = "template <class T> __global__ void TYPES(half float) f(T *y, Index n) { PARALLEL_FOR(i, n) y[i] = 0; }"
    with pytest.raises(KernelError, match="written.cu: kernel f: TYPES says 'half float', but it has 1 template"):
        read(tmp_path, kernel)


@pytest.mark.parametrize(
    "kernel, message",
    [
        ("(float *y, Index n) { y[0] = n; }", "kernel f has neither PARALLEL_FOR, .* nor GRID"),
        ("(float *y, Index n) { Index m = 2; PARALLEL_FOR(i, n * m) y[i] = 0; }", "the grid depends on m"),
        ("(float y[], Index n) { PARALLEL_FOR(i, n) y[i] = 0; }", r"cannot read the parameter 'float y\[\]'"),
    ],
)
def test_what_cannot_be_read(tmp_path, kernel, message):
    with pytest.raises(KernelError, match=f"written.cu: kernel f.*{message}|{message}"):
        read(tmp_path, f"__global__ void f{kernel}")
