"""Files of weights -> arrays by name: PyTorch's .pth (both its formats), .safetensors, .npz.

A .pth holds a pickle, a program for a small stack machine that can be told to call any function of Python. Here the
program is never run by `pickle`: `pickletools` takes it apart into its instructions, and the few that a dictionary of
tensors needs are done below, on names and numbers. A call of anything but "make a tensor", "make a parameter" and
"make an ordered dictionary" ends the reading, and so does every other instruction. What is read is bounded by the size
of the file: nothing in it may be compressed or counted twice, and no tensor may reach beyond its storage. A small
pickle can stand for an endless value, by naming one tuple twice in the next, and that one twice again: so nothing here
walks through, prints or hashes a value without an end in sight.
"""

import io
import json
import math
import pickletools
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bfloat16", "I64": "<i8", "I32": "<i4", "I16": "<i2"}
SAFETENSORS |= {"I8": "<i1", "U8": "<u1", "BOOL": "|b1"}
CALLS = {
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "collections OrderedDict",
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class FileError(ValueError):
    """A file of weights that cannot be read; the message names it, what is wrong and the cure."""


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a .pth, .pt, .safetensors or .npz file by name, as they are (filters (K,C,R,S) in PyTorch's).

    A .pth may hold the dictionary itself or a checkpoint that has one under "state_dict" or "model". bfloat16 becomes
    float32. Nothing in the file is executed; whatever is not a tensor, a number or text is refused.

    Raises FileError for a file that is none of these, that is damaged, or that holds something else.

    Example:
        skipped = ts.interop.load_torch(model, ts.interop.read("fcn_resnet50_coco.pth"))
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(9)
            file.seek(0)
            if zipfile.is_zipfile(file):
                file.seek(0)
                return _read_zip(file)
            file.seek(0)
            if head[8:9] == b"{":
                return _read_safetensors(file.read())
            return _read_legacy(file)
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # what damage does to a format is never one exception
        raise FileError(
            f"{path}: not a file of weights, or a damaged one; expected .pth, .safetensors or .npz; cure: copy it again"
        ) from error


# ------------------------------------------------------------------------------------------------------ containers


def _read_zip(file) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as members:
        names = {info.filename: info for info in members.infolist()}
        if any(info.compress_type != zipfile.ZIP_STORED for info in names.values()):
            raise FileError("its members are compressed; cure: save it with np.savez or torch.save")
        _refuse_more(sum(info.file_size for info in names.values()), file.seek(0, 2))
        pickled = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
        if not pickled:
            with np.load(io.BytesIO(file.seek(0) or file.read()), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        root = pickled[0].removesuffix("data.pkl")
        order = members.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
        if order != b"little":
            raise FileError(f"its numbers are {order.decode()}-endian; expected little")
        storages = {}

        def storage(key: str):
            if f"{root}data/{key}" not in names:
                raise FileError(f"{root}data/{key}, the numbers of a tensor, is missing in it")
            if key not in storages:
                storages[key] = np.frombuffer(members.read(f"{root}data/{key}"), np.uint8)
            return storages[key]

        value = _run(io.BytesIO(members.read(pickled[0])))
        return _arrays(value, storage)


def _read_legacy(file) -> dict[str, np.ndarray]:
    """Before PyTorch 1.6: five pickles, one behind the other, then each storage with its length before it."""
    if _run(file) != LEGACY_MAGIC:
        raise FileError("not a file of weights; expected .pth, .safetensors or .npz")
    _run(file)  # the version
    _run(file)  # sizes and byte order of the machine that wrote it
    value, keys = _run(file), _run(file)
    types, storages = {s.key: s.dtype for s in _storages(value)}, {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        if not isinstance(key, str) or key not in types:
            raise FileError(f"storage {_short(key)} belongs to no tensor")
        storages[key] = np.frombuffer(file.read(count * _bytes_each(types[key])), np.uint8)
    return _arrays(value, storages.__getitem__)


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), np.frombuffer(data[8 + length :], np.uint8)
    arrays, taken = {}, 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in SAFETENSORS:
            raise FileError(f"{name} has dtype {entry['dtype']}, which has no counterpart here")
        begin, end = entry["data_offsets"]
        dtype, shape = SAFETENSORS[entry["dtype"]], tuple(map(int, entry["shape"]))
        if not 0 <= begin <= end <= len(body) or end - begin != math.prod(shape) * _bytes_each(dtype):
            raise FileError(f"{name} {shape} does not fit into its {end - begin} bytes")
        arrays[name] = _values(body[begin:end], dtype).reshape(shape)
        taken += end - begin
        _refuse_more(taken, len(body))
    return arrays


def _refuse_more(claimed: int, there: int) -> None:
    if claimed > there:
        raise FileError("its parts claim more bytes than the file has; it is not trusted")


# ---------------------------------------------------------------------------------------------- the stack machine


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A function or class that the pickle mentions: its name, nothing more."""

    text: str


_PLAIN = str | int | float | bytes | None  # bool too
_NUMBERS_AND_TEXT = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "BINUNICODE"}
_NUMBERS_AND_TEXT |= {"SHORT_BINUNICODE", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def _run(file):
    """The value that the pickle at the file's position stands for, without running it."""
    stack, marks, memo = [], [], {}

    def pop_to_mark():
        at = marks.pop()
        items = stack[at:]
        del stack[at:]
        return items

    for opcode, argument, _ in pickletools.genops(file):
        op = opcode.name
        if op in ("PROTO", "FRAME"):
            pass
        elif op == "STOP":
            return stack.pop()
        elif op in _NUMBERS_AND_TEXT:
            stack.append(argument)
        elif op in _CONSTANTS:
            stack.append(_CONSTANTS[op])
        elif op == "MARK":
            marks.append(len(stack))
        elif op in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[op])
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(op[-1])
            stack[-n:] = [tuple(stack[-n:])]
        elif op == "TUPLE":
            stack.append(tuple(pop_to_mark()))
        elif op == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif op == "APPENDS":
            items = pop_to_mark()
            stack[-1].extend(items)
        elif op in ("SETITEM", "SETITEMS"):
            items = pop_to_mark() if op == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(_pairs(zip(items[::2], items[1::2], strict=True)))
        elif op in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif op == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif op in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif op == "GLOBAL":
            stack.append(_Name(argument))
        elif op == "STACK_GLOBAL":
            stack[-2:] = [_Name(" ".join(stack[-2:]))]
        elif op == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif op == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments))
        elif op == "BUILD" and isinstance(stack[-2], dict):
            stack.pop()  # attributes of an ordered dictionary: PyTorch's version numbers of layers
        else:
            raise FileError(f"its pickle asks for {op}, which no dictionary of tensors needs; it is not trusted")
    raise FileError("its pickle has no end")


def _storage(told) -> _Storage:
    if not isinstance(told, tuple) or len(told) < 5 or told[0] != "storage":
        raise FileError(f"it holds {_short(told)}, which is no tensor; only tensors are read, so it is refused")
    _, name, key, _, count, *_ = told
    dtype = STORAGES.get(name.text.split(" ")[-1]) if isinstance(name, _Name) else None
    if dtype is None or not name.text.startswith("torch ") or not isinstance(key, str | int):
        raise FileError(f"it holds a storage {_short(name)} {_short(key)}, expected numbers of PyTorch")
    return _Storage(str(key), dtype, int(count))


def _call(function, arguments):
    if not isinstance(function, _Name) or function.text not in CALLS:
        what = _short(function)
        raise FileError(f"its pickle wants to call {what}; only tensors and dictionaries are read, so it is refused")
    if function.text.endswith("OrderedDict"):
        return dict(_pairs(arguments[0] if arguments else ()))
    if function.text.endswith("_rebuild_parameter"):
        return arguments[0]
    storage, offset, shape, strides, *_ = arguments
    if not isinstance(storage, _Storage):
        raise FileError(f"it holds a tensor of {_short(storage)}, expected numbers of PyTorch")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _pairs(items):
    """The items of a dictionary, as long as its keys are numbers or text: the hash of a tuple may never end."""
    for key, value in items:
        if not isinstance(key, _PLAIN):
            raise FileError(f"it holds a dictionary with a key that is {_short(key)}, expected text")
        yield key, value


def _short(value) -> str:
    """A value for a message: of containers the kind alone."""
    if isinstance(value, _Name):
        return repr(value.text[:60])
    return repr(value)[:60] if isinstance(value, _PLAIN) else f"a {type(value).__name__.strip('_').lower()}"


# ------------------------------------------------------------------------------------------------------- arrays


def _arrays(value, storage) -> dict[str, np.ndarray]:
    """The state dictionary in what was read; its tensors are views of their storages, which `storage` gives by key."""
    if not isinstance(value, dict):
        raise FileError(f"it holds a {type(value).__name__}, expected a dictionary of tensors")
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(value.get(key), dict):
            value = value[key]
            break
    tensors = {str(name): tensor for name, tensor in value.items() if isinstance(tensor, _Tensor)}
    if not tensors:
        raise FileError(f"it holds no tensors, only {', '.join(map(str, list(value)[:5])) or 'nothing'}")
    places = {(tensor.storage.key, tensor.storage.dtype) for tensor in tensors.values()}
    numbers = {(key, dtype): _values(storage(key), dtype) for key, dtype in places}
    return {name: _view(name, t, numbers[t.storage.key, t.storage.dtype]) for name, t in tensors.items()}


def _view(name: str, tensor: _Tensor, values: np.ndarray) -> np.ndarray:
    shape, strides = tensor.shape, tensor.strides
    if len(shape) != len(strides) or len(shape) > 32 or min((*shape, *strides, tensor.offset), default=0) < 0:
        raise FileError(f"{name} has shape {shape}, strides {strides} and offset {tensor.offset}")
    if math.prod(shape) == 0:
        return np.zeros(shape, values.dtype)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides))
    if last >= len(values) or math.prod(shape) > len(values):
        raise FileError(f"{name} {shape} reaches beyond its storage of {len(values)} numbers")
    steps = [s * values.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], shape, steps, writeable=False)


def _storages(value) -> list[_Storage]:
    """The storages of all tensors inside; each container is looked through once, however often it is named."""
    found, seen, left = [], set(), [value]
    while left:
        item = left.pop()
        if isinstance(item, _Tensor):
            found.append(item.storage)
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            left += item.values() if isinstance(item, dict) else item
    return found


def _bytes_each(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _values(data: np.ndarray, dtype: str) -> np.ndarray:
    """Bytes as numbers."""
    data = data[: len(data) - len(data) % _bytes_each(dtype)]
    if dtype != "bfloat16":
        return data.view(dtype)
    return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)  # the upper half of a float32
