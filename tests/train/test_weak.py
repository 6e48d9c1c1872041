"""Training from weak labels: each method moves the weights, mixes are means, turns are taken and taken up again."""

import io
from types import SimpleNamespace

import numpy as np
import pytest

import tinyseg as ts
from tests.train.options import options
from tinyseg.cli import main
from tinyseg.cli.train import complete
from tinyseg.data import Shapes, Weak, read_index
from tinyseg.report import Progress
from tinyseg.train import TrainError
from tinyseg.train import weak as room
from tinyseg.train.task import task_of
from tinyseg.train.weak import METHODS, GraphCuts, WeaklySupervised, methods_of, turns_of


@pytest.fixture
def few(monkeypatch):
    """The synthetic shapes, but few and small."""
    monkeypatch.setattr(
        "tinyseg.train.semantic.Shapes", lambda size, length, seed: Shapes(size=32, length=8, seed=seed)
    )


def weak(tmp_path, *supervision, **others):
    chosen = dict(supervision=list(supervision), batch=4, width=4, workers=0, augment=[], epochs=2)
    chosen |= {"out": str(tmp_path / "run")}
    return WeaklySupervised(options(**{**chosen, **others}))


EVERY = [(kind, method) for kind, methods in METHODS.items() for method in methods]


@pytest.mark.parametrize("kind, method", [*EVERY, ("points", "crf")])
def test_each_method_has_a_loss_and_a_gradient(few, tmp_path, kind, method):
    task = weak(tmp_path, kind, method=[method])
    model = task.make_model()
    task.begin_epoch(model, 0, Progress(io.StringIO()))
    batch = next(task.loader.batches(0))
    loss = task.loss(model, batch)
    loss.backward()
    assert loss.shape == () and np.isfinite(loss.item()) and loss.item() > 0
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("kind, method", [("scribbles", "crf"), ("tags", "em_adapt"), ("boxes", "boxinst")])
def test_half_precision(few, tmp_path, kind, method):
    """float16 logits, as autocast makes them, have the loss of their values in float32, and a gradient."""
    task = weak(tmp_path, kind, method=[method])
    batch = next(task.loader.batches(0))
    values = np.random.default_rng(0).standard_normal((4, 32, 32, 6)).astype(np.float16)
    half = ts.Tensor(values, ts.get_device("cpu"), requires_grad=True)
    loss = task.loss_of(half, batch)
    loss.backward()
    wide = task.loss_of(ts.tensor(values.astype(np.float32)), batch)
    assert loss.item() == pytest.approx(wide.item()) and half.grad.dtype == np.float16


def test_the_loss_of_a_mix_is_the_mean_over_its_images(few, tmp_path):
    task = weak(tmp_path, "tags", masked=4, method=["ccnn"], warm_start=0.0)
    model = task.make_model().eval()
    batch = next(iter(task.loader))
    assert {"masks", "tags"} == set(batch.supervision)
    whole = task.loss(model, batch).item()
    each = 0.0
    for n in range(len(batch)):
        one = room.replace(
            batch, images=batch.images[n : n + 1], masks=batch.masks[n : n + 1], tags=batch.tags[n : n + 1],
            boxes=batch.boxes[n : n + 1], supervision=batch.supervision[n : n + 1],
        )  # fmt: skip
        each += task.loss(model, one).item() / len(batch)
    assert whole == pytest.approx(each, rel=1e-4)


@pytest.mark.parametrize("method", ["seg", "box_em"])
def test_class_weights_are_those_of_the_labels_that_are_learned(few, tmp_path, method):
    """Boxes alone show no pixel's class: every weight would be 0, and so the loss."""
    task = weak(tmp_path, "boxes", method=[method], class_weights="median")
    batch = next(task.loader.batches(0))
    masks = [ts.losses.segment_boxes(image, boxes, 6) for image, boxes in zip(*_images_and_boxes(task))]
    weight = ts.losses.median_frequency_weights([SimpleNamespace(mask=m) for m in masks], 6)
    logits = ts.tensor(np.random.default_rng(0).standard_normal((4, 32, 32, 6)).astype(np.float32))
    expected = ts.losses.cross_entropy(logits, batch.masks, weight=weight).item()
    assert task.masks_loss(logits, batch).item() == pytest.approx(expected) and expected > 0


def _images_and_boxes(task):
    samples = [task.train_set.dataset[i] for i in range(len(task.train_set))]
    return [s.image for s in samples], [s.boxes for s in samples]


def test_superpixels_are_as_large_as_asked_for(few, tmp_path):
    labels = []
    for size in (5, 300):
        task = weak(tmp_path / str(size), "points", method=["scribblesup"], superpixel_size=size)
        task.begin_epoch(task.make_model(), 0, Progress(io.StringIO()))
        labels.append(np.stack([mask for _, mask in sorted(task.cuts.masks.items())]))
    changes = [(np.diff(mask.astype(int)) != 0).sum() for mask in labels]
    assert changes[0] > changes[1]


def test_more_epochs_move_neither_the_warm_start_nor_turns_that_were_taken(few, tmp_path):
    task = weak(tmp_path, "tags", epochs=2)
    longer = weak(tmp_path, "tags", epochs=8)
    assert longer.warm_until != task.warm_until
    longer.load_state(task.state())
    assert longer.warm_until == task.warm_until
    task = weak(tmp_path, "scribbles", method=["scribblesup"], epochs=4, turns=3)
    model, said = task.make_model(), io.StringIO()
    for epoch in range(4):
        task.begin_epoch(model, epoch, Progress(said))
    longer = weak(tmp_path, "scribbles", method=["scribblesup"], epochs=10, turns=3)
    longer.load_state(task.state())
    for epoch in range(4, 10):
        longer.begin_epoch(model, epoch, Progress(said))
    turns = [line[:6] for line in said.getvalue().splitlines() if line.startswith("turn")]
    assert turns == ["turn 1", "turn 2", "turn 3"]


def test_turns_of_images_in_folders(few, tmp_path, monkeypatch):
    monkeypatch.setattr(Weak, "name", lambda self, i: f"street/{i}")
    task = weak(tmp_path, "scribbles", method=["scribblesup"])
    monkeypatch.setattr(
        Weak, "__getitem__", lambda self, i, own=Weak.__getitem__: room.replace(own(self, i), name=f"street/{i}")
    )
    task.begin_epoch(task.make_model(), 0, Progress(io.StringIO()))
    again = GraphCuts(task.train_set, tmp_path / "run" / "labels")
    again.read(1)
    assert len(again.masks) == 8


def test_the_pictures_of_a_batch_are_the_images(few, tmp_path):
    task = weak(tmp_path, "scribbles")
    batch = next(task.loader.batches(0))
    image = next(s.image for s in map(task.train_set.__getitem__, range(8)) if s.name == batch.names[0])
    np.testing.assert_allclose(task._pictures(batch, (32, 32))[0], image / 255, atol=1e-6)


def test_turns(few, tmp_path):
    """New labels never raise the energy; their files are what a resumed run reads."""
    task = weak(tmp_path, "scribbles", method=["scribblesup"], epochs=4, turns=2)
    assert task.turns == {0: 1, 3: 2}
    model, said = task.make_model(), io.StringIO()
    for epoch in range(4):
        task.begin_epoch(model, epoch, Progress(said))
    first, second = (line for line in said.getvalue().splitlines() if line.startswith("turn"))
    assert "turn 1: labels of 8 images by graph cuts, energy" in first
    before, after = (float(word) for word in second.split("energy ")[1].split(" -> "))
    assert after <= before
    assert all((next(task.loader.batches(0)).masks != 255).reshape(4, -1).all(1))
    again = GraphCuts(task.train_set, tmp_path / "run" / "labels")
    again.read(2)
    name = task.train_set.name(3)
    assert np.array_equal(again.masks[name], task.cuts.masks[name])
    assert np.array_equal(read_index(tmp_path / "run" / "labels" / "2" / f"{name}.png"), again.masks[name])
    other = weak(tmp_path, "scribbles", method=["scribblesup"], epochs=4, turns=2)
    other.load_state(task.state())
    assert np.array_equal(other.cuts.masks[name], task.cuts.masks[name]) and other.step == task.step


def test_when_turns_begin():
    """Three quarters of the epochs for the first; each later one has at least an epoch where there are enough."""
    assert turns_of(8, 3) == {0: 1, 6: 2, 7: 3} and turns_of(40, 3) == {0: 1, 30: 2, 35: 3}
    assert turns_of(4, 3) == {0: 1, 2: 2, 3: 3} and turns_of(1, 3) == {0: 1} and turns_of(10, 1) == {0: 1}


def test_the_task_is_chosen_by_the_supervision(few, tmp_path):
    assert type(task_of(options(out=str(tmp_path)))).__name__ == "Semantic"
    assert type(task_of(options(supervision=["tags"], epochs=1, out=str(tmp_path)))).__name__ == "WeaklySupervised"


@pytest.mark.parametrize("kind, method", [("tags", "mil"), ("boxes", "box_em")])
def test_methods_that_ask_the_network_begin_with_what_needs_no_answer(few, tmp_path, kind, method):
    """Half of the steps unless told otherwise; none where weights are given."""
    task = weak(tmp_path, kind, method=[method])
    model, steps = task.make_model().eval(), 2 * len(task.loader)
    batch = next(task.loader.batches(0))
    logits = model(ts.tensor(batch.images))
    if kind == "tags":
        easy, own = ts.losses.cam(logits, np.stack(batch.tags)), ts.losses.mil(logits, np.stack(batch.tags))
    else:
        masks = [ts.losses.segment_boxes(image, boxes, 6) for image, boxes in zip(raw(task, batch), batch.boxes)]
        easy, own = ts.losses.cross_entropy(logits, np.stack(masks)), ts.losses.bbox_em_fixed(logits, batch.boxes)
    assert task.warm_until == steps // 2
    found = [task.loss(model, batch).item() for _ in range(steps)]
    assert found == pytest.approx([easy.item()] * (steps // 2) + [own.item()] * (steps - steps // 2), rel=1e-4)
    assert weak(tmp_path, kind, method=[method], init="weights.npz").warm_until == 0
    assert weak(tmp_path, kind, method=[method], warm_start=1.0).warm_until == steps


def raw(task, batch):
    """The images of a batch before they were normalised."""
    return np.round(255 * (batch.images * np.float32(task.std) + np.float32(task.mean))).astype(np.uint8)


def test_methods():
    chosen = methods_of(options(supervision=["points", "tags"], method=["em_adapt"]))
    assert chosen == {"scribbles": "crf", "boxes": "seg", "tags": "em_adapt"}
    with pytest.raises(TrainError, match="--method rect: not a method for --supervision tags; there are em_ad"):
        methods_of(options(supervision=["tags"], method=["rect"]))


@pytest.mark.parametrize(
    "words, message",
    [
        ("--method rect", "--method is about weak labels, but --supervision is masks"),
        ("--supervision tags --labels x", "--labels needs --data"),
        ("--supervision scribbles --scribble-length 2", "expected a part of the whole scribble"),
        ("--supervision boxes --border-weights", "--border-weights need the masks of all images"),
        ("--turns 2", "--turns would do nothing with --supervision masks; cure: leave it out, or --method scribblesup"),
        ("--supervision scribbles --turns 2", "--turns would do nothing with --supervision scribbles by crf"),
        ("--supervision tags --method mil --tag-pool 2", "--tag-pool would do nothing with --supervision tags by mil"),
        ("--supervision points --method pce --crf-weight 1", "cure: leave it out, or another --method than pce"),
        ("--supervision boxes --method rect --crf-sxy 9", "cure: leave it out, or --method crf, or --crf-weight W"),
        ("--supervision tags --loss dice", "cure: leave it out, or a --method that learns masks"),
        ("--supervision points boxes --method rect --class-weights median", "--class-weights would do nothing"),
        ("--crf-pool 1", "--crf-pool would do nothing with --supervision masks"),
        ("--supervision points --scribble-width 2", "cure: leave it out, or --supervision scribbles without --data"),
        ("--data DIR --supervision scribbles --scribble-length 0.5", "--scribble-length would do nothing"),
    ],
)
def test_options_that_make_no_sense(words, message, capsys):
    assert main(["train", *words.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        {"supervision": ["scribbles"], "crf_sxy": 9.0, "scribble_width": 2},
        {"supervision": ["boxes"], "loss": "dice"},
        {"supervision": ["tags"], "masked": 8, "loss": "dice", "class_weights": "median"},
        {"supervision": ["boxes", "points"], "method": ["rect", "pce"], "crf_weight": 1.0, "crf_pool": 1},
        {"supervision": ["tags", "points"], "method": ["scribblesup", "ccnn"], "tag_pool": 2, "turns": 2},
    ],
)
def test_options_that_are_looked_at(words):
    full = complete(options(command_line="", out="nowhere", **words))
    assert {name: getattr(full, name) for name in words} == words


def test_complete_is_silent_about_masks():
    assert complete(options(command_line="", out="nowhere")).supervision == ["masks"]


def test_train_to_the_end_and_on(few, tmp_path, capsys):
    """A run of two turns, stopped after the first, goes on to what it would have been."""
    command = ["train", "--supervision", "scribbles", "--method", "scribblesup", "--batch", "4", "--width", "4"]
    command += ["--turns", "2", "--workers", "0", "--schedule", "constant", "--warmup", "0"]
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    assert main([*command, "--epochs", "2", "--out", whole]) == 0
    assert main([*command, "--epochs", "2", "--steps", "1", "--out", parts]) == 2  # one of them
    assert main([*command, "--epochs", "2", "--out", parts]) == 0
    losses = [np.load(f"{folder}/last.npz")["training/losses"] for folder in (whole, parts)]
    assert np.array_equal(*losses) and len(losses[0]) == 4
    assert "turn 2: labels of 8 images" in "".join(capsys.readouterr())
