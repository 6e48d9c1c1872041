"""Models on disk: an .npz file with a JSON header. Never pickle, never half a file.

    header          JSON: format version, how to build the model, classes, colours, normalisation, progress, options
    model/NAME      one array for each entry of model.state_dict()
    optimizer/NAME  the optimiser's arrays          training/NAME  what else a run needs to go on to the bit
    raw/NAME        the last weights themselves, where model/ is their running average

`numpy.load(path, allow_pickle=False)` reads the file. It is written beside its place, flushed to the disk and renamed,
so that a crash leaves the old file or the new one. What is read is not trusted: members must be stored uncompressed
(no bomb unpacks), must carry their checksum, and must hold numbers of exactly the promised shape.
"""

import io
import json
import os
import threading
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np

FORMAT, VERSION = "tinyseg", 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or does not fit; the message names the file, what is wrong and the cure."""


@dataclass
class Info:
    """What a model should be told beside its weights; `model.info` after `ts.load`.

    class_names: one a class. palette: (K, 3) colours in [0, 255], one a class. mean, std: one a channel, of pixels in
    [0, 1]; the model is fed (pixels - mean) / std. scale: images were resized by it. metrics: of the validation set.
    """

    class_names: list[str]
    palette: list[list[int]]
    mean: list[float]
    std: list[float]
    scale: float = 1.0
    epoch: int = 0
    step: int = 0
    metrics: dict = field(default_factory=dict)


def info_of(model) -> Info:
    """`model.info`, or a default for a model that was never told: numbered classes, VOC's colours, pixels in [0, 1]."""
    if getattr(model, "info", None) is None:
        from .data.image import voc_palette

        config = getattr(model, "config", None) or {}
        classes, channels = config.get("num_classes", 0), config.get("in_channels", 3)
        names = [f"class {i}" for i in range(classes)]
        palette = voc_palette()[np.arange(classes) % 256].tolist()
        model.info = Info(names, palette, [0.0] * channels, [1.0] * channels)
    return model.info


def save(path: str | Path, model, *, class_names=None, palette=None, mean=None, std=None, metrics=None) -> None:
    """Write a model to an .npz file, atomically.

    class_names (K), palette (K, 3) in [0, 255], mean and std (C) of pixels in [0, 1] and metrics replace what
    `model.info` says; `ts.predict` and the command line use them. A palette of 256 colours, such as a data set has, is
    cut to the K classes.

    Raises: CheckpointError where the file cannot be written or an argument has the wrong length; then `model.info` is
        what it was.
    Example: ts.save("model.npz", model, class_names=["cell", "membrane"])
    """
    given = {"class_names": class_names, "palette": palette, "mean": mean, "std": std}
    info = replace(info_of(model), **{k: np.asarray(v).tolist() for k, v in given.items() if v is not None})
    if len(info.palette) == 256:
        info.palette = info.palette[: len(info.class_names)]
    if metrics is not None:
        info.metrics = dict(metrics)
    write(path, *model_parts(model, info))
    model.info = info


def load(path: str | Path, device: str = "cpu", model=None):
    """Read a model; it comes in evaluation mode, with `model.info` (class_names, palette, mean, std, metrics ...).

    `model`: an instance to fill, for a class of your own that `ts.models` does not know.

    Raises: CheckpointError, naming the file and the cure, for a file that is missing, truncated, damaged, of another
        program or of a newer version, and for weights that do not fit the model.
    Example: model = ts.load("runs/a/best.npz")
    """
    header, arrays = read(path)
    model = fill(path, header, arrays, model)
    return model.to(device).eval()


def model_parts(model, info: Info | None = None) -> tuple[dict, dict[str, np.ndarray]]:
    """The header and the arrays that describe a model; info: instead of `model.info`."""
    info, config = info or info_of(model), getattr(model, "config", None) or {}
    classes, channels = config.get("num_classes", len(info.class_names)), config.get("in_channels", len(info.mean))
    for names, count, what in (
        (("class_names", "palette"), classes, "classes"),
        (("mean", "std"), channels, "input channels"),
    ):
        for name in names:
            if len(getattr(info, name)) != count:
                raise CheckpointError(f"save: {len(getattr(info, name))} {name} but the model has {count} {what}")
    if np.shape(info.palette) != (classes, 3):
        raise CheckpointError(f"save: palette has shape {np.shape(info.palette)}, expected ({classes}, 3)")
    if not all(0 <= level <= 255 for colour in info.palette for level in colour):
        raise CheckpointError("save: palette holds numbers outside of 0 to 255; cure: colours of 8 bits")
    if not all(value > 0 for value in info.std):
        raise CheckpointError(f"save: std is {info.std}, expected numbers above 0; pixels are divided by it")
    header = {"config": getattr(model, "config", None), "class": type(model).__name__, "info": asdict(info)}
    return header, {f"model/{name}": _host(a) for name, a in model.state_dict().items()}


def fill(path, header: dict, arrays: dict[str, np.ndarray], model=None):
    """The model that `read` found: built from the header (or given), its weights checked one by one and copied in."""
    weights = part(arrays, "model")
    if model is None:
        model = _build(path, header, weights)
    expected = {name: np.shape(a) for name, a in model.state_dict().items()}
    missing = [name for name in expected if name not in weights]
    surplus = [name for name in weights if name not in expected]
    if missing or surplus:
        words = [f"lacks {_some(missing)}"] * bool(missing) + [f"has {_some(surplus)} too many"] * bool(surplus)
        raise CheckpointError(
            f"{path}: it does not fit {type(model).__name__}: {', '.join(words)}; cure: load it with "
            "the model that it was saved from"
        )
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise CheckpointError(
                f"{path}: {name} has shape {weights[name].shape} but {type(model).__name__} expects "
                f"{shape}; cure: build the model with the same width, classes and input channels"
            )
    try:
        model.load_state_dict(weights)
        model.info = _info(header["info"])
    except Exception as error:  # a hostile header can hold anything
        raise CheckpointError(f"{path}: its header makes no sense ({_words(error)}); cure: save it again") from error
    return model


def part(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The arrays under one heading: part(arrays, "model") has the names of model.state_dict()."""
    return {key.removeprefix(f"{name}/"): a for key, a in arrays.items() if key.startswith(f"{name}/")}


def write(path: str | Path, header: dict, arrays: dict[str, np.ndarray]) -> None:
    """Write header and arrays beside `path`, flush them to the disk, and rename: all or nothing."""
    path = Path(path)
    header = {"format": FORMAT, "version": VERSION, **header}
    text = np.frombuffer(json.dumps(plain(header), indent=1).encode(), np.uint8)

    def content(file):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in {"header": text, **arrays}.items():
                # one date for all: equal models are equal files
                entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                with archive.open(entry, "w", force_zip64=array.nbytes >= 2**31 - 2**16) as member:
                    np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)

    write_atomically(path, content)


def write_atomically(path: Path, content) -> None:
    """Call content(file) on a temporary file beside `path`, then put it in place; readers see the old or the new."""
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            content(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error}); cure: another place") from error
    finally:
        with suppress(OSError):  # it is not there any more, or never was: its place is no folder, its name too long
            beside.unlink()


def read(path: str | Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The header and the arrays of a checkpoint, on the host. Raises CheckpointError; runs nothing of the file."""
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder; cure: a file in it, such as {path / 'best.npz'} of a run")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if "header.npy" not in archive.namelist():
                raise CheckpointError(
                    f"{path}: not a checkpoint of tinyseg (it has no header); cure: a file that ts.save wrote"
                )
            if any(e.compress_type != zipfile.ZIP_STORED for e in entries):
                raise CheckpointError(
                    f"{path}: compressed members, which tinyseg never writes; cure: save it with ts.save"
                )
            if sum(e.file_size for e in entries) > path.stat().st_size:
                raise CheckpointError(f"{path}: its members claim more bytes than the file has; do not trust it")
            arrays = {e.filename.removesuffix(".npy"): _array(archive.read(e)) for e in entries}
        header = json.loads(arrays.pop("header").tobytes())
        kind, version = header["format"], header["version"]
    except CheckpointError:
        raise
    except Exception as error:  # on a damaged file zipfile, numpy and json raise nearly anything
        why = f" ({_words(error)})" if isinstance(error, ValueError) else ""  # what others say is about zip files
        raise CheckpointError(
            f"{path}: truncated, damaged or not a checkpoint of tinyseg{why}; cure: copy it again, or take the other "
            "of best.npz and last.npz"
        ) from error
    if kind != FORMAT or not isinstance(version, int):
        raise CheckpointError(f"{path}: not a checkpoint of tinyseg (format {kind!r})")
    if version > VERSION:
        raise CheckpointError(
            f"{path}: format version {version}, this tinyseg reads up to {VERSION}; cure: a newer tinyseg"
        )
    return header, arrays


def plain(value):
    """The value as JSON knows it: NumPy numbers and arrays become Python's, nan and infinity become None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _array(data: bytes) -> np.ndarray:
    """The array of an .npy member; its shape must account for every byte, so that no header can ask for memory."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(file)
    if dtype.hasobject or dtype.kind not in "fiub":
        raise ValueError(f"an array of {dtype}, where only numbers are allowed")
    if fortran or prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"an array of shape {shape} in {len(data)} bytes")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape).copy()


def _build(path, header, weights):
    """The model that the header names. Its sizes must be found among the weights, before memory is spent on them."""
    from . import models

    config = header.get("config")
    if not isinstance(config, dict) or config.get("name") not in models.names():
        name = config.get("name") if isinstance(config, dict) else header.get("class")
        raise CheckpointError(
            f"{path}: a model {name!r}, which ts.models does not know; cure: build it yourself and call "
            "ts.load(path, model=...)"
        )
    # A model of this width has a filter bank of at least width x width, deeper ones of twice that, and so on: what the
    # header asks for must be there in the file.
    numbers = {k: v for k, v in config.items() if isinstance(v, int | float) and k != "seed"}
    there, width = sum(a.size for a in weights.values()), numbers.get("width", 1)
    sides = [
        width * 2.0 ** min(numbers.get("depth", 0), 64),
        numbers.get("num_classes", 1),
        numbers.get("in_channels", 1),
    ]
    if any(not 0 <= v <= there for v in numbers.values()) or sides[0] ** 2 > there or width * max(sides[1:]) > there:
        raise CheckpointError(
            f"{path}: its header promises {config}, which its weights do not bear out; do not trust it"
        )
    try:
        return models.build(config)
    except Exception as error:
        raise CheckpointError(f"{path}: its model cannot be built from {config} ({_words(error)})") from error


def _info(fields) -> Info:
    info = Info(**fields)
    info.class_names = [str(name) for name in info.class_names]
    info.palette = np.asarray(info.palette, np.uint8).reshape(len(info.class_names), 3).tolist()
    info.mean, info.std = ([float(v) for v in values] for values in (info.mean, info.std))
    info.scale, info.epoch, info.step = float(info.scale), int(info.epoch), int(info.step)
    if len(info.mean) != len(info.std) or not isinstance(info.metrics, dict) or not 0 < info.scale <= 16:
        raise ValueError("mean, std, scale or metrics")
    return info


def _host(value) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else value.numpy()


def _some(names):
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
