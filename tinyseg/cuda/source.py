"""Reads .cu files: which kernels stand in them, what they take, and the grid that they ask for."""

import ast
import functools
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np

from ..jit import cache_folder
from ..kernel import Kernel

HEADERS = Path(__file__).parent

# The names of C++ types in .cu files; Index is int32, or int64 in a wide launch. NumPy has no bfloat16: its bits.
TYPES = {
    "float": np.float32, "double": np.float64, "half": np.float16, "bool": np.bool_,
    "bfloat16": np.uint16, "uint8": np.uint8, "int32": np.int32, "uint32": np.uint32, "int64": np.int64,
}  # fmt: skip
NAMES = {np.dtype(dtype): name for name, dtype in TYPES.items()}
PACK = 8  # elements of a thread in PARALLEL_PACKS: 16 bytes of half
WIDE = 1 << 30  # elements from which offsets are 64-bit: i + the size of the grid still fits below

_KERNEL = re.compile(
    r"(?:template\s*<(?P<templates>[^>]*)>\s*)?__global__\s+void\s+(?P<attributes>[^{;]*?)\b(?P<name>\w+)\s*"
    r"\((?P<parameters>[^()]*)\)\s*\{"
)
_CONSTANTS = re.compile(r"^constexpr\s+int\s+([^;]+);", re.MULTILINE)  # of the file: they stand at the margin
_PARAMETER = re.compile(r"(?:const\s+)?(?P<type>\w+)\s*(?P<pointer>\*)?\s*(?:__restrict__)?\s*(?P<name>\w+)")


class KernelError(RuntimeError):
    """A kernel could not be compiled, or broke a rule of CUDA while it ran; the message says where."""


@dataclass(frozen=True)
class Parameter:
    """One argument of a kernel: a pointer or a number of a type, which may be a template parameter."""

    name: str
    type: str
    pointer: bool


@dataclass(frozen=True, eq=False)
class Twin:
    """A kernel as it stands in a .cu file."""

    path: Path
    name: str
    templates: dict[str, str]  # parameter -> its default, "" if it has none
    parameters: tuple[Parameter, ...]
    block: int  # threads; 0: whatever the device likes
    grid: str  # the blocks, in C: "count / per thread" comes from the loop
    shared: str
    loop: str  # "for", "blocks", or "" where GRID stands
    types: tuple[tuple[str, ...], ...]  # what the template parameters stand for: the choices that there are
    constants: dict[str, int] = field(repr=False)

    def plan(self, kinds: tuple) -> "Plan":
        """What a launch with arguments of these kinds (a dtype for an array, None for a number) needs; see `kinds`."""
        *kinds, wide = kinds
        if len(kinds) != len(self.parameters):
            raise TypeError(f"kernel {self.name}: got {len(kinds)} arguments, {self.path.name} takes {self.signature}")
        types = {}
        for p, kind in zip(self.parameters, kinds):
            if p.pointer != (kind is not None):
                expected = "an array" if p.pointer else "a number"
                raise TypeError(f"kernel {self.name}: argument {p.name} should be {expected}, as in {self.signature}")
            if p.pointer and p.type in self.templates:
                name = NAMES.get(kind, str(kind))
                if types.setdefault(p.type, name) != name or name not in TYPES:
                    raise TypeError(f"kernel {self.name}: {p.name} is {kind}, expected {types[p.type]} ({p.type})")
            elif p.pointer and kind != self._dtype(p.type):
                raise TypeError(f"kernel {self.name}: {p.name} is an array of {kind}, expected {p.type}")
        if missing := set(self.templates) - set(types):
            raise TypeError(f"kernel {self.name}: no array tells what {', '.join(sorted(missing))} is")
        types = {name: types[name] for name in self.templates}
        if tuple(types.values()) not in self.types:
            choices = ", ".join(self.expression(dict(zip(self.templates, chosen))) for chosen in self.types)
            raise TypeError(f"kernel {self.expression(types)} is not among {choices}; cure: TYPES in {self.path.name}")
        numbers = [
            None if p.pointer else np.dtype(self._dtype(types.get(p.type, p.type), wide)) for p in self.parameters
        ]
        return Plan(self, types, wide, numbers)

    def _dtype(self, name, wide=False):
        if name == "Index":
            return np.int64 if wide else np.int32
        if name not in TYPES:
            raise TypeError(f"kernel {self.name}: {self.path.name} takes a {name}, which the launcher does not know")
        return TYPES[name]

    @property
    def signature(self) -> str:
        return f"{self.name}({', '.join(p.type + ' ' + '*' * p.pointer + p.name for p in self.parameters)})"

    def expression(self, types: dict[str, str]) -> str:
        """The kernel as C++ names it: softmax_forward<float>."""
        return f"{self.name}<{', '.join(types.values())}>" if self.templates else self.name

    @functools.cached_property
    def shape(self):
        """shape(*arguments) -> (count or blocks, shared bytes), computed from the arguments' values."""
        names = [p.name for p in self.parameters]
        text = f"lambda {', '.join(names)}: (({_python(self.grid)}), ({_python(self.shared)}))"
        known = {"cdiv": lambda a, b: -(-a // b), "min": min, "max": max, **self.constants}
        return eval(compile(text, f"{self.path.name}: {self.name}", "eval"), known)


@dataclass(frozen=True, eq=False)
class Plan:
    """A twin with its types decided: what to compile, and what the numbers among the arguments become."""

    twin: Twin
    types: dict[str, str]
    wide: bool
    numbers: list[np.dtype | None]  # None for arrays

    def converted(self, args) -> list:
        """The arguments with each number in the dtype that the kernel takes. Raises TypeError if one does not fit."""
        result = []
        for a, dtype, p in zip(args, self.numbers, self.twin.parameters):
            if dtype is not None:
                if dtype.kind in "iub" and not isinstance(a, int | np.integer | np.bool_):
                    raise TypeError(f"kernel {self.twin.name}: {p.name} is {a!r}, expected an integer ({p.type})")
                try:
                    a = dtype.type(a)
                except OverflowError:
                    raise TypeError(f"kernel {self.twin.name}: {p.name} is {a}, which {p.type} cannot hold") from None
            result.append(a)
        return result

    @property
    def module(self) -> "Source":
        return source(self.twin.path, tuple(self.types.items()), self.wide)


def kinds(args) -> tuple:
    """What decides how a launch is compiled: the arrays' dtypes, where numbers stand, whether offsets are wide."""
    found, wide = [], False
    for a in args:
        dtype = getattr(a, "dtype", None)
        if dtype is None or isinstance(a, np.generic):
            found.append(None)
        else:
            if not a.flags.c_contiguous:
                raise TypeError(
                    f"kernel: argument {len(found)} is not C-contiguous (shape {a.shape}, strides {a.strides}); "
                    "cure: device.copy(array)"
                )
            found.append(dtype)
            wide = wide or a.size >= WIDE
    return (*found, wide)


@dataclass(frozen=True, eq=False)
class Source:
    """One unit to compile: a .cu file with its kernels for one choice of types."""

    path: Path
    text: str
    types: tuple[tuple[str, str], ...]
    wide: bool
    expressions: tuple[str, ...]

    @property
    def name(self) -> str:
        kinds = "".join(f"-{t}" for _, t in self.types) + ("-wide" if self.wide else "")
        return f"{self.path.stem}{kinds}"


@functools.cache
def source(path: Path, types: tuple, wide: bool) -> Source:
    """All kernels of a file whose template parameters are these and may be these types."""
    names, chosen = (tuple(part) for part in zip(*types)) if types else ((), ())
    same = [t for t in twins(path).values() if tuple(t.templates) == names and chosen in t.types]
    return Source(path, path.read_text(), types, wide, tuple(t.expression(dict(types)) for t in same))


def sources(path: Path) -> list[Source]:
    """Every unit of a file: all that can ever be launched."""
    found = dict.fromkeys(tuple(zip(t.templates, types)) for t in twins(path).values() for types in t.types)
    return [source(path, types, False) for types in found]


_plans: dict[tuple, Plan] = {}


def plan_of(kernel: Kernel, args) -> Plan:
    """What a launch needs. Raises TypeError for arguments that the twin does not take, or where there is no twin."""
    key = (kernel, *kinds(args))
    found = _plans.get(key)
    if found is None:
        twin = twin_of(kernel)
        if twin is None:
            raise TypeError(f"kernel {kernel.name} has no twin in {kernel.cuda_source.name}; see tinyseg/cuda")
        found = _plans[key] = twin.plan(key[1:])
    return found


@functools.cache
def twin_of(kernel: Kernel) -> Twin | None:
    """The twin of a kernel, or None if it has none."""
    return twins(kernel.cuda_source).get(kernel.name)


@functools.cache
def twins(path: Path) -> dict[str, Twin]:
    """The kernels of a .cu file by name; none if there is no such file."""
    if not path.exists():
        return {}
    text = re.sub(r"//[^\n]*", "", path.read_text())
    constants = {}
    for declared in _CONSTANTS.findall(text):
        for name, _, value in (part.partition("=") for part in _split(declared)):
            constants[name.strip()] = eval(_python(value), {}, dict(constants))
    found = {}
    starts = list(_KERNEL.finditer(text))
    for match, behind in zip(starts, [*starts[1:], None]):
        body = text[match.end() : behind.start() if behind else len(text)]
        found[match["name"]] = _twin(path, match, body, constants)
    return found


def _twin(path, match, body, constants) -> Twin:
    name, attributes = match["name"], match["attributes"]
    templates = {}
    for part in _split(match["templates"] or ""):
        key, _, default = part.partition("=")
        templates[key.split()[-1]] = default.strip()
    parameters = []
    for part in _split(match["parameters"]):
        found = _PARAMETER.fullmatch(part)
        if not found:
            raise KernelError(f"{path.name}: kernel {name}: cannot read the parameter {part!r}; see tinyseg/cuda")
        parameters.append(Parameter(found["name"], found["type"], bool(found["pointer"])))
    block = _call("__launch_bounds__", attributes)
    grid, loop = _call("GRID", attributes), ""
    if grid is None:
        loops = [(body.find(f"PARALLEL_{kind}("), kind) for kind in ("FOR", "BLOCKS", "PACKS")]
        at, kind = min((pair for pair in loops if pair[0] >= 0), default=(-1, ""))
        if not kind:
            raise KernelError(
                f"{path.name}: kernel {name} has neither PARALLEL_FOR, PARALLEL_BLOCKS, PARALLEL_PACKS nor GRID"
            )
        count = _split(_call(f"PARALLEL_{kind}", body[at:]))
        if kind == "PACKS":
            grid, loop = f"cdiv({', '.join(count)}, {PACK})", "for"
        else:
            grid, loop = ", ".join(count[1:]), kind.lower()
    threads = eval(_python(_split(block)[0]), {}, dict(constants)) if block else 0
    if loop == "blocks" and not threads:
        threads = 256
    shared = _call("SHARED", attributes) or "0"
    known = {p.name for p in parameters} | {"cdiv", "min", "max"} | set(constants)
    if unknown := set(re.findall(r"\b[A-Za-z_]\w*", _python(f"({grid}), ({shared})"))) - known:
        raise KernelError(
            f"{path.name}: kernel {name}: the grid depends on {', '.join(sorted(unknown))}; it can only depend on "
            "the kernel's arguments and on constants of the file (constexpr int)"
        )
    types = _call("TYPES", attributes) or ("float, double" if templates else "")
    choices = [words.split() for words in _split(types)] if templates else []
    if long := [" ".join(words) for words in choices if len(words) > len(templates)]:
        raise KernelError(
            f"{path.name}: kernel {name}: TYPES says {long[0]!r}, but it has {len(templates)} template parameters"
        )
    types = tuple(_choice(words, templates) for words in choices) or ((),)
    return Twin(path, name, templates, tuple(parameters), threads, grid, shared, loop, types, constants)


def _choice(words: list[str], templates: dict[str, str]) -> tuple[str, ...]:
    """What each template parameter stands for: as said, or else its default, or else as the first."""
    said = zip_longest(words, templates.values(), fillvalue="")
    return tuple(word or default or words[0] for word, default in said)


def _call(function: str, text: str) -> str | None:
    """The text between the parentheses of the first call of a function or macro."""
    at = re.search(rf"\b{function}\s*\(", text)
    if not at:
        return None
    depth = 1
    for end in range(at.end(), len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if not depth:
            return text[at.end() : end]
    return None


def _split(text: str) -> list[str]:
    """Parts between commas that stand in no parentheses."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _python(expression: str) -> str:
    """An integer expression of C as one of Python: its / rounds down."""
    text = re.sub(r"\(Index\)|\(int64\)|\(int\)", "", " ".join(expression.split())).replace("/", "//")
    ast.parse(text, mode="eval")
    return text


# ------------------------------------------------------------------------------------------------ the cache


@functools.cache
def writable_folder(name: str) -> Path:
    """Where compiled kernels are kept; a temporary folder where the user's cache cannot be written."""
    try:
        folder = cache_folder() / name
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (TypeError, OSError):
        pass
    _temporary.append(tempfile.TemporaryDirectory(prefix="tinyseg-"))
    return Path(_temporary[-1].name)


_temporary = []  # these live as long as the process


def digest(*texts: str) -> str:
    """A short name for texts: another one for other texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]
