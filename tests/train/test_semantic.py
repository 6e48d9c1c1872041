"""The parts of the task, one by one; the loop as a whole is run in cli/test_cli.py."""

import io
import json
import math

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.checkpoint import Info
from tinyseg.data import Batch, Sample, Shapes
from tinyseg.evaluate import evaluate
from tinyseg.report import Progress
from tinyseg.train import TrainError, semantic
from tinyseg.train.loop import headline

from .options import options


class Colours(ts.nn.Module):
    """Logits are ten times the image, so that the strongest channel is the class."""

    def __init__(self):
        self.w = ts.nn.Parameter(np.eye(3, dtype=np.float32) * 10)
        self.info = Info(["red", "green", "blue"], [[255, 0, 0], [0, 255, 0], [0, 0, 255]], [0.0] * 3, [1.0] * 3)

    def forward(self, x):
        return x @ self.w


class Flags:
    """Two images whose class is their colour, but for known mistakes."""

    class_names, scale = ("red", "green", "blue"), None

    def __len__(self):
        return 2

    def __getitem__(self, i):
        image = np.zeros((4, 6, 3), np.uint8)
        image[:, :3, 0] = image[:, 3:, 1] = 255
        mask = image.argmax(-1).astype(np.int32)
        mask[0, 0] = 255
        mask[1, :2] = 2 - i  # image 0: blue that looks red; image 1: green that looks red
        return Sample(image, mask)


def test_evaluate_counts_the_whole_set():
    result = evaluate(Colours(), Flags(), Progress(io.StringIO()), boundary=True, pictures=1)
    # of 46 known pixels 4 are wrong: 2 blue and 2 green, all predicted red
    assert result["pixel_accuracy"] == pytest.approx(42 / 46)
    np.testing.assert_allclose(result["iou"], [18 / 22, 24 / 26, 0])
    assert result["mean_iou"] == pytest.approx(np.mean([18 / 22, 24 / 26, 0]))
    right, wrong = (-math.log(math.exp(v) / (math.exp(10) + 2)) for v in (10, 0))
    assert result["loss"] == pytest.approx((42 * right + 4 * wrong) / 46, rel=1e-4)
    assert 0 < result["boundary_f"] < 1 and len(result["samples"]) == 1
    np.testing.assert_allclose(result["found"], [22 / 46, 24 / 46, 0])


def test_a_warning_where_all_is_one_class():
    row = {"epoch": 1, "step": 5, "train_loss": 1.0, "mean_iou": 0.2, "seconds": 3}
    result = {"found": np.array([0.0, 1.0]), "share": np.array([0.5, 0.5]), "iou": np.array([0.25, np.nan])}
    (line,) = semantic.warnings_of(row, result, ["cell", "wall"])
    assert "warning: nearly every pixel is predicted as 'wall'" in line
    assert semantic.warnings_of(row, {**result, "found": np.array([0.4, 0.6])}, ["cell", "wall"]) == []
    assert semantic.classes_line(result, ["cell", "wall"]).strip() == "IoU  cell 0.250  wall -"
    assert "mean IoU 0.2000" in headline(row, {"mean_iou": 0.2}) and "loss 1.0000" in headline(row, {})
    assert "mask AP50 0.1000  val loss 2.0000" in headline(row, {"mask_ap50": 0.1, "val_loss": 2.0})


def test_losses_add_up_and_take_class_weights():
    logits, masks = (
        ts.tensor(np.random.default_rng(0).random((2, 4, 4, 6), np.float32)),
        np.full((2, 4, 4), 1, np.int32),
    )
    batch = Batch(None, masks, None, None, ())
    parts = [semantic.make_loss(options(loss=name), None)(logits, batch).item() for name in ("ce", "dice")]
    assert semantic.make_loss(options(loss="ce+dice"), None)(logits, batch).item() == pytest.approx(sum(parts))
    for name in ("focal", "lovasz", "cross_entropy"):
        shapes = Shapes(size=32, length=3)
        assert semantic.make_loss(options(loss=name, class_weights="median"), shapes)(logits, batch).item() > 0
    with pytest.raises(TrainError, match="no 'magic'.*cross_entropy"):
        semantic.make_loss(options(loss="ce+magic"), None)


def test_the_middle_of_a_mask_belongs_to_a_network_that_shrinks():
    masks = np.arange(2 * 8 * 9).reshape(2, 8, 9)
    assert np.array_equal(semantic.match(masks, (4, 5)), masks[:, 2:6, 2:7])
    assert np.array_equal(semantic.match(masks, (8, 9)), masks)


def test_augmented_images_have_one_size():
    shapes = Shapes(size=(40, 50), length=2)
    every = options(augment=list(semantic.AUGMENTATIONS), crop=None)
    transform = semantic.augmentation(every, semantic.crop_of(every, shapes), (0.5,) * 3, (0.25,) * 3)
    assert transform(shapes[0], np.random.default_rng(0)).image.shape == (40, 50, 3)
    turned = semantic.augmentation(options(augment=["rot90"]), (40, 50), (0.5,) * 3, (0.25,) * 3)
    masks = [turned(shapes[0], np.random.default_rng(seed)).mask for seed in range(8)]
    ours = {m.tobytes() for m in (shapes[0].mask, np.ascontiguousarray(shapes[0].mask[::-1, ::-1]))}
    assert {m.tobytes() for m in masks} == ours  # a picture on its side would not fill the window
    transform = semantic.augmentation(options(augment=[]), (16, 24), (0.5,) * 3, (0.25,) * 3)
    sample = transform(shapes[1], np.random.default_rng(0))
    assert sample.image.shape == (16, 24, 3) and sample.image.dtype == np.float32 and sample.mask.shape == (16, 24)


def test_border_weights_are_made_behind_the_crop_and_weigh_cross_entropy():
    mask = np.zeros((12, 20), np.int32)
    mask[:, :6], mask[:, 8:14], mask[:, 16:] = 1, 1, 2
    mask[0, :2] = 255
    bare = Sample(np.zeros((12, 20, 3), np.uint8), mask)
    instances = np.where(mask == 255, 0, mask)  # both parts of class 1 are one
    told = Sample(bare.image, mask, np.where(instances == 2, 255, instances))
    transform = semantic.augmentation(options(augment=[], border_weights=True), (12, 20), (0.5,) * 3, (0.25,) * 3)
    by_mask, by_instances = (transform(s, np.random.default_rng(0)).weights for s in (bare, told))
    cells = instances.copy()
    cells[:, 8:14] = 3
    np.testing.assert_array_equal(by_mask, ts.losses.unet_border_weights(cells))
    np.testing.assert_array_equal(by_instances, ts.losses.unet_border_weights(instances))
    assert by_mask[5, 7] > 5 > 2 > by_instances[5, 6] and by_instances[5, 14] > 5

    logits = ts.tensor(np.random.default_rng(0).standard_normal((1, 8, 16, 3)).astype(np.float32))
    batch = Batch(None, mask[None], None, by_mask[None], ())
    middle = ts.losses.cross_entropy(logits, mask[None, 2:-2, 2:-2], pixel_weight=by_mask[None, 2:-2, 2:-2]).item()
    assert semantic.make_loss(options(), None)(logits, batch).item() == pytest.approx(middle)
    dice = ts.losses.dice(logits, mask[None, 2:-2, 2:-2]).item()
    assert semantic.make_loss(options(loss="dice+ce"), None)(logits, batch).item() == pytest.approx(middle + dice)


def test_a_crop_that_the_model_cannot_take_is_refused():
    model = ts.models.create("unet_paper", 2, width=1)
    semantic.check_crop(model, "unet_paper", (188, 204))
    with pytest.raises(TrainError, match="200 512 pixels.*--crop 188 508 or --crop 204 524"):
        semantic.check_crop(model, "unet_paper", (200, 512))
    semantic.check_crop(ts.models.create("unet", 2, width=1), "unet", (7, 9))


def test_the_synthetic_shapes_have_two_splits():
    assert len(semantic.open_set(options(), "train")) == 800 and len(semantic.open_set(options(), "val")) == 100
    with pytest.raises(ValueError, match="no split 'test'"):
        semantic.open_set(options(), "test")


class WithAuxiliary(ts.nn.Module):
    """Logits and, in training, auxiliary ones, all from one weight."""

    recipe = ts.models.Recipe("a paper", 2, 0.1, 10, aux_weights=(0.25,), batch_norm_pass=True, frozen_batch_norm=True)

    def __init__(self, num_classes, in_channels=3, width=None, seed=0):
        self.config = {"name": "unet", "num_classes": num_classes, "in_channels": in_channels}
        self.head, self.norm = ts.nn.Conv2d(in_channels, num_classes, 1, seed=0), ts.nn.BatchNorm2d(in_channels)
        self.late = ts.nn.BatchNorm2d(in_channels)

    def forward(self, x):
        y = self.head(self.late(self.norm(x)))
        return (y, 2 * y) if self.training else y


def test_auxiliary_logits_join_the_loss_by_their_weight(monkeypatch):
    monkeypatch.setitem(ts.models.MODELS, "unet", WithAuxiliary)
    task = semantic.Semantic(options(steps=1, batch=2))
    model = task.make_model()
    batch = next(iter(task.loader.batches(0)))
    model.norm.freeze(), model.late.freeze()
    x = ts.tensor(batch.images)
    first, second = (ts.losses.cross_entropy(f * model.eval()(x), batch.masks).item() for f in (1, 2))
    assert task.loss(model.train(), batch).item() == pytest.approx(first + 0.25 * second, rel=1e-5)
    assert task.loss(model.eval(), batch).item() == pytest.approx(first, rel=1e-5)


def test_a_recipe_freezes_batch_norm_and_sets_the_normalisation(monkeypatch, tmp_path):
    monkeypatch.setitem(ts.models.MODELS, "unet", WithAuxiliary)
    task = semantic.Semantic(options(recipe="paper", steps=1, batch=2))
    assert not task.make_model().norm.frozen and task.mean == semantic.MEAN  # of weights that were never trained
    path = tmp_path / "weights.npz"
    ts.save(path, task.make_model())
    task = semantic.Semantic(options(recipe="paper", steps=1, batch=2, init=str(path)))
    assert task.make_model().norm.frozen
    task = semantic.Semantic(options(recipe="paper", model="fcn8s", steps=1, batch=2, lr=None, weight_decay=None))
    assert task.mean == ts.models.recipe("fcn8s").mean and task.std == (1 / 255,) * 3
    assert task.options.lr == pytest.approx(1e-14 * 2 * 64 * 64)


def test_statistics_are_computed_by_one_pass_before_validation(monkeypatch):
    monkeypatch.setitem(ts.models.MODELS, "unet", WithAuxiliary)
    task = semantic.Semantic(options(recipe="paper", steps=1, batch=2))
    task.train_set = task.val_set = Shapes(size=64, length=4, seed=0)
    task.loader = semantic.make_loader(
        task.options, task.train_set, semantic.augmentation(task.options, (64, 64), *[(0.5,) * 3] * 2)
    )
    model = task.make_model()
    model.norm.freeze()
    task.validate(model, Progress(io.StringIO()))
    assert model.late.running_mean.numpy().any() and not model.norm.running_mean.numpy().any()


def test_init_takes_what_fits(tmp_path, caplog):
    small, other = ts.models.create("unet", 2, width=2, seed=1), ts.models.create("unet", 5, width=2, seed=2)
    ts.save(tmp_path / "best.npz", small)
    before = other.head.weight.numpy()
    with caplog.at_level("INFO", "tinyseg"):
        semantic.begin_with(other, str(tmp_path))
    assert np.array_equal(other.down[0][0].weight.numpy(), small.down[0][0].weight.numpy())
    assert np.array_equal(other.head.weight.numpy(), before) and "98 of 100 arrays; as drawn: head" in caplog.text
    with pytest.raises(TrainError, match="nothing in it fits"):
        semantic.begin_with(ts.models.create("fcn8s", 2, width=1), str(tmp_path))


def test_init_reads_files_of_pytorch(tmp_path, caplog):
    """A .safetensors written by hand: eight bytes of length, a JSON header, the numbers."""
    trunk, model = ts.models.ResNet(50, width=2, seed=1), ts.models.create("deeplabv3_resnet50", 3, width=2, seed=2)
    header, body = {}, b""
    for name, value in ts.interop.to_torch(trunk).items():
        header[name] = {"dtype": "F32", "shape": value.shape, "data_offsets": [len(body), len(body) + value.nbytes]}
        body += value.tobytes()
    text = json.dumps(header).encode()
    path = tmp_path / "resnet.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    with caplog.at_level("INFO", "tinyseg"):
        semantic.begin_with(model, str(path))
    assert np.array_equal(model.backbone.layer4[2].conv2.weight.numpy(), trunk.layer4[2].conv2.weight.numpy())
    assert "missing: classifier.0.convs.0.0.weight" in caplog.text and "missing: backbone" not in caplog.text
    with pytest.raises(TrainError, match="not one of .* fits UNet"):
        semantic.begin_with(ts.models.create("unet", 2, width=1), str(path))
    path.write_bytes(b"nothing")
    with pytest.raises(TrainError, match="resnet.safetensors: not a file of weights"):
        semantic.begin_with(model, str(path))
