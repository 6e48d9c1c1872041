"""The commands, run as a user runs them: in a process of their own, on real files. Kept few and tiny."""

import csv
import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import tinyseg as ts
from tinyseg.checkpoint import part, read, write
from tinyseg.cli import main
from tinyseg.cli.train import has_steps
from tinyseg.data.image import write_image, write_mask

from .commands import TINY, run

# Run the command, but pull the plug while last.npz is written for the n-th time: written whole, not yet in its place.
PULL_THE_PLUG = """
import os, signal, sys
from tinyseg import checkpoint
from tinyseg.cli import main
rename, count = os.replace, 0
def replace(source, target):
    global count
    count += str(target).endswith("last.npz")
    if count == {n}:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
checkpoint.os.replace = replace
sys.exit(main(sys.argv[1:]))
"""


def losses_and_weights(run_folder):
    header, arrays = read(run_folder / "last.npz")
    return header["training"]["at"]["step"], arrays["training/losses"], part(arrays, "model"), part(arrays, "optimizer")


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_a_run_leaves_everything_in_its_folder(trained, data):
    out, text = trained
    assert {p.name for p in out.iterdir()} == {
        "metrics.csv",
        "curves.png",
        "samples.png",
        "best.npz",
        "last.npz",
        "command.txt",
    }
    assert "epoch   2  step     6" in text and "mean IoU" in text and "peak memory" in text and "square" in text
    with open(out / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["3", "6"]
    assert 0 <= float(rows[1]["mean_iou"]) <= 1 and "iou_square" in rows[1]
    assert f"tinyseg train --data {data}" in (out / "command.txt").read_text()
    for picture in ("curves.png", "samples.png"):
        assert Image.open(out / picture).width > 400
    model = ts.load(out / "best.npz")
    assert model.info.class_names == ["ground", "disc", "square"] and model.config["width"] == 4
    assert model.info.metrics["mean_iou"] == pytest.approx(max(float(row["mean_iou"]) for row in rows))


@pytest.mark.parametrize("killed_at", [4, 5, 9])  # after a step; after a validation; after the last validation
def test_a_killed_run_goes_on_to_the_bit(trained, data, tmp_path, killed_at):
    whole = losses_and_weights(trained[0])
    options = [
        "--data",
        data,
        *TINY,
        "--epochs",
        2,
        "--augment",
        "flip",
        "scale",
        "color",
        "--save-every",
        0,
        "--workers",
        1,
    ]
    run("train", *options, "--out", tmp_path / "b", code=-signal.SIGKILL, script=PULL_THE_PLUG.format(n=killed_at))
    steps, losses, *_ = losses_and_weights(tmp_path / "b")
    assert steps == {4: 2, 5: 3, 9: 6}[killed_at] and np.array_equal(losses, whole[1][:steps])
    text = run("train", "--out", tmp_path / "b", "--resume")
    assert f"resumed at step {steps} of 6" in text
    resumed = losses_and_weights(tmp_path / "b")
    assert resumed[0] == 6 and np.array_equal(resumed[1], whole[1])
    assert same(resumed[2], whole[2]) and same(resumed[3], whole[3])
    assert not list((tmp_path / "b").glob(".*"))


def test_an_average_is_what_counts_and_goes_on_to_the_bit(data, tmp_path, capsys):
    """--average and --validate-every: killed at the end of an epoch that is not validated, and resumed."""
    options = ["--data", data, *TINY, "--epochs", 3, "--validate-every", 2, "--average", 0.9, "--save-every", 0]
    assert main([*map(str, ["train", *options, "--out", tmp_path / "a"])]) == 0
    run("train", *options, "--out", tmp_path / "b", code=-signal.SIGKILL, script=PULL_THE_PLUG.format(n=5))
    assert losses_and_weights(tmp_path / "b")[0] == 3
    assert main(["train", "--out", str(tmp_path / "b"), "--resume"]) == 0
    a, b = (read(tmp_path / name / "last.npz")[1] for name in "ab")
    assert same(a, b) and same(*(read(tmp_path / name / "best.npz")[1] for name in "ab"))
    raw, average = part(a, "raw"), part(a, "model")
    assert raw.keys() == average.keys() and not any(np.array_equal(raw[k], average[k]) for k in raw)
    with open(tmp_path / "b" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("2", "6"), ("3", "9")]
    losses = a["training/losses"]
    told = [float(row["train_loss"]) for row in rows]
    assert told == pytest.approx([losses[:6].mean(), losses[6:].mean()])  # since the validation before
    best = ts.load(tmp_path / "a" / "best.npz")
    assert best.info.step in (6, 9)
    assert main(["eval", str(tmp_path / "a")]) == 0  # the score was that of the weights that were saved
    assert f"mean IoU                 {max(float(row['mean_iou']) for row in rows):.4f}" in capsys.readouterr().out


def test_dropout_goes_on_to_the_bit_too(tmp_path):
    options = ["--model", "unet_paper", "--width", 2, "--batch", 1, "--crop", 188, 188, "--steps", 3, "--save-every", 0]
    script = "import tinyseg.train.semantic as t; t.open_set = lambda o, s: t.Shapes(188, 2, seed=len(s)); "
    run(
        "train",
        *options,
        "--out",
        tmp_path / "a",
        script=script + "from tinyseg.cli import main; import sys; sys.exit(main(sys.argv[1:]))",
    )
    run("train", *options, "--out", tmp_path / "b", code=-signal.SIGKILL, script=script + PULL_THE_PLUG.format(n=3))
    assert losses_and_weights(tmp_path / "b")[0] == 1
    run("train", "--out", tmp_path / "b", "--resume", script=script + PULL_THE_PLUG.format(n=-1))
    a, b = (losses_and_weights(tmp_path / name) for name in "ab")
    assert np.array_equal(a[1], b[1]) and same(a[2], b[2]) and same(a[3], b[3])


def test_ctrl_c_saves_and_the_run_goes_on(data, tmp_path):
    command = [
        sys.executable,
        "-m",
        "tinyseg",
        "train",
        "--data",
        data,
        *TINY,
        "--steps",
        "100000",
        "--out",
        tmp_path / "c",
    ]
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (tmp_path / "c" / "metrics.csv").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopping after this step" in text and "--resume" in text
    step = losses_and_weights(tmp_path / "c")[0]
    text = run("train", "--out", tmp_path / "c", "--resume", "--steps", step + 1)
    assert f"resumed at step {step} of {step + 1}" in text


def test_a_run_that_diverges_says_so_and_keeps_the_last_good_state(data, tmp_path):
    text = run(
        "train",
        "--data",
        data,
        *TINY,
        "--optimizer",
        "sgd",
        "--lr",
        1e30,
        "--steps",
        20,
        "--out",
        tmp_path / "d",
        code=1,
    )
    assert "the loss is" in text and "diverged" in text and "smaller --lr" in text
    _, losses, weights, _ = losses_and_weights(tmp_path / "d")
    assert np.isfinite(losses).all() and all(np.isfinite(w).all() for w in weights.values())


def test_eval_prints_the_table(trained, data):
    text = run("eval", trained[0], "--data", data, "--flip", "--scales", 0.75, 1)
    for word in ("ground", "square", "mean IoU", "frequency-weighted IoU", "boundary F-score", "2 images"):
        assert word in text
    again = run("eval", trained[0], "--flip", "--scales", 0.75, 1)  # knows what it was trained on
    tables = [t[t.index("class  ") :] for t in (text, again)]  # before it: the data, and whether kernels were compiled
    assert tables[0] == tables[1] and str(data) in again


def test_eval_compares_the_names_of_the_classes(trained, tmp_path, capsys):
    model = ts.models.create("unet", num_classes=6, width=2)
    path = str(tmp_path / "other.npz")
    ts.save(path, model, class_names=list("abcdef"))
    assert main(["eval", path]) == 1
    assert "classes are background, disc" in capsys.readouterr().err
    ts.save(path, model, class_names=list(ts.data.Shapes().class_names))
    assert main(["eval", path, "--split", "test"]) == 1
    assert "no split 'test'" in capsys.readouterr().err
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for i in range(2):
        write_image(tmp_path / "images" / f"{i}.png", np.zeros((9, 9, 3), np.uint8))
        write_mask(tmp_path / "masks" / f"{i}.png", np.zeros((9, 9), np.int32))
    assert main(["eval", str(trained[0]), "--data", str(tmp_path)]) == 1
    assert "classes are a, b, c, but" in capsys.readouterr().err


def test_predict_writes_masks_of_the_images_size(trained, tmp_path):
    photo = ts.data.Shapes(size=(50, 71), seed=9)[0].image
    write_image(tmp_path / "photo.jpg", photo)
    write_image(tmp_path / "grey.png", photo[:1, :1, :1])
    text = run(
        "predict",
        trained[0],
        tmp_path / "photo.jpg",
        tmp_path / "grey.png",
        "--out",
        tmp_path / "masks",
        "--overlay",
        "--probabilities",
        "--tile",
        32,
        "--flip",
    )
    assert "photo.png  50 x 71 (height x width)" in text
    mask = Image.open(tmp_path / "masks" / "photo.png")
    assert mask.mode == "P" and mask.size == (71, 50) and np.asarray(mask).max() < 3
    assert Image.open(tmp_path / "masks" / "photo_overlay.png").size == (71, 50)
    with np.load(tmp_path / "masks" / "photo.npz") as file:
        assert file["probabilities"].shape == (50, 71, 3)
        assert np.array_equal(file["probabilities"].argmax(-1), np.asarray(mask))
    assert Image.open(tmp_path / "masks" / "grey.png").size == (1, 1)


def test_check_models_devices_and_version(data, capsys):
    assert main(["check", str(data)]) == 0
    assert main(["devices"]) == 0
    assert main(["models", "unet"]) == 0
    text = capsys.readouterr().out
    assert "square" in text and "cpu" in text and "Ronneberger" in text
    assert main(["models", "fcn8s", "--size", "256", "320", "--batch", "4"]) == 0
    text = capsys.readouterr().out
    assert "134,376,863 parameters" in text and "4 x 256 x 320 pixels" in text and "GiB for a training step" in text
    assert "lr 1e-14 on the loss summed over pixels" in text and "warm start from fcn16s" in text
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ts.models.names()) and "31,038,933" in text
    assert not logging.getLogger("tinyseg").handlers  # left as it was found
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"tinyseg {ts.__version__}\n"


@pytest.mark.parametrize(
    "args, code, message",
    [
        ([], 2, "COMMAND"),
        (["tran"], 2, "invalid choice"),
        (["train", "--batch", "0"], 2, "at least 1"),
        (["train", "--lr", "-1"], 2, "above 0"),
        (["train", "--resume"], 2, "needs --out"),
        (["train", "--epochs", "1", "--steps", "1"], 2, "one of them"),
        (["train", "--scale", "0.5", "--out", "{tmp}/x"], 2, "--scale resizes"),
        (["train", "--cache", "-1"], 2, "at least 0"),
        (["train", "--average", "1"], 2, "from 0 to below 1"),
        (["train", "--clip", "-1"], 2, "at least 0"),
        (["train", "--weight-decay", "-1"], 2, "at least 0"),
        (["train", "--save-every", "-1"], 2, "at least 0"),
        (["train", "--warmup", "-1"], 2, "whole number of at least 0"),
        (["train", "--workers", "-1"], 2, "whole number of at least 0"),
        (["train", "--seed", "-1"], 2, "whole number of at least 0"),
        (["train", "--augment", "none", "rot90"], 2, "--augment none rot90: none, and others"),
        (["predict", "m.npz", "a.jpg", "--overlap", "1"], 2, "from 0 to below 1"),
        (["train", "--validate-every", "0"], 2, "at least 1"),
        (["train", "--crop", "65", "64", "--out", "{tmp}/x"], 1, "shapes are 64 64 pixels"),
        (["train", "--split", "test", "--out", "{tmp}/x"], 1, "no split 'test'"),
        (["train", "--batch", "801", "--out", "{tmp}/x"], 1, "cure: --batch 800"),
        (["train", "--loss", "dice", "--border-weights", "--out", "{tmp}/x"], 2, "cure: --loss ce+dice"),
        (["train", "--model", "unet_paper", "--width", "1", "--out", "{tmp}/x"], 1, "cannot take training"),
        (["train", "--model", "unett", "--out", "{tmp}/x"], 1, "did you mean 'unet'"),
        (["train", "--loss", "ce+magic", "--out", "{tmp}/x"], 1, "no 'magic'"),
        (["train", "--device", "tpu", "--out", "{tmp}/x"], 1, "device 'tpu' is unknown"),
        (["train", "--data", "{tmp}/absent", "--out", "{tmp}/x"], 1, "absent: no such folder"),
        (["train", "--out", "{tmp}/absent", "--resume"], 2, "absent holds no run (no last.npz)"),
        (["train", "--init", "{tmp}/no.pth", "--out", "{tmp}/x"], 1, "no.pth: no such run or file of weights; cure"),
        (["train", "--init", "{tmp}/no", "--out", "{tmp}/x"], 1, "no: no such run or file of weights; cure"),
        (["eval", "{tmp}"], 1, "no best.npz and no last.npz"),
        (["eval", "{tmp}/m.npz"], 1, "m.npz: no such run folder or .npz"),
        (["predict", "{tmp}/m.npz", "a.jpg"], 1, "m.npz: no such run folder or .npz"),
        (["crf", "a.jpg"], 2, "tinyseg crf: expected photographs and --labels DIR"),
        (["check", "{tmp}/absent"], 1, "absent"),
        (["models", "unett"], 1, "did you mean 'unet'"),
    ],
)
def test_what_goes_wrong_is_said_in_one_paragraph(args, code, message, tmp_path, capsys):
    try:
        status = main([a.format(tmp=tmp_path) for a in args])
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert status == code and message in out + err and "Traceback" not in err
    assert not (tmp_path / "x").exists()


def test_options_of_a_resumed_run_cannot_change(trained, capsys):
    assert main(["train", "--out", str(trained[0]), "--resume", "--lr", "0.5"]) == 2
    assert "--lr is 0.5 and was 0.001" in capsys.readouterr().err
    assert main(["train", "--out", str(trained[0])]) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_predict_names_what_it_cannot_read(trained, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert main(["predict", str(trained[0]), str(tmp_path / "broken.png"), "--out", str(tmp_path / "out")]) == 1
    assert "broken.png: cannot be read" in capsys.readouterr().err
    assert main(["predict", str(trained[0]), "a/x.png", "b/x.png", "--out", str(tmp_path)]) == 2


def test_predict_overwrites_nothing_that_was_given_or_just_written(trained, tmp_path, capsys):
    names = [str(tmp_path / name) for name in ("a.png", "a_overlay.png", "m.png")]
    for name in names:
        write_image(name, ts.data.Shapes(size=16, seed=1)[0].image)
    ts.save(tmp_path / "m.npz", ts.load(trained[0] / "best.npz"))
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    here, out = ["--out", str(tmp_path)], ["--out", str(tmp_path / "out")]
    for args in (
        [str(trained[0]), names[0], *here],
        [str(trained[0]), *names[:2], "--overlay", *out],
        [str(trained[0]), names[1], names[0], "--overlay", *out],
        [str(tmp_path / "m.npz"), names[2], "--probabilities", "--out", str(tmp_path / "out" / "..")],
    ):
        assert main(["predict", *args]) == 2
        assert "would overwrite" in capsys.readouterr().err
    labels = ["--labels", str(tmp_path)]
    for args in ([names[2], *here], [*names[:2], "--overlay", *out], ["a/x.png", "b/x.png", *out]):
        assert main(["crf", *args, *labels]) == 2
        assert "would overwrite" in capsys.readouterr().err
        assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert main(["predict", str(trained[0]), *names[:2], *out]) == 0


def test_validation_masks_that_say_nothing(data, tmp_path, capsys):
    shutil.copytree(data, tmp_path / "data")
    for path in (tmp_path / "data" / "masks" / "val").iterdir():
        write_mask(path, np.full((32, 32), 255, np.int32))
    out = tmp_path / "run"
    assert main(["train", "--data", str(tmp_path / "data"), "--width", "2", "--epochs", "2", "--batch", "6",
                 "--border-weights", "--cache", "0", "--out", str(out)]) == 0  # fmt: skip
    text = capsys.readouterr().out
    assert text.count("warning: nothing could be measured") == 1  # in two epochs
    assert "-1.0" not in text and "best mean IoU" not in text
    assert (out / "best.npz").exists() and (out / "samples.png").exists()


@pytest.mark.parametrize("training", [[1, 2], {"options": [1]}, {"options": {"augment": None}}, None])
def test_a_last_npz_of_no_run_is_refused(trained, tmp_path, capsys, training):
    header, arrays = read(trained[0] / "last.npz")
    header["training"] = training
    write(tmp_path / "last.npz", header, arrays)
    assert main(["train", "--out", str(tmp_path), "--resume"]) == 1
    text = capsys.readouterr().err
    assert "last.npz: it does not say how the run was trained" in text and "fault of tinyseg" not in text


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("TINYSEG_DEBUG", "1")
    with pytest.raises(ValueError):
        main(["models", "unett"])


def test_python_m_tinyseg(tmp_path):
    assert "usage: tinyseg" in run("--help")
    assert os.fspath(tmp_path) in run("eval", tmp_path, code=1)


def test_no_command_is_answered_with_help(capsys):
    assert main([]) == 2
    assert "tinyseg COMMAND --help" in capsys.readouterr().err.replace("\n", " ")


def test_an_unknown_option_names_the_command(capsys):
    assert main(["train", "--bogus", "3"]) == 2
    assert "tinyseg train: unknown: --bogus 3; see tinyseg train --help" in capsys.readouterr().err


def test_a_run_that_failed_before_its_first_step_may_be_started_again(tmp_path):
    header = {"training": {"at": {"step": 0}}}
    assert not has_steps(tmp_path / "last.npz")
    write(tmp_path / "last.npz", header, {})
    assert not has_steps(tmp_path / "last.npz")
    header["training"]["at"]["step"] = 1
    write(tmp_path / "last.npz", header, {})
    assert has_steps(tmp_path / "last.npz")
    (tmp_path / "last.npz").write_bytes(b"damaged")  # whatever it was, it is not ours to lose
    assert has_steps(tmp_path / "last.npz")
