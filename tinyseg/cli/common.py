"""What the commands share: kinds of arguments, options of prediction, the model of a run, the progress line."""

import argparse
import logging
import os
import shlex
import shutil
from contextlib import contextmanager
from pathlib import Path


class UsageError(ValueError):
    """A command that makes no sense; the message says which."""


def add_command(commands, name: str, run, text: str, defaults: bool = True) -> argparse.ArgumentParser:
    """A command of the line. Without defaults, options that are not given are not there at all."""
    p = commands.add_parser(
        name, help=text, description=text, argument_default=None if defaults else argparse.SUPPRESS
    )
    p.set_defaults(run=run)
    return p


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return value


def whole(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 0")
    return value


def not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a number of at least 0")
    return value


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
    return value


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 to below 1")
    return value


def prediction_options(p) -> None:
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, emulated or auto (auto)")
    p.add_argument("--tile", type=count, metavar="N", help="side of the tiles that large images are cut into (768)")
    p.add_argument("--overlap", type=share, default=1 / 3, metavar="SHARE", help="of a tile with its neighbour (1/3)")
    p.add_argument("--flip", action="store_true", help="average with the mirrored image")
    p.add_argument(
        "--scales", type=positive, nargs="+", default=[1.0], metavar="S", help="average over resized images (1)"
    )


def refuse_views(options, model: str) -> None:
    """UsageError where options of prediction are given that mean nothing for a model of objects."""
    given = {
        "--tile": options.tile is not None,
        "--overlap": options.overlap != 1 / 3,
        "--flip": options.flip,
        "--scales": options.scales != [1.0],
    }
    for name, value in given.items():
        if value:
            raise UsageError(
                f"{name} is for classes of pixels, but {model} finds objects, in the whole image at the size it was "
                "trained on; cure: leave it out"
            )


def views(options) -> dict:
    """The options of `predict` that eval and predict share."""
    return {"tile": options.tile, "overlap": options.overlap, "flip": options.flip, "scales": tuple(options.scales)}


def make_folder(out: Path) -> None:
    """The folder of --out; UsageError where there can be none."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: no folder can be made there ({error.strerror}); cure: another --out") from error


@contextmanager
def whole_or_not(path: Path):
    """What fails inside leaves no half of a file or folder that was not there before."""
    try:
        yield
    except BaseException:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        raise


@contextmanager
def naming_check(data: str | None):
    """A DataError inside also names the command that finds all faults of the set, if there is one."""
    from ..data import DataError

    try:
        yield
    except DataError as error:
        if data is None or not Path(data).exists():
            raise
        raise DataError(f"{error}; all faults: tinyseg check {shlex.quote(str(data))}") from error


def also(written: list[Path]) -> str:
    """What was written beside the first file, for the end of its line."""
    return "; also " + ", ".join(map(str, written[1:])) if written[1:] else ""


def tell_of_earlier_results(options, default: Path, progress) -> None:
    """One line where results of an earlier call are written over and nobody named the folder."""
    earlier = [path for path in options.images if (options.out / f"{path.stem}.png").exists()]
    if earlier and options.out == default:
        names = ", ".join(f"{path.stem}.png" for path in earlier[:3]) + " ..." * (len(earlier) > 3)
        progress.say(f"{default}/ holds results from before, which are written over ({names}); --out DIR keeps them")


def refuse_overwriting(inputs: list[Path], images: list[Path], out: Path, endings: list[str]) -> None:
    """UsageError where the results of images, named in `out` after them with each of the endings, would be written over
    an input, or two over one another; before anything is done."""
    taken = {_same(path): f"the input {path}" for path in inputs}
    for path in images:
        for ending in endings:
            target = out / f"{path.stem}{ending}"
            if other := taken.get(_same(target)):
                raise UsageError(
                    f"{target}, the result of {path}, would overwrite {other}; cure: another --out, or images of like "
                    "names one after the other into folders of their own"
                )
            taken[_same(target)] = f"the result of {path}"


def _same(path: Path) -> str:
    """Equal for equal files, behind links and on disks that take A for a."""
    return os.path.normcase(path.resolve())


def refuse_other_classes(names: list[str], dataset, data: str, run: str) -> None:
    """ValueError where a data set has other classes than the model of a run."""
    found = list(dataset.class_names)
    if found != names:
        raise ValueError(
            f"{data}: the classes are {_some(found)}, but {run} knows {_some(names)}; cure: --data DIR, the data it "
            "was trained on"
        )


def _some(names) -> str:
    return ", ".join(names[:8]) + (f" ... ({len(names)} in all)" if len(names) > 8 else "")


def load_model(options):
    """The model of a run folder or of an .npz, on --device."""
    from ..checkpoint import load
    from ..device import get_device

    return load(model_file(options.model), get_device(options.device))


def model_file(run: str) -> Path:
    """The best model of a run folder, or the .npz itself."""
    from ..checkpoint import CheckpointError

    path = Path(run)
    if not path.exists():
        raise CheckpointError(f"{run}: no such run folder or .npz{others(run)}")
    if not path.is_dir():
        return path
    found = [path / name for name in ("best.npz", "last.npz") if (path / name).is_file()]
    if not found:
        raise CheckpointError(f"{path}: no best.npz and no last.npz in it; cure: a run folder of `tinyseg train`")
    return found[0]


def others(run: str) -> str:
    """What to say behind the name of a run that is not there: the runs beside it, or in runs/."""
    for folder in (Path(run).parent, Path("runs")):
        found = sorted((p.parent for p in folder.glob("*/last.npz")), key=lambda p: -p.stat().st_mtime)
        if found:
            return f"; there are {', '.join(map(str, found[:5]))}" + " ..." * (len(found) > 5)
    return "; cure: the folder that `tinyseg train` named in its last line"


def progress_line():
    """A progress line that also shows what the package logs."""
    from ..report import Progress

    progress = Progress()
    handler = logging.Handler()
    handler.emit = progress.log
    log = logging.getLogger("tinyseg")
    log.handlers[:], log.propagate = [handler], False
    log.setLevel(logging.INFO)
    return progress
