"""tinyseg eval: a model measured on a data set."""

import argparse
from pathlib import Path

from .common import (
    UsageError,
    add_command,
    load_model,
    model_file,
    naming_check,
    prediction_options,
    progress_line,
    refuse_other_classes,
    refuse_views,
    views,
)
from .crf import add_settings, settings_of
from .train import options_of


def add(commands) -> None:
    p = add_command(commands, "eval", evaluate, "Measure a model on a data set.")
    p.add_argument("model", metavar="RUN", help="a run folder or an .npz")
    p.add_argument("--data", metavar="DIR", help="a data set (what the run was trained on)")
    p.add_argument("--split", metavar="NAME", help="(what the run validated on; with --data val)")
    add_settings(p, "refine by a dense CRF before measuring")
    prediction_options(p)


def evaluate(options) -> int:
    """tinyseg eval"""
    settings = settings_of(options.crf, options.model) if options.crf else None
    model, progress = load_model(options), progress_line()
    objects = getattr(model, "task", "semantic") == "instance"
    if objects:
        refuse_views(options, options.model)
    if objects and settings is not None:
        raise UsageError(f"--crf is for classes of pixels, but {options.model} finds objects; cure: leave it out")
    last = model_file(options.model).with_name("last.npz")
    run = options_of(last) if options.data is None and last.is_file() else {}
    data, split = options.data or run.get("data"), options.split or run.get("val_split") or "val"
    if options.data is None and data and not Path(data).exists():
        raise UsageError(f"{options.model} was trained on {data}, which is not there any more; cure: --data DIR")
    with naming_check(data):
        measure(options, model, data, split, settings, progress)
    return 0


def measure(options, model, data: str | None, split: str, settings: dict | None, progress) -> None:
    """Open the data set, compare the model with it, and tell."""
    from .. import report
    from ..data.image import counted
    from ..evaluate import evaluate, evaluate_objects
    from ..train import instance, semantic

    objects = getattr(model, "task", "semantic") == "instance"
    opened = instance.open_set if objects else semantic.open_set
    dataset = opened(argparse.Namespace(data=data, scale=model.info.scale), split)
    refuse_other_classes(model.info.class_names, dataset, data or "the synthetic shapes", options.model)
    progress.say(f"{data or 'synthetic shapes'}, {split}: {counted(len(dataset), 'image')}")
    if objects:
        tell_objects(evaluate_objects(model, dataset, progress, pictures=0, panoptic=True), model, progress)
        return
    result = evaluate(model, dataset, progress, views(options), boundary=True, pictures=0, crf=settings)
    progress.say(report.class_table(model.info.class_names, result["iou"], result["share"]))
    progress.say(
        f"\nmean IoU                 {result['mean_iou']:.4f}\n"
        f"pixel accuracy           {result['pixel_accuracy']:.4f}\n"
        f"mean accuracy            {result['mean_accuracy']:.4f}\n"
        f"frequency-weighted IoU   {result['fw_iou']:.4f}\n"
        f"boundary F-score         {result['boundary_f']:.4f}\n"
        f"{counted(len(dataset), 'image')}"
        + (", refined by a dense CRF" if settings is not None else "")
        + (f", resized by {model.info.scale:g}" if model.info.scale != 1 else "")
    )


def tell_objects(result: dict, model, progress) -> None:
    """COCO's table: AP of each class, then the twelve numbers of masks and of boxes."""
    from ..report import ap_table

    quality = result["panoptic"]
    progress.say(ap_table(model.info.class_names, result["classes"], result["category_ids"]))
    progress.say("\n         masks    boxes")
    for name, value in result["mask"].items():
        progress.say(f"{name:6}{value:8.4f} {result['box'][name]:8.4f}")
    progress.say(
        f"{len(result['results'])} detections; panoptic quality {quality.pq():.4f}, of those of score 0.5 and above"
    )
