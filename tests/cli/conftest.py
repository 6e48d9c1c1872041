"""A small data set of files and a run on it, which the tests of the commands share."""

import pytest

import tinyseg as ts
from tinyseg.data.image import write_image, write_mask

from .commands import TINY, run


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A data set of files: 6 images to train on and 2 to validate, 32x32."""
    root = tmp_path_factory.mktemp("shapes")
    for split, count in (("train", 6), ("val", 2)):
        shapes = ts.data.Shapes(size=32, length=count, seed=len(split), num_classes=3)
        for i in range(count):
            for kind in ("images", "masks"):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
            write_image(root / "images" / split / f"{split}{i}.png", shapes[i].image)
            write_mask(root / "masks" / split / f"{split}{i}.png", shapes[i].mask)
    (root / "classes.txt").write_text("ground\ndisc\nsquare\n")
    return root


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """A run of two epochs."""
    out = tmp_path_factory.mktemp("runs") / "a"
    text = run("train", "--data", data, *TINY, "--epochs", 2, "--augment", "flip", "scale", "color", "--out", out)
    return out, text
