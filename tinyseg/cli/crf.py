"""tinyseg crf: refine probabilities or masks by a dense CRF, or find the settings that suit a model and its data."""

import json
import math
from pathlib import Path

import numpy as np

from ..crf_presets import CRF_PRESETS
from .common import (
    UsageError,
    add_command,
    also,
    count,
    load_model,
    make_folder,
    naming_check,
    progress_line,
    refuse_other_classes,
    refuse_overwriting,
    tell_of_earlier_results,
)

NAMES = ", ".join(CRF_PRESETS)
OUT = Path("refined")
OWN = "crf.json"  # in a run folder: the settings that a search has found


def add(commands) -> None:
    p = add_command(
        commands, "crf", crf, "Refine probabilities or masks of photographs by a dense CRF; or --search for settings."
    )
    p.add_argument("images", nargs="*", metavar="IMAGE", type=Path)
    p.add_argument("--labels", type=Path, metavar="DIR", help="with NAME.npz of `predict --probabilities`, or NAME.png")
    p.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="(refined)")
    p.add_argument("--crf", default="deeplabv2", metavar="SETTINGS", help=f"{NAMES} or a .json of them (deeplabv2)")
    p.add_argument("--certainty", type=float, default=0.7, metavar="P", help="of a mask's labels (0.7)")
    p.add_argument("--overlay", action="store_true", help="also NAME_overlay.png, the classes over the picture")
    p.add_argument("--search", dest="model", metavar="RUN", help="try a grid of settings on --data; RUN/crf.json")
    p.add_argument("--data", metavar="DIR", help="a data set with masks, for --search")
    p.add_argument("--split", default="val", metavar="NAME", help="(val)")
    p.add_argument("--limit", type=count, default=20, metavar="N", help="images that --search looks at (20)")
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, emulated or auto (auto)")


def add_settings(p, text: str) -> None:
    """--crf for a command that has a model."""
    p.add_argument("--crf", metavar="SETTINGS", help=f"{text}: {NAMES}, own (see `tinyseg crf`) or a .json of settings")


def settings_of(name: str, run: str | None = None) -> dict:
    """Settings by the name of a preset, from a .json, or "own": those that a search left in the run folder."""
    if name in CRF_PRESETS:
        return CRF_PRESETS[name]
    path = Path(name)
    if name == "own" and run is not None:
        path = (Path(run) if Path(run).is_dir() else Path(run).parent) / OWN
    if path.suffix != ".json" or not path.is_file():
        own = ", own (after `tinyseg crf --search RUN`)" if run is not None else ""
        raise UsageError(f"--crf {name}: no such settings; there are {NAMES}{own}, or a .json file")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error})") from error
    known = next(iter(CRF_PRESETS.values()))
    if not isinstance(settings, dict) or set(settings) - set(known):
        raise UsageError(f"{path}: expected an object with some of {', '.join(known)}")
    for name, value in settings.items():
        pair = name.endswith("sxy") and isinstance(value, list) and len(value) == 2  # of the two axes
        if not all(type(v) in (int, float) for v in (value if pair else [value])):
            raise UsageError(f"{path}: {name} is {json.dumps(value)}, expected a number")
    return settings


def crf(options) -> int:
    """tinyseg crf"""
    if options.model is not None:
        with naming_check(options.data):
            return search(options)
    if not options.images or options.labels is None:
        raise UsageError("expected photographs and --labels DIR, or --search RUN --data DIR")
    from ..data import image as files
    from ..structured import dense_crf, label_probabilities

    settings, progress = settings_of(options.crf), progress_line()
    tell_of_earlier_results(options, OUT, progress)
    labels = [options.labels / f"{path.stem}{ending}" for path in options.images for ending in (".npz", ".png")]
    endings = [".png", *["_overlay.png"] * options.overlay]
    refuse_overwriting([*options.images, *filter(Path.is_file, labels)], options.images, options.out, endings)
    for path, soft, hard in zip(options.images, labels[::2], labels[1::2]):
        image = files.read_image(path)
        if soft.is_file():
            p = read_probabilities(soft)
        elif hard.is_file():
            mask = files.read_index(hard)
            known = mask[mask != 255]
            p = label_probabilities(mask, max(2, int(known.max(initial=0)) + 1), options.certainty)
        else:
            raise UsageError(f"{path}: neither {soft} nor {hard} is there; cure: --labels DIR with one of them")
        target = options.out / f"{path.stem}.png"
        before, after = p.argmax(-1), dense_crf(image, p, **settings, device=device_of(options)).argmax(-1)
        make_folder(options.out)
        files.write_mask(target, after.astype(np.int32))
        written = [target]
        if options.overlay:
            written.append(options.out / f"{path.stem}_overlay.png")
            files.write_image(written[-1], files.overlay(image, after))
        progress.say(f"{target}  {100 * (before != after).mean():.2f} % of the labels changed{also(written)}")
    return 0


def read_probabilities(path: Path) -> np.ndarray:
    """What `predict --probabilities` has written: (H, W, K) float32."""
    try:
        with np.load(path, allow_pickle=False) as held:
            p = held["probabilities"]
    except Exception as error:  # a damaged file makes zipfile and numpy raise nearly anything
        raise UsageError(
            f"{path}: damaged, or no array 'probabilities' in it; cure: `tinyseg predict --probabilities`"
        ) from error
    if p.ndim != 3 or p.dtype.kind != "f":
        raise UsageError(f"{path}: its probabilities are {p.dtype} {p.shape}, expected floats (height, width, classes)")
    return p


def device_of(options):
    from ..device import get_device

    return get_device(options.device)


def search(options) -> int:
    """tinyseg crf --search"""
    from ..checkpoint import write_atomically
    from ..data import open as open_data
    from ..data.image import counted
    from ..predict import predict
    from ..structured.crf_settings import mean_iou, search_crf

    if options.data is None:
        raise UsageError("--search: expected --data DIR, a data set with masks")
    model, progress = load_model(options), progress_line()
    if getattr(model, "task", "semantic") == "instance":
        raise UsageError(f"--search is for classes of pixels, but {options.model} finds objects")
    scale = model.info.scale
    dataset = open_data(options.data, split=options.split, **({} if scale == 1 else {"scale": scale}))
    refuse_other_classes(model.info.class_names, dataset, options.data, options.model)
    step = max(1, math.ceil(len(dataset) / options.limit))
    samples = [dataset[i] for i in range(0, len(dataset), step)]
    opinions = []
    for i, sample in enumerate(samples):
        opinions.append(predict(model, sample.image, scales=(1 / scale,), probabilities=True))
        progress.show(f"predicting {i + 1}/{len(samples)}")
    masks = [s.mask for s in samples]
    plain = mean_iou([p.argmax(-1) for p in opinions], masks, opinions[0].shape[-1])
    progress.say(f"mean IoU {plain:.4f} on {counted(len(samples), 'image')} without a CRF; trying 27 settings")
    found = search_crf([s.image for s in samples], opinions, masks)
    for value, settings in found[:5]:
        told = "  ".join(f"{name} {v:g}" for name, v in settings.items())
        progress.say(f"mean IoU {value:.4f}  {told}")
    target = (Path(options.model) if Path(options.model).is_dir() else Path(options.model).parent) / OWN
    text = json.dumps(found[0][1]) + "\n"
    write_atomically(target, lambda file: file.write(text.encode()))
    progress.say(f"{target}: tinyseg predict {options.model} photo.jpg --crf own")
    return 0
