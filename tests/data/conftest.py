"""Small data sets, made in a temporary folder, and the real ones beside the project, where they are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def real():
    """real(name): the folder of a real data set; skips where the project is alone."""

    def folder(name):
        if not (SHARED / name).is_dir():
            pytest.skip(f"no real data: {SHARED / name} is missing")
        return SHARED / name

    return folder


@pytest.fixture
def folder(tmp_path):
    """A sound data set: six RGB images of 12x10 pixels, masks of classes 0, 1, 2 and some 255, two of them in val."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(6):
        mask = rng.choice([0, 1, 2, 255], (12, 10), p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    (tmp_path / "train.txt").write_text("0\n1\n2\n3\n")
    (tmp_path / "val.txt").write_text("4\n5\n")
    (tmp_path / "classes.txt").write_text("background\ncell\nborder\n")
    return tmp_path
