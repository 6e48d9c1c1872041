"""The task of instance segmentation, part by part, and its commands in one small run."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import tinyseg as ts
from tinyseg.cli import main
from tinyseg.data import Objects, Sample, Shapes, write_coco
from tinyseg.data.image import read_index, write_image
from tinyseg.evaluate import evaluate_objects
from tinyseg.metrics import coco_ap
from tinyseg.models.mask_rcnn import Detections
from tinyseg.report import Progress, ap_table, draw_objects, object_samples
from tinyseg.train import TrainError, task_of
from tinyseg.train.instance import Instance

from .options import options

MODEL = "mask_rcnn_resnet18_fpn"


class Oracle(ts.nn.Module):
    """Finds what it is told, whatever the image shows: the objects of the images in turn."""

    task, min_size, max_size = "instance", None, 1333

    def __init__(self, dataset, forget=0):
        self.w = ts.nn.Parameter(np.zeros(1))
        self.dataset, self.forget, self.turn = dataset, forget, 0
        names = list(dataset.class_names)
        self.info = ts.checkpoint.Info(names, [[0, 0, 0]] * len(names), [0.0] * 3, [1.0] * 3)

    def forward(self, images):
        sample = self.dataset[self.turn]
        self.turn += 1
        objects = Objects.from_instances(sample.instances, sample.mask)
        keep = np.arange(len(objects) - self.forget)
        pasted = []
        for k in keep:
            (x1, y1, x2, y2), mask = objects.boxes[k].astype(int), objects.mask(k)
            crop = ts.ops.crop_masks([mask], [[0, 0, *mask.shape]], [0], [[x1, y1, x2, y2]], mask.shape, 28)
            pasted.append(crop.numpy()[0])
        masks = np.array(pasted, np.float32).reshape(-1, 28, 28)
        scores = np.linspace(0.9, 0.6, len(keep)).astype(np.float32)
        return [Detections(images.shape[1:3], objects.boxes[keep], objects.labels[keep], scores, masks)]


def test_evaluation_of_one_that_knows_and_one_that_forgets():
    data = Shapes(size=64, length=4, seed=5)
    result = evaluate_objects(Oracle(data), data, Progress(io.StringIO()), pictures=2, panoptic=True)
    assert result["box"]["AP"] > 1 - 1e-9 and result["mask"]["AP50"] > 1 - 1e-9 and len(result["samples"]) == 2
    count = sum(len(Objects.from_instances(data[i].instances, data[i].mask)) for i in range(4))
    assert result["panoptic"].true_positives.sum() == count and 0.8 < result["panoptic"].pq() <= 1
    assert result["mask"]["AP"] > 0.6  # through 28 x 28 pixels the finest parts are lost
    worse = evaluate_objects(Oracle(data, forget=1), data, Progress(io.StringIO()), pictures=0, panoptic=True)
    assert worse["panoptic"].false_negatives.sum() == 4 and worse["panoptic"].false_positives.sum() == 0
    assert worse["box"]["AR100"] < 0.9 and worse["mask"]["AP50"] < result["mask"]["AP50"]
    table = ap_table(list(data.class_names), worse["classes"], worse["category_ids"])
    assert table.splitlines()[0].split() == ["class", "AP", "AP50", "AR100"] and len(table.splitlines()) == 6


def test_pictures(tmp_path):
    image = np.zeros((40, 50, 3), np.uint8)
    mask = np.zeros((40, 50))
    mask[10:30, 5:25] = 1
    objects = Objects.of((40, 50), [1], [mask])
    seen = draw_objects(image, objects, ["background", "cat"], [[0, 0, 0], [200, 0, 0]])
    assert seen.shape == (40, 50, 3) and seen[20, 15, 0] > 40 and not seen[35, 40].any() and seen[29, 20].any()
    object_samples(tmp_path / "s.png", [(image, objects, objects)], ["background", "cat"], [[0, 0, 0], [200, 0, 0]])
    assert Image.open(tmp_path / "s.png").width > 512
    with pytest.raises(ValueError, match="no rows"):
        object_samples(tmp_path / "s.png", [], [], [])


def test_the_task_is_chosen_by_the_model_and_refuses_what_means_nothing(tmp_path):
    assert type(task_of(options(model=MODEL, width=4, batch=2, data=None))) is Instance
    for changes, message in [
        ({"loss": "dice"}, "--loss is not for"),
        ({"class_weights": "median"}, "--class-weights is not for"),
        ({"supervision": ["tags"]}, "--supervision is not for"),
        ({"batch": 5000}, "not one batch"),
    ]:
        with pytest.raises(TrainError, match=message):
            task_of(options(**{"model": MODEL, "width": 4, "batch": 2, "data": None, **changes}))


def test_crop_is_large_scale_jitter_into_one_size():
    task = task_of(options(model=MODEL, width=4, batch=2, data=None, crop=[48, 64]))
    batch = next(iter(task.loader))
    assert batch.images.shape == (2, 64, 64, 3) and batch.sizes == ((48, 64), (48, 64))


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory):
    """Six images of bright squares, each an object in a 16-bit mask; no two images of one size."""
    root = tmp_path_factory.mktemp("nuclei")
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        ids = np.zeros((40 + 3 * i, 64 - 2 * i), np.uint16)
        ids[4:16, 5:20], ids[20:36, 30:44] = 300, 7
        image = rng.integers(0, 60, (*ids.shape, 3)) + 150 * (ids > 0)[..., None]
        write_image(root / "images" / f"{i}.png", image.astype(np.uint8))
        Image.fromarray(ids).save(root / "masks" / f"{i}.png")
    return root


def test_train_eval_predict_and_convert(nuclei, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    train = ["train", "--model", MODEL, "--width", "4", "--data", str(nuclei), "--batch", "2", "--workers", "0"]
    assert main([*train, "--steps", "2", "--out", str(run)]) == 0
    assert {"best.npz", "last.npz", "metrics.csv", "samples.png", "curves.png"} <= {p.name for p in run.iterdir()}
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert "mask_ap,mask_ap50,mask_ap75,box_ap,box_ap50,detections" in header
    assert main(["train", "--out", str(run), "--resume", "--steps", "3"]) == 0
    once = tmp_path / "once"
    assert main([*train, "--steps", "3", "--schedule", "constant", "--out", str(once)]) == 0
    capsys.readouterr()
    assert main(["eval", str(run)]) == 0
    told = capsys.readouterr().out
    assert "AP50" in told and "AR100" in told and "object" in told and "panoptic quality" in told
    photo = nuclei / "images" / "0.png"
    assert main(["predict", str(run), str(photo), "--out", str(out), "--overlay", "--score", "0"]) == 0
    results = json.loads((out / "results.json").read_text())
    ids = read_index(out / "0.png")
    assert ids.shape == (40, 64) and ids.max() <= len(results) and (out / "0_overlay.png").is_file()
    assert all(r["segmentation"]["size"] == [40, 64] and r["file_name"] == "0.png" for r in results)
    coco = tmp_path / "instances.json"
    assert main(["convert", str(nuclei), "--out", str(coco)]) == 0
    whole = json.loads(coco.read_text())
    assert len(whole["images"]) == 6 and whole["images"][0]["file_name"] == "0.png"
    assert [a["bbox"] for a in whole["annotations"][:2]] == [[30, 20, 14, 16], [5, 4, 15, 12]]
    assert coco_ap(whole, [a | {"score": 1} for a in whole["annotations"]])["AP"] > 1 - 1e-9
    capsys.readouterr()
    assert main(["convert", str(nuclei), "--out", str(coco)]) == 2
    assert "exists already" in capsys.readouterr().err
    for option in (["--flip"], ["--tile", "32"], ["--scales", "0.5"], ["--overlap", "0.5"]):
        assert main(["eval", str(run), *option]) == main(["predict", str(run), str(photo), *option]) == 2
        assert capsys.readouterr().err.count(f"{option[0]} is for classes of pixels") == 2
    assert main(["predict", str(run), str(photo), "--out", str(tmp_path / "p"), "--probabilities"]) == 2
    assert "--probabilities" in capsys.readouterr().err


def test_a_run_goes_on_to_the_bit(nuclei, tmp_path):
    """Weights, samplers and batches: two steps and two more are four."""
    train = ["train", "--model", MODEL, "--width", "4", "--data", str(nuclei), "--batch", "2", "--workers", "0",
             "--schedule", "constant", "--warmup", "0"]  # fmt: skip
    assert main([*train, "--steps", "4", "--out", str(tmp_path / "a")]) == 0
    assert main([*train, "--steps", "2", "--out", str(tmp_path / "b")]) == 0
    assert main(["train", "--out", str(tmp_path / "b"), "--resume", "--steps", "4"]) == 0
    a, b = (ts.load(tmp_path / name / "last.npz").state_dict() for name in "ab")
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_coco_truth_is_taken_as_it_is(nuclei, tmp_path):
    from tinyseg.data import open_objects
    from tinyseg.evaluate import coco_truth

    write_coco(open_objects(nuclei, "all"), nuclei / "instances_train.json")
    data = open_objects(nuclei / "instances_train.json")
    assert coco_truth(data)["annotations"] is data.truth["annotations"] and not coco_truth(data)["from_samples"]
    (nuclei / "instances_train.json").unlink()
    assert isinstance(data[0], Sample)
