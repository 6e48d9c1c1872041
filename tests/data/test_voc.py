import numpy as np
import pytest
from PIL import Image

import tinyseg.data
from tinyseg.data import VOC, DataError, voc_palette, write_mask


@pytest.fixture
def voc(tmp_path):
    """Three photos of which two are annotated."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for place in ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (root / place).mkdir(parents=True)
    for name in "abc":
        Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(root / "JPEGImages" / f"{name}.jpg")
    for name in "ab":
        write_mask(root / "SegmentationClass" / f"{name}.png", np.array([[0, 15, 15], [255, 20, 20]]))
        write_mask(root / "SegmentationObject" / f"{name}.png", np.array([[0, 1, 1], [255, 2, 2]]))
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("b\n")
    return root


def test_classes_and_instances(voc):
    for path in (voc, voc.parent, voc.parent.parent):
        dataset = tinyseg.data.open(path, "val")
        assert type(dataset) is VOC and [item.name for item in dataset.items] == ["b"]
    sample = dataset[0]
    assert dataset.num_classes == 21 and dataset.class_names[20] == "tvmonitor"
    assert sample.mask.tolist() == [[0, 15, 15], [255, 20, 20]] and sample.instances.tolist() == [[0, 1, 1], [0, 2, 2]]
    assert len(VOC(voc, "all")) == 2


def test_masks_in_vocs_colours(voc):
    mask = np.array([[0, 15, 15], [255, 20, 20]])
    Image.fromarray(voc_palette()[mask]).save(voc / "SegmentationClass" / "a.png")
    assert np.array_equal(VOC(voc)[0].mask, mask)


def test_labelmes_export_has_its_own_classes_and_no_lists(voc):
    for file in (voc / "ImageSets" / "Segmentation").iterdir():
        file.unlink()
    (voc / "class_names.txt").write_text("_background_\n" + "\n".join(f"thing{k}" for k in range(1, 21)))
    dataset = VOC(voc)
    assert [item.name for item in dataset.items] == ["a"] and dataset.class_names[15] == "thing15"


def test_errors(voc):
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("c\nd\n")
    with pytest.raises(DataError, match="1 of 2 names have no image file .d."):
        VOC(voc, "val")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("c\n")
    with pytest.raises(DataError, match="1 of 1 names have no mask file .c."):
        VOC(voc, "val")
    with pytest.raises(DataError, match="no split 'test'"):
        VOC(voc, "test")
