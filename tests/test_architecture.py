"""The house rules, read from the sources with `ast`: who may import whom, and who may ask which device it is on."""

import ast
import inspect
import sys
from pathlib import Path

import pytest

import tinyseg as ts

PACKAGE = Path(ts.__file__).parent

# From the ground up: a room imports rooms of lower floors only, never one of its own floor or above.
FLOORS = [
    {"jit", "memory", "distance", "components", "precision", "rle", "crf_presets"},
    {"native"},
    {"kernel", "data", "metrics"},
    {"cuda"},
    {"device"},
    {"dryrun"},
    {"tensor"},
    {"gradcheck", "graph", "ops"},
    {"nn", "structured"},
    {"models", "losses", "optim", "amp"},
    {"ahead"},
    {"checkpoint", "interop", "estimate"},
    {"predict", "report"},
    {"detect"},
    {"evaluate"},
    {"train"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}

# Which rooms or files may import a package from outside; NumPy and the standard library are for all.
OUTSIDE = {
    "numba": ("ops/", "structured/", "native.py"),
    "llvmlite": ("ops/", "native.py"),  # Numba's own, for the vector instructions of the convolution
    "cupy": ("device.py", "cuda/"),
    "cupyx": ("device.py", "cuda/"),
    "PIL": ("data/image.py", "report.py"),
}


def room_of(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def imports(path: str, tree) -> list[tuple[str, ...]]:
    """Dotted names imported anywhere in a file; those of this package in full, as ("tinyseg", room, ...)."""
    package = ("tinyseg", *path.split("/")[:-1])
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            found += [(*base, alias.name) for alias in node.names]
    return found


def broken_rules(path: str, source: str) -> list[str]:
    """What a file (its path within the package) does that the house does not allow."""
    tree, room, broken = ast.parse(source), room_of(path), []
    for name in imports(path, tree):
        if name[0] == "tinyseg":
            other = name[1]
            if room == "__init__" or other in (room, "__version__"):
                continue
            if room not in FLOOR or other not in FLOOR:
                broken.append(f"{room} or {other} is in no floor of test_architecture.FLOORS")
            elif FLOOR[other] >= FLOOR[room]:
                broken.append(f"imports {other}, which is not below {room}")
        elif name[0] in OUTSIDE:
            if not any(path.startswith(place) for place in OUTSIDE[name[0]]):
                broken.append(f"imports {name[0]}, which only {', '.join(OUTSIDE[name[0]])} may")
        elif name[0] != "numpy" and name[0] not in sys.stdlib_module_names:
            broken.append(f"imports {name[0]}, which is no dependency")
        helpers = ("distance", "components", "rle")
        if room in ("data", "metrics") and name[0] == "tinyseg" and name[1] not in (room, *helpers):
            broken.append(f"imports {name[1]}: data and metrics know NumPy alone")
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and room not in ("device", "cuda"):
            constants = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant)]
            if any(c in ("cpu", "cuda", "emulated") for c in constants):
                broken.append(f"line {node.lineno} asks which device it is on")
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "compiled" and room != "device":
            broken.append(f"line {node.lineno} runs a kernel without Device.launch")
        if isinstance(node, ast.FunctionDef | ast.Lambda) and node.args.kwarg:
            broken.append(f"line {node.lineno} takes **{node.args.kwarg.arg}")
        if isinstance(node, ast.ClassDef) and any(k.arg == "metaclass" for k in node.keywords):
            broken.append(f"class {node.name} has a metaclass")
        if isinstance(node, ast.Global):
            broken.append(f"line {node.lineno} changes a global")
    return broken


FILES = sorted(p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_house_rules(path):
    assert broken_rules(path, (PACKAGE / path).read_text()) == []


@pytest.mark.parametrize(
    "path, source, rule",
    [
        ("tensor.py", "from .ops import add", "imports ops, which is not below tensor"),
        ("tensor.py", "def f():\n    from . import nn", "imports nn, which is not below tensor"),
        ("models/unet.py", "from ..losses import cross_entropy", "imports losses, which is not below models"),
        ("models/unet.py", "from tinyseg.losses import dice", "imports losses, which is not below models"),
        ("losses/a.py", "from .. import models", "imports models, which is not below losses"),
        ("data/folder.py", "from ..tensor import Tensor", "imports tensor: data and metrics know NumPy alone"),
        ("ops/conv/a.py", "from ...nn import Module", "imports nn, which is not below ops"),
        ("ops/relu.py", "import cupy", "imports cupy, which only"),
        ("ops/relu.py", "import cupyx.scipy as s", "imports cupyx, which only"),
        ("nn/layers.py", "from numba import njit", "imports numba, which only"),
        ("data/folder.py", "from PIL import Image", "imports PIL, which only"),
        ("train/loop.py", "import scipy.ndimage", "imports scipy, which is no dependency"),
        ("attic.py", "from .tensor import Tensor", "is in no floor"),
        ("nn/layers.py", "if device.name == 'cuda': pass", "asks which device"),
        ("nn/layers.py", "if x in ('cpu', 'auto'): pass", "asks which device"),
        ("ops/relu.py", "relu_kernel.compiled(y, x)", "without Device.launch"),
        ("nn/layers.py", "def f(x, **options): pass", "takes **options"),
        ("nn/module.py", "class M(metaclass=type): pass", "has a metaclass"),
        ("nn/module.py", "def f():\n    global a\n    a = 1", "changes a global"),
    ],
)
def test_each_rule_can_be_broken(path, source, rule):
    assert any(rule in broken for broken in broken_rules(path, source))


def test_what_is_allowed():
    assert broken_rules("ops/conv/a.py", "import math\nfrom numba import prange\nfrom ..checks import pair") == []
    assert broken_rules("cli/train.py", "from .. import __version__\nfrom ..train import train") == []


def test_public_operators_have_short_docstrings():
    for name in ts.ops.__all__:
        lines = (inspect.getdoc(getattr(ts.ops, name)) or "").splitlines()
        assert 1 <= len(lines) <= 15, f"ops.{name}: a docstring of {len(lines)} lines"


def test_public_names_are_there():
    for name in ts.__all__:
        assert getattr(ts, name) is not None
    assert set(ts.__all__) <= set(dir(ts))
    with pytest.raises(AttributeError, match="module 'tinyseg' has no attribute 'opps'; it has: "):
        _ = ts.opps


def unkept(tree) -> list[str]:
    """Arrays made in a function whose address is taken and which no `keep` names behind it: Numba frees them before
    (ops/conv/simd.py)."""
    found = []
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        given, taken, kept = {a.arg for a in function.args.args}, {}, {}
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("address", "keep"):
                lines = taken if node.func.id == "address" else kept
                for name in (a.id for a in node.args if isinstance(a, ast.Name) and a.id not in given):
                    lines[name] = max(node.lineno, lines.get(name, 0))
        found += [f"{function.name}: {name}" for name in taken if kept.get(name, 0) <= taken[name]]
    return found


@pytest.mark.parametrize("path", sorted(str(p.relative_to(PACKAGE)) for p in (PACKAGE / "ops").rglob("*.py")))
def test_an_array_whose_address_is_taken_is_kept(path):
    assert not unkept(ast.parse((PACKAGE / path).read_text()))


def test_the_rule_of_addresses_finds_what_it_is_for():
    text = "def f(given):\n    own = np.empty(3)\n    g(address(given), address(own))\n"
    assert unkept(ast.parse(text)) == ["f: own"] and not unkept(ast.parse(text + "    keep(own)\n"))
