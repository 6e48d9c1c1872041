import numpy as np
import pytest
from PIL import Image

import tinyseg.data
from tinyseg.data import CamVid, DataError


@pytest.fixture
def camvid(tmp_path):
    for split in ("train", "val"):
        for place in (split, f"{split}annot"):
            (tmp_path / place).mkdir()
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / split / "a.png")
        Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) % 12).save(tmp_path / f"{split}annot" / "a.png")
    return tmp_path


def test_unlabelled_is_ignored(camvid):
    dataset = tinyseg.data.open(camvid, "val")
    assert type(dataset) is CamVid and dataset.num_classes == 11 and len(CamVid(camvid, "all")) == 2
    assert np.array_equal(dataset[0].mask.ravel()[:12], [*range(11), 255])
    assert dataset.palette[3].tolist() == [128, 64, 128] and dataset.class_names[3] == "road"


def test_masks_in_camvids_colours(camvid):
    ids = np.arange(24).reshape(4, 6) % 12
    Image.fromarray(CamVid(camvid).palette[ids]).save(camvid / "trainannot" / "a.png")
    assert np.array_equal(CamVid(camvid)[0].mask, np.where(ids == 11, 255, ids))


def test_errors(camvid):
    with pytest.raises(DataError, match=r"no split 'test' \(test/ \+ testannot/\): there are train, val"):
        CamVid(camvid, "test")
    Image.fromarray(np.full((4, 6), 12, np.uint8)).save(camvid / "valannot" / "a.png")
    with pytest.raises(DataError, match=r"a\.png: the mask holds 12 but there are 11 classes"):
        CamVid(camvid, "val")[0]


def test_the_real_one(real):
    train, val = tinyseg.data.open(real("camvid")), tinyseg.data.open(real("camvid"), "val", scale=0.5)
    assert (len(train), len(val), train.in_channels) == (367, 101, 3)
    sample = val[0]
    assert sample.image.shape == (180, 240, 3) and set(np.unique(sample.mask)) <= {*range(11), 255}
