"""From a kernel's body to machine code, and the team of threads that runs it.

Every kernel becomes one C function of the form that Numba's teams of threads (OpenMP, TBB or its own) call

    void kernel(int64 **first, int64 *count, int64 *steps, int64 *words)

for `count[0]` shares of the iterations of the body's `prange`, from share `first[0][0]`. `words` holds the number of
shares and then the arguments, eight bytes each: a number, or the address of an array followed by its sizes. So a
kernel's own code is all that has to be compiled for it. (Numba's own `parallel=True` compiles a driver for each
function and takes three times as long.)

Between kernels the threads wait. GNU's OpenMP lets them spin for milliseconds, so that on a machine with other work
each waits for one that has no core: a step can take fifty times as long. They spin for a tenth of a millisecond or
less here, unless the environment says otherwise.

GNU's OpenMP does not survive a fork: in a process that was forked from one with a team every kernel runs on one thread.
"""

import ast
import ctypes
import hashlib
import inspect
import os
import struct
import textwrap
from functools import cache
from types import FunctionType

if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "10000"  # read once, when Numba loads the library

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import carray, from_dtype, get_num_threads, njit, types
from numba.core import cgutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from .jit import cache_folder, log, stamp

_OPTIONS = dict(error_model="numpy", fastmath={"contract", "nsz"})
_INTEGERS = int, np.integer, np.bool_
_word = ir.IntType(64)
SHARE, SHARES = "_share", "_shares"  # the arguments that a body gets before its own
NATURAL = "_natural"  # the name in it of `natural`


def device_function(body):
    """See `kernel.device_function`."""
    return njit(body, no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)


@intrinsic
def natural(typing_context, i):
    """natural(i) -> i, which LLVM may take not to be negative.

    A negative index counts from the end, so LLVM would have to ask of each whether it is, and could load a run of
    numbers only one by one.
    """

    def emit(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(1)])
        assume = cgutils.get_or_insert_function(builder.module, kind, "llvm.assume")
        builder.call(assume, [builder.icmp_signed(">=", args[0], ir.Constant(args[0].type, 0))])
        return args[0]

    return i(i), emit


class Native:
    """A kernel's body, compiled at its first call for each combination of argument types, and run on all threads."""

    def __init__(self, body):
        self.body = body
        self.versions = {}  # argument types -> (address of the C function, whether it has shares)

    def __call__(self, *args):
        kinds, words = [], [1]
        for a in args:
            if isinstance(a, _INTEGERS):  # most of them
                kinds.append("integer")
                words.append(int(a))
            elif isinstance(a, np.ndarray):
                if not a.flags.c_contiguous:
                    raise TypeError(
                        f"kernel {self.body.__name__}: argument {len(kinds)} is not C-contiguous "
                        f"(shape {a.shape}, strides {a.strides}); cure: device.copy(array)"
                    )
                kinds.append((a.dtype, a.ndim))
                words.append(_address(a))
                words += a.shape
            elif isinstance(a, np.float32):
                kinds.append("float32")
                words.append(int(a.view(np.int32)))
            else:
                kinds.append("float64")
                words.append(int(np.float64(a).view(np.int64)))
        kinds = tuple(kinds)
        version = self.versions.get(kinds)
        if version is None:
            version = self.versions[kinds] = _compile(self.body, kinds)
        address, shared = version
        if shared:
            words[0] = threads()
        _run(address, words[0], struct.pack(f"{len(words)}q", *words))


def _address(array: np.ndarray) -> int:
    """Where the numbers of an array lie. NumPy's own answer takes four times as long, and a step asks often."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # read-only, or empty
        return array.__array_interface__["data"][0]


# ------------------------------------------------------------------------------------------------ the threads


_ALONE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)


def threads() -> int:
    """How many threads share the work of a kernel."""
    return get_num_threads() if os.getpid() == _home() else 1


@cache
def _home() -> int:
    """The process whose team of threads this is, or a copy of: the one that first asked."""
    get_num_threads()  # starts the threads
    return os.getpid()


@cache
def _team():
    """Numba's `parallel_for` as a C function: it hands shares to the threads, without the GIL, and waits for them."""
    kinds = [ctypes.c_void_p] * 5 + [ctypes.c_size_t] * 2 + [ctypes.c_int]
    return ctypes.CFUNCTYPE(None, *kinds)(llvm.address_of_symbol("numba_parallel_for"))


def _run(address: int, shares: int, words: bytes) -> None:
    """Call the C function at an address for shares 0 to `shares` - 1, one a thread."""
    first, _ = _numbers_of(shares)
    if shares == 1:  # a team of one would leave its caller with one thread: OpenMP's keeps the number it was given
        _ALONE(address)(first, first + 8, first + 16, words)
    else:
        _team()(address, first, first + 8, first + 16, words, 0, 1, shares)


@cache
def _numbers_of(shares: int) -> tuple[int, tuple]:
    """The address of: where the numbers 0 to `shares` - 1 stand, how many they are, a step in bytes; and all these."""
    numbers = np.arange(shares)
    of_all = np.array([_address(numbers), shares, 8])
    return _address(of_all), (of_all, numbers)


# ------------------------------------------------------------------------------------------------ compiling


def _compile(body, kinds) -> tuple[int, bool]:
    """The address of the C function of a body for these argument types, and whether its work is shared."""
    part, shared = _share_of(body)
    compiled = device_function(part)
    unpack, names, at = ["def unpack(first, count, steps, words):"], [], 1
    reachable = {"__name__": __name__, "work": compiled, "carray": carray, "integer": _integer}
    reachable |= {"float32": _float32, "float64": _float64}
    for i, kind in enumerate(kinds):
        if isinstance(kind, str):
            unpack.append(f"    a{i} = {kind}(words, {at})")
            at += 1
        else:
            dtype, ndim = kind
            reachable[f"pointer{i}"] = _pointer(dtype)
            sizes = "".join(f"integer(words, {at + 1 + j}), " for j in range(ndim))
            unpack.append(f"    a{i} = carray(pointer{i}(words, {at}), ({sizes}))")
            at += 1 + ndim
        names.append(f"a{i}")
    unpack.append("    share = integer(integer(first, 0), 0)")
    unpack.append("    for share in range(share, share + integer(count, 0)):")
    own = ["share", "integer(words, 0)"] if shared else []
    unpack.append(f"        work({', '.join(own + names)})")
    exec("\n".join(unpack), reachable)
    function = CFunc(reachable["unpack"], ((types.int64,) * 4, types.void), {}, _OPTIONS)
    function._cache = _cache(body, str(kinds)) or function._cache
    function.compile()
    return function.address, shared


def _share_of(body) -> tuple[FunctionType, bool]:
    """The body with two more arguments, share and shares, and the range of its prange cut down to that share."""
    if body.__code__.co_freevars:
        raise TypeError(
            f"kernel {body.__name__}: it takes {', '.join(body.__code__.co_freevars)} from the function around it; "
            "cure: an argument of the kernel, or a name of the module"
        )
    try:
        lines, first = inspect.getsourcelines(body)
    except OSError:
        raise TypeError(
            f"kernel {body.__name__}: its source cannot be read (was it typed into a session?); cure: put it in a file"
        ) from None
    tree = ast.parse(textwrap.dedent("".join(lines)))
    ast.increment_lineno(tree, first - 1)
    (definition,) = tree.body
    loops = [node for node in ast.walk(definition) if isinstance(node, ast.Call) and _name(node.func) == "prange"]
    if len(loops) > 1:
        raise TypeError(f"kernel {body.__name__}: it has {len(loops)} loops over prange, expected one")
    definition.decorator_list = []
    for loop in loops:
        if len(loop.args) != 1 or loop.keywords:
            raise TypeError(
                f"kernel {body.__name__}: {ast.unparse(loop)} has {len(loop.args)} arguments, expected one; "
                "cure: count from 0, and add the first index inside the loop"
            )
        loop.func.id = "range"
        count = ast.unparse(loop.args[0])
        ends = f"({count}) * {SHARE} // {SHARES}", f"({count}) * ({SHARE} + 1) // {SHARES}"
        loop.args = [ast.parse(end, mode="eval").body for end in ends]
        definition.args.args[:0] = [ast.arg(SHARE), ast.arg(SHARES)]
    for loop in (node for node in ast.walk(definition) if isinstance(node, ast.For) and node.iter in loops):
        loop.body.insert(0, ast.parse(f"{ast.unparse(loop.target)} = {NATURAL}({ast.unparse(loop.target)})").body[0])
    scope = {NATURAL: natural}
    exec(compile(ast.fix_missing_locations(tree), body.__code__.co_filename, "exec"), body.__globals__ | scope, scope)
    return scope[body.__name__], bool(loops)


def _name(node) -> str | None:
    return getattr(node, "id", None)


@cache
def _pointer(dtype):
    """pointer(words, i): the i-th word as the address of numbers of a dtype."""
    kind = types.CPointer(from_dtype(dtype))

    @intrinsic
    def pointer(typing_context, words, i):
        def emit(context, builder, signature, args):
            return builder.inttoptr(_load(builder, *args), context.get_value_type(kind))

        return kind(types.int64, types.int64), emit

    return pointer


def _load(builder, words, i):
    return builder.load(builder.gep(builder.inttoptr(words, _word.as_pointer()), [i]))


def _number(kind, convert):
    """number(words, i): the i-th word as a number of a Numba type."""

    @intrinsic
    def number(typing_context, words, i):
        return kind(types.int64, types.int64), lambda context, builder, _, args: convert(builder, _load(builder, *args))

    return number


_integer = _number(types.int64, lambda b, word: word)
_float64 = _number(types.float64, lambda b, word: b.bitcast(word, ir.DoubleType()))
_float32 = _number(types.float32, lambda b, word: b.bitcast(b.trunc(word, ir.IntType(32)), ir.FloatType()))


# ------------------------------------------------------------------------------------------------ the cache


def _cache(body, variant: str):
    """Numba's cache of compiled functions, for one variant of a body, stamped with the text of all that it reaches.

    None where no folder can be written, or there is none: then kernels are compiled anew in each process.
    """
    text = stamp(body, _compile)
    name = hashlib.sha256(f"{body.__module__} {body.__qualname__} {variant}".encode()).hexdigest()[:16]

    class Locator(_CacheLocator):
        def get_cache_path(self):
            return str(cache_folder())

        def get_source_stamp(self):
            return text

        def get_disambiguator(self):
            return name

        @classmethod
        def from_function(cls, function, source):
            if cache_folder() is None:
                return None
            locator = cls()
            try:
                locator.ensure_cache_path()
            except OSError:
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

    try:
        return Cache(body)
    except RuntimeError:
        log.info("compiling %s (no cache folder can be written; TINYSEG_CACHE names one)", body.__name__)
        return None

