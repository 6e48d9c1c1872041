"""tinyseg weaken, and training from what it wrote."""

import json

import numpy as np
import pytest

import tinyseg.data
from tinyseg.cli import main
from tinyseg.data import Shapes, Weak, write_image, write_mask


@pytest.fixture
def shapes(tmp_path):
    """Six shapes as files, two of them to validate on."""
    data = Shapes(size=32, length=6, seed=3)
    for folder in ("images", "masks", "instances"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for i in range(6):
        sample = data[i]
        write_image(tmp_path / "data" / "images" / f"{i}.png", sample.image)
        write_mask(tmp_path / "data" / "masks" / f"{i}.png", sample.mask)
        write_mask(tmp_path / "data" / "instances" / f"{i}.png", sample.instances)
    (tmp_path / "data" / "classes.txt").write_text("\n".join(data.class_names))
    (tmp_path / "data" / "train.txt").write_text("0\n1\n2\n3\n")
    return tmp_path / "data"


@pytest.mark.parametrize("kind", ["scribbles", "points", "boxes", "tags"])
def test_files_are_what_would_be_made_from_the_masks(shapes, kind, capsys):
    assert main(["weaken", str(shapes), "--to", kind, "--length", "0.5", "--width", "2", "--seed", "4"]) == 0
    assert f"tinyseg train --data {shapes} --supervision {kind}" in "".join(capsys.readouterr())
    train = tinyseg.data.open(shapes)
    files, made = Weak(train, (kind,), shapes), Weak(train, (kind,), None, length=0.5, width=2, seed=4)
    for i in range(4):
        for a, b in zip(files[i].arrays, made[i].arrays, strict=True):
            assert np.array_equal(a, b)
    assert main(["weaken", str(shapes), "--to", kind]) == 2
    assert "exists and would be written over" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["scribbles", "points", "boxes", "tags"])
def test_images_of_one_name_in_two_folders(tmp_path, kind):
    """COCO's a/0.png and b/0.png keep labels of their own, in folders where they are files."""
    data, root = Shapes(size=32, length=2, seed=3), tmp_path / "coco"
    pictures = {}
    for i, folder in enumerate("ab"):
        (root / "images" / folder).mkdir(parents=True)
        write_image(root / "images" / folder / "0.png", data[i].image)
        pictures[folder] = {"id": i, "file_name": f"{folder}/0.png"}
    whole = tinyseg.data.to_coco(data)
    ids = [image["id"] for image in whole["images"]]
    for annotation in whole["annotations"]:
        annotation["image_id"] = ids.index(annotation["image_id"])
    whole["images"] = list(pictures.values())
    (root / "instances_train.json").write_text(json.dumps(whole))
    assert main(["weaken", str(root), "--to", kind, "--out", str(tmp_path / "labels")]) == 0
    train = tinyseg.data.open(root)
    assert [train.name(i) for i in range(2)] == ["a/0", "b/0"]
    files, made = Weak(train, (kind,), tmp_path / "labels"), Weak(train, (kind,))
    for i in range(2):
        of = {"boxes": "boxes", "tags": "tags"}.get(kind, "mask")
        assert np.array_equal(getattr(files[i], of), getattr(made[i], of))


@pytest.mark.parametrize("kind, there", [("scribbles", "scribbles"), ("boxes", "boxes.json")])
def test_what_failed_may_be_done_again(shapes, tmp_path, kind, there, capsys):
    mask = shapes / "masks" / "3.png"
    whole = mask.read_bytes()
    mask.write_bytes(whole[:80])
    command = ["weaken", str(shapes), "--to", kind, "--split", "all", "--out", str(tmp_path / "labels")]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "3.png: cannot be read" in error and f"all faults: tinyseg check {shapes}" in error
    assert not (tmp_path / "labels" / there).exists()
    mask.write_bytes(whole)
    assert main(command) == 0 and (tmp_path / "labels" / there).exists()


def test_train_on_a_mix(shapes, tmp_path, capsys):
    """Tags for all, a scribble for one, whose mask is gone: each image uses the first kind that it has."""
    labels = tmp_path / "labels"
    assert main(["weaken", str(shapes), "--to", "tags", "--out", str(labels)]) == 0
    (labels / "scribbles").mkdir()
    (labels / "scribbles" / "1.txt").write_text("background,1,1,4,1\n1,9,9\n")
    (shapes / "masks" / "1.png").unlink()
    command = f"train --data {shapes} --labels {labels} --supervision scribbles tags --method pce em_adapt --width 4"
    assert main([*command.split(), "--batch", "4", "--steps", "2", "--out", str(tmp_path / "run")]) == 0
    boxes = command.replace("scribbles tags --method pce em_adapt", "boxes")
    assert main([*boxes.split(), "--out", str(tmp_path / "b")]) == 1
    assert "have no boxes" in capsys.readouterr().err
    assert main(["weaken", str(shapes), "--to", "scribbles", "--length", "3"]) == 2
