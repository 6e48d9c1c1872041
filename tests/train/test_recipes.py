"""`tinyseg train --recipe paper` from end to end: two steps of every model as its paper trained it, narrow, on tiny
images."""

import csv

import numpy as np
import pytest

import tinyseg as ts
from tests.models.test_models import SEMANTIC, WIDTH
from tinyseg.checkpoint import read
from tinyseg.cli import main
from tinyseg.data.image import write_image, write_mask

CROP = {"unet_paper": (188, 188)}  # others: (40, 56)
RELATIVES = ("101", "152", "101_paper", "fcn16s", "dilation7", "dilation8")  # of one recipe with another model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    top, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (top / "images").mkdir(), (top / "masks").mkdir()
    for split, names in (("train", "abcd"), ("val", "ef")):
        (top / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            mask = (np.arange(60) // 20 + np.arange(48)[:, None] // 24).astype(np.int32)
            write_mask(top / "masks" / f"{name}.png", mask)
            noise = rng.integers(-20, 20, (*mask.shape, 3))
            write_image(top / "images" / f"{name}.png", (60 * mask[..., None] + 40 + noise).astype(np.uint8))
    return top


@pytest.mark.parametrize("name", [n for n in SEMANTIC if not n.endswith(RELATIVES) or n == "deeplabv2_resnet101"])
def test_two_steps_of_the_recipe(name, folder, tmp_path, capsys):
    recipe, crop = ts.models.recipe(name), CROP.get(name, (40, 56))
    out = tmp_path / "run"
    options = ["--crop", *map(str, crop), "--width", str(WIDTH.get(name, 4)), "--batch", "2", "--steps", "2"]
    command = ["train", "--data", str(folder), "--model", name, "--recipe", "paper", "--device", "cpu", *options]
    assert main([*command, "--out", str(out)]) == 0
    said = f"began with {recipe.pretrained}; this run begins with nothing"
    assert (said in capsys.readouterr().out) == bool(recipe.pretrained)
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert rows and all(np.isfinite(float(row[key])) for row in rows for key in ("train_loss", "val_loss"))
    used = read(out / "last.npz")[0]["training"]["options"]
    assert (used["optimizer"], used["schedule"], used["batch"]) == (recipe.optimizer, recipe.schedule, 2)
    assert used["augment"] == list(recipe.augment)
