"""tinyseg predict: photographs of any size, segmented."""

from pathlib import Path

import numpy as np

from .common import (
    UsageError,
    add_command,
    also,
    load_model,
    make_folder,
    model_file,
    not_negative,
    prediction_options,
    progress_line,
    refuse_overwriting,
    refuse_views,
    tell_of_earlier_results,
    views,
)
from .crf import add_settings, settings_of

OUT = Path("predictions")


def add(commands) -> None:
    p = add_command(commands, "predict", predict, "Segment photographs of any size.")
    p.add_argument("model", metavar="RUN", help="a run folder or an .npz")
    p.add_argument("images", nargs="+", metavar="IMAGE", type=Path)
    p.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="(predictions)")
    p.add_argument("--overlay", action="store_true", help="also NAME_overlay.png, the classes over the picture")
    p.add_argument("--probabilities", action="store_true", help="also NAME.npz with (H, W, K) float32")
    add_settings(p, "refine by a dense CRF")
    p.add_argument("--score", type=not_negative, default=0.5, metavar="S", help="objects of at least this score (0.5)")
    prediction_options(p)


def predict(options) -> int:
    """tinyseg predict"""
    from ..data import image as files
    from ..predict import predict

    settings = settings_of(options.crf, options.model) if options.crf else None
    endings = [".png", *["_overlay.png"] * options.overlay, *[".npz"] * options.probabilities]
    refuse_overwriting([*options.images, model_file(options.model)], options.images, options.out, endings)
    model, progress = load_model(options), progress_line()
    if getattr(model, "task", "semantic") == "instance":
        return predict_objects(options, model, progress)
    palette = files.palette_of(np.asarray(model.info.palette))
    tell_of_earlier_results(options, OUT, progress)
    make_folder(options.out)
    view, soft, unread = views(options), options.probabilities or settings is not None, []
    for path, image in photographs(options.images, model, progress, unread):
        result = predict(model, image, view["tile"], view["overlap"], view["flip"], view["scales"], soft)
        if settings is not None:
            from ..structured import dense_crf

            result = dense_crf(image, result, **settings, device=next(iter(model.parameters())).device)
        mask = result.argmax(-1).astype(np.int32) if soft else result
        written = [options.out / f"{path.stem}.png"]
        files.write_mask(written[0], mask, palette)
        if options.overlay:
            written.append(options.out / f"{path.stem}_overlay.png")
            files.write_image(written[-1], files.overlay(image, mask, palette))
        if options.probabilities:
            written.append(options.out / f"{path.stem}.npz")
            np.savez(written[-1], probabilities=result, class_names=np.array(model.info.class_names))
        share = np.bincount(mask.ravel(), minlength=len(model.info.class_names)) / mask.size
        seen = [f"{model.info.class_names[k]} {100 * share[k]:.1f} %" for k in np.argsort(-share) if share[k] >= 0.0005]
        size = f"{mask.shape[0]} x {mask.shape[1]} (height x width)"
        progress.say(f"{written[0]}  {size}  {', '.join(seen[:5])}{also(written)}")
    refuse_unread(unread, options.images)
    return 0


def predict_objects(options, model, progress) -> int:
    """For a model that finds objects: NAME.png with a number for each object, and results.json, COCO's results."""
    import json

    from ..data import image as files
    from ..detect import detect
    from ..evaluate import coco_results
    from ..report import draw_objects

    refuse_views(options, options.model)
    if options.probabilities or options.crf:
        raise UsageError("--probabilities and --crf are for classes of pixels; scores of objects are in results.json")
    palette, names, results = files.palette_of(np.asarray(model.info.palette)), model.info.class_names, []
    tell_of_earlier_results(options, OUT, progress)
    make_folder(options.out)
    unread = []
    for path, image in photographs(options.images, model, progress, unread):
        found = detect(model, image, options.score)
        written = [options.out / f"{path.stem}.png"]
        files.write_mask(written[0], found.instances(), files.voc_palette())
        if options.overlay:
            written.append(options.out / f"{path.stem}_overlay.png")
            files.write_image(written[-1], draw_objects(image, found, names, palette[: len(names)]))
        results += [{**r, "file_name": path.name} for r in coco_results(found, path.stem, range(len(names)))]
        told = [f"{names[found.labels[k]]} {found.scores[k]:.2f}" for k in range(min(len(found), 5))]
        told += [f"and {len(found) - 5} more"] * (len(found) > 5)
        objects = f"{files.counted(len(found), 'object')}: {', '.join(told) or 'none'}"
        progress.say(f"{written[0]}  {objects}{also(written)}")
    target, count = options.out / "results.json", files.counted(len(results), "object")
    target.write_text(json.dumps(results))
    progress.say(f"{target}  {count}; category_id: the number of the class")
    refuse_unread(unread, options.images)
    return 0


def photographs(paths: list[Path], model, progress, unread: list[Path]):
    """Yields (path, image) of those that can be read; of the others it tells why not, and puts them into `unread`."""
    from ..data import DataError, read_image

    channels = len(model.info.mean) if len(model.info.mean) in (1, 3) else None
    for path in paths:
        try:
            image = read_image(path, channels)
        except DataError as error:
            if len(paths) == 1:
                raise
            progress.say(str(error))
            unread.append(path)
        else:
            yield path, image


def refuse_unread(unread: list[Path], paths: list[Path]) -> None:
    """DataError, at the end, where pictures could not be read."""
    from ..data import DataError

    if unread:
        names = ", ".join(map(str, unread[:5])) + " ..." * (len(unread) > 5)
        raise DataError(f"{len(unread)} of {len(paths)} pictures could not be read, for the reasons above: {names}")
