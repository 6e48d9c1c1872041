"""What the commands say to one who stumbles, and what they leave behind."""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.cli import main
from tinyseg.cli.train import complete
from tinyseg.data.image import write_image, write_mask
from tinyseg.train import train


@pytest.fixture
def small(data, tmp_path):
    """Three images to train on, one to validate."""
    for kind in ("images", "masks"):
        for split, count in (("train", 3), ("val", 1)):
            (tmp_path / "small" / kind / split).mkdir(parents=True)
            for i in range(count):
                shutil.copy(data / kind / split / f"{split}{i}.png", tmp_path / "small" / kind / split)
    shutil.copy(data / "classes.txt", tmp_path / "small")
    return tmp_path / "small"


def test_a_batch_that_nobody_asked_for_fits_the_set(small, tmp_path, capsys):
    command = ["train", "--data", str(small), "--width", "2", "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main([*command, "--batch", "4"]) == 1
    assert "--batch 4: there are 3 images to train on, not one batch; cure: --batch 3" in capsys.readouterr().err
    assert main(command) == 0
    assert "3 images to train on, 1 to validate, 1 step of 3 images" in capsys.readouterr().out
    assert main(["train", "--out", str(tmp_path / "run"), "--resume", "--epochs", "2"]) == 0


def test_objects_without_instances_leave_no_run(small, tmp_path, capsys):
    run = tmp_path / "run"
    command = ["train", "--data", str(small), "--model", "mask_rcnn_resnet18_fpn", "--width", "2", "--out", str(run)]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert f"{small} (train): 3 of 3 images have masks, but nothing says which pixels are one object" in error
    assert "cure: PNGs in instances/" in error and not run.exists()
    (small / "instances" / "train").mkdir(parents=True)
    for i in range(3):
        write_mask(small / "instances" / "train" / f"train{i}.png", np.ones((32, 32), np.int32))
    assert main(command) == 1
    assert f"{small} (val): 1 of 1 image have masks" in capsys.readouterr().err


def test_bad_data_names_the_command_that_finds_all_faults(small, tmp_path, capsys):
    file = small / "images" / "train" / "train1.png"
    file.write_bytes(file.read_bytes()[:100])
    out = tmp_path / "runs" / "a"
    command = ["train", "--data", str(small), "--width", "2", "--epochs", "1"]
    assert main([*command, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "train1.png: cannot be read" in error and error.rstrip().endswith(f"all faults: tinyseg check {small}")
    shutil.copy(small / "images" / "train" / "train0.png", file)
    assert main([*command, "--out", str(out)]) == 0  # it had not begun: the folder is free


def test_a_crop_that_is_nearly_all_padding(small, tmp_path, capsys):
    args = ["train", "--data", str(small), "--crop", "5000", "64", "--width", "2", "--out", str(tmp_path / "run")]
    assert main(args) == 1
    assert "--crop 5000 64 is more than twice as large as the first image" in capsys.readouterr().err


def test_eval_names_it_too(trained, small, capsys):
    file = small / "masks" / "val" / "val0.png"
    file.write_bytes(file.read_bytes()[:60])
    assert main(["eval", str(trained[0]), "--data", str(small)]) == 1
    assert "val0.png: cannot be read" in (error := capsys.readouterr().err) and f"tinyseg check {small}" in error


def test_a_default_folder_is_taken_again_after_a_run_that_never_began(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = small / "images" / "train" / "train1.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    command = ["train", "--data", str(small), "--width", "2", "--epochs", "1"]
    assert main(command) == 1
    file.write_bytes(whole)
    assert main(command) == main(command) == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == ["unet-small", "unet-small-2"]


def test_one_picture_is_not_a_set(small, tmp_path, capsys):
    root = tmp_path / "one"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
        shutil.copy(small / kind / "train" / "train0.png", root / kind)
    shutil.copy(small / "classes.txt", root)
    command = ["train", "--data", str(root), "--width", "2", "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert f"{root} (val): the only picture belongs to another split; cure: more pictures, or" in error
    assert main([*command, "--split", "all", "--val-split", "all"]) == 0  # what it says is the cure


def test_runs_that_are_not_there(trained, tmp_path, capsys, monkeypatch):
    beside = trained[0].parent / "nothing"
    for command in (["eval", str(beside)], ["predict", str(beside), "a.jpg"]):
        assert main(command) == 1
        assert f"{beside}: no such run folder or .npz; there are {trained[0]}" in capsys.readouterr().err
    assert main(["train", "--out", str(beside), "--resume"]) == 2
    assert f"{beside} holds no run (no last.npz); there are {trained[0]}" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "nothing"]) == 1
    assert "nothing: no such run folder or .npz; cure: the folder that `tinyseg train` named" in capsys.readouterr().err


def test_a_truncated_checkpoint_is_called_so(trained, tmp_path, capsys):
    (tmp_path / "m.npz").write_bytes((trained[0] / "best.npz").read_bytes()[:2000])
    assert main(["eval", str(tmp_path / "m.npz")]) == 1
    error = capsys.readouterr().err
    assert "m.npz: truncated, damaged or not a checkpoint of tinyseg; cure: copy it again" in error


def test_predict_says_where_its_results_are(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("photo.png", ts.data.Shapes(size=16, seed=1)[0].image)
    command = ["predict", str(trained[0]), "photo.png", "--overlay", "--probabilities"]
    assert main(command) == 0
    told = capsys.readouterr().out
    names = ["photo.png", "photo_overlay.png", "photo.npz"]
    assert all((Path("predictions") / name).is_file() and f"predictions/{name}" in told for name in names)
    assert "written over" not in told
    assert main(command) == 0
    assert "predictions/ holds results from before, which are written over (photo.png)" in capsys.readouterr().out
    assert main([*command, "--out", "mine"]) == main([*command, "--out", "mine"]) == 0  # who names a folder knows it
    assert "written over" not in capsys.readouterr().out


def test_pictures_that_cannot_be_read_do_not_stop_the_others(trained, tmp_path, capsys):
    names = [str(tmp_path / name) for name in ("a.png", "broken.png", "c.png")]
    for name in names:
        write_image(name, ts.data.Shapes(size=16, seed=1)[0].image)
    Path(names[1]).write_bytes(b"no picture")
    assert main(["predict", str(trained[0]), *names, "--out", str(tmp_path / "out")]) == 1
    out, error = capsys.readouterr()
    assert "broken.png: cannot be read" in out and "1 of 3 pictures could not be read" in error and names[1] in error
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]


def test_a_folder_that_cannot_be_made(small, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    command = ["train", "--data", str(small), "--width", "2", "--epochs", "1", "--out"]
    for out in ("file", "file/run"):
        assert main([*command, str(tmp_path / out)]) == 1
        assert f"--out {tmp_path / out}: no folder can be made there (" in capsys.readouterr().err
    out = tmp_path / "file" / "x"
    assert main(["weaken", str(small), "--to", "tags", "--out", str(out)]) == 2
    assert f"--out {out}: no folder can be made there (Not a directory); cure" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "file")]) == 1
    assert "file: a file; a data set is a folder with" in capsys.readouterr().err


def test_a_finished_run_says_so(trained, tmp_path, capsys):
    shutil.copytree(trained[0], tmp_path / "run")
    assert main(["train", "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert "resumed at step 6 of 6; nothing is left to do" in capsys.readouterr().out


def test_too_little_memory_comes_with_its_cure(small, tmp_path, capsys):
    command = ["train", "--data", str(small), "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main([*command, "--width", "1000000"]) == 1
    assert "cure: --recompute, or a smaller --batch, --crop, --scale or --width" in capsys.readouterr().err


def test_a_run_whose_data_moved(small, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["train", "--data", str(small), "--width", "2", "--epochs", "1", "--out", run]) == 0
    small.rename(tmp_path / "moved")
    assert main(["eval", run]) == main(["train", "--out", run, "--resume", "--epochs", "2"]) == 2
    error = capsys.readouterr().err
    assert f"run was trained on {small}, which is not there any more; cure: --data DIR" in error
    assert f"--resume: the run's data are not in {small}; cure: --data DIR" in error
    moved = ["--data", str(tmp_path / "moved")]
    assert main(["eval", run, *moved]) == main(["train", "--out", run, "--resume", "--epochs", "2", *moved]) == 0


class Told:
    """A progress line that remembers."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        pass

    def show(self, text):
        self.lines.append(text)


def test_speed_is_that_of_the_steps_behind_the_first(small, tmp_path):
    options = complete(argparse.Namespace(
        data=str(small), width=2, batch=1, epochs=3, out=str(tmp_path / "run"), command_line=""
    ))  # fmt: skip
    told = Told()
    assert train(options, told)
    steps = [line for line in told.lines if line.startswith("epoch")]
    assert len(steps) == 9 and all("measuring speed" in line for line in steps[:3])
    assert all("images/s" in line and "left" in line for line in steps[3:]) and "0 s left" in steps[-1]
