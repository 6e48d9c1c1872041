import logging
import shutil

import numpy as np
import pytest
from PIL import Image

import tinyseg.data
from tinyseg.data import DataError, Folder, Labels


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path)


def set_of(path, masks, images=None, **files):
    """A folder of the given masks, with plain images, and text files by name."""
    for i, mask in enumerate(masks):
        write(path / "masks" / f"{i}.png", mask)
        write(path / "images" / f"{i}.png", np.zeros((*mask.shape[:2], 3), np.uint8) if images is None else images[i])
    for name, text in files.items():
        (path / f"{name}.txt").write_text(text)
    return path


def test_a_sound_folder(folder):
    train, val = Folder(folder), Folder(folder, "val")
    assert (len(train), len(val), len(Folder(folder, "all"))) == (4, 2, 6)
    assert train.class_names == ("background", "cell", "border") and train.num_classes == 3 and train.in_channels == 3
    assert train.palette.shape == (256, 3) and train.palette.dtype == np.uint8 and val.name(0) == "4"
    sample = val[0]
    assert sample.name == "4" and sample.instances is None
    assert sample.image.shape == (12, 10, 3) and sample.image.dtype == np.uint8
    assert np.array_equal(sample.mask, np.array(Image.open(folder / "masks" / "4.png")))
    assert sample.mask.dtype == np.int32
    with pytest.raises(IndexError):
        val[2]
    assert "Folder(4 samples, 3 classes, 3 channels)" == repr(train)


def test_half_resolution_and_size(folder):
    full, half = Folder(folder)[0], Folder(folder, scale=0.5)[0]
    assert half.image.shape == (6, 5, 3) and half.image.dtype == np.uint8
    assert np.array_equal(half.mask, full.mask[1::2, 1::2])
    assert Folder(folder, size=(24, 7))[0].mask.shape == (24, 7)
    for wrong in (dict(scale=0.5, size=4), dict(scale=0), dict(in_channels=2)):
        with pytest.raises(ValueError, match="expected"):
            Folder(folder, **wrong)


def test_split_files_take_endings_folders_and_columns(folder):
    (folder / "val.txt").write_text("\ufeffimages/4.png masks/4.png\n\n5.png\n", encoding="utf-8")
    assert [item.name for item in Folder(folder, "val").items] == ["4", "5"]


def test_the_other_split_is_what_one_leaves(folder, caplog):
    (folder / "val.txt").unlink()
    assert [item.name for item in Folder(folder, "val").items] == ["4", "5"]
    (folder / "train.txt").unlink()
    with caplog.at_level(logging.WARNING, "tinyseg.data"):
        assert [item.name for item in Folder(folder, "val").items] == ["4"]
        assert [item.name for item in Folder(folder).items] == ["0", "1", "2", "3", "5"]
    assert "every fifth image is val" in caplog.text


@pytest.mark.parametrize("layout", ["images/{0}|masks/{0}", "{0}/images|{0}/masks", "{0}|{0}annot"])
def test_a_folder_for_each_split(folder, tmp_path_factory, layout):
    path = tmp_path_factory.mktemp("split")
    for split, names in (("train", "0123"), ("val", "45")):
        for place, kind in zip(layout.format(split).split("|"), ("images", "masks")):
            (path / place).mkdir(parents=True)
            for name in names:
                shutil.copy(folder / kind / f"{name}.png", path / place)
    shutil.copy(folder / "classes.txt", path)
    train, val = tinyseg.data.open(path), tinyseg.data.open(path, "val")
    assert type(val) is Folder and (len(train), len(val), len(Folder(path, "all"))) == (4, 2, 6)
    assert np.array_equal(val[1].mask, Folder(folder, "val")[1].mask)
    with pytest.raises(DataError, match="no split 'test'; there are train, val"):
        Folder(path, "test")


def test_binary_masks(tmp_path, caplog):
    masks = [np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8), np.eye(4, dtype=np.uint8) * 255]
    with caplog.at_level(logging.WARNING, "tinyseg.data"):
        dataset = Folder(set_of(tmp_path, masks), "all")
    assert "the masks hold 0 and 255: read as class 0 and class 1" in caplog.text
    assert [dataset[i].mask.sum() for i in range(3)] == [0, 16, 4] and dataset.num_classes == 2
    (tmp_path / "classes.txt").write_text("membrane\ncell")
    assert Folder(tmp_path, "all").class_names == ("membrane", "cell") and Folder(tmp_path, "all")[1].mask.max() == 1
    write(tmp_path / "masks" / "2.png", masks[2] // 2)
    with pytest.raises(DataError, match=r"2\.png: the mask holds 127 but .*0 and 255"):
        Folder(tmp_path, "all", labels=Labels(("a", "b"), "binary"))[2]


def test_sixteen_bit_masks_are_instances(tmp_path, caplog):
    ids = np.arange(16, dtype=np.uint16).reshape(4, 4) * 50
    with caplog.at_level(logging.WARNING, "tinyseg.data"):
        sample = Folder(set_of(tmp_path, [ids]), "all")[0]
    assert np.array_equal(sample.instances, ids) and np.array_equal(sample.mask, ids > 0)
    assert "one object" in caplog.text
    eight = Folder(set_of(tmp_path, [ids.astype(np.uint8)]), "all", labels=Labels(("a", "b"), "instances"))[0]
    assert eight.mask.sum() == 15


def test_instances_beside_classes(folder):
    write(folder / "instances" / "0.png", np.full((12, 10), 7, np.uint16))
    sample = Folder(folder)[0]
    assert np.array_equal(sample.instances, np.where(sample.mask == 255, 0, 7)) and Folder(folder)[1].instances is None


def test_classes_from_the_masks(tmp_path):
    dataset = Folder(set_of(tmp_path, [np.uint8([[0, 1]]), np.uint8([[3, 255]])]), "all")
    assert dataset.class_names == ("background", "class 1", "class 2", "class 3")
    with pytest.raises(DataError, match="0, 127, 254.*grey levels.*classes.txt"):
        Folder(set_of(tmp_path, [np.uint8([[0, 127]]), np.uint8([[254, 255]])]), "all")


@pytest.mark.parametrize("text", ["0 sky\n1 tree (plant)\n255 void", "__ignore__\nsky\ntree\n", "sky\r\n_tree_\r\n"])
def test_class_files(tmp_path, text):
    assert Folder(set_of(tmp_path, [np.uint8([[0, 1]])], class_names=text), "all").class_names == ("sky", "tree")


def test_class_colours(tmp_path):
    rgb = np.uint8([[[9, 9, 9], [128, 64, 128], [0, 0, 0]]])
    text = "sky 9 9 9\nroad 128, 64, 128\nvoid thing 0 0 0"
    dataset = Folder(set_of(tmp_path, [rgb], classes=text), "all")
    assert dataset.class_names == ("sky", "road", "void thing") and dataset[0].mask.tolist() == [[0, 1, 2]]
    assert dataset.palette[1].tolist() == [128, 64, 128]
    with pytest.raises(DataError, match="a colour is 300"):
        Folder(set_of(tmp_path, [rgb], classes="sky 9 9 9\nroad 300 0 0"), "all")


def test_errors_name_the_file_and_the_cure(folder):
    write(folder / "masks" / "0.png", np.full((12, 10), 7, np.uint8))
    with pytest.raises(DataError, match=r"masks/0\.png: the mask holds 7 but there are 3 classes.*classes\.txt"):
        Folder(folder)[0]
    write(folder / "masks" / "1.png", np.zeros((10, 12), np.uint8))
    with pytest.raises(DataError, match=r"masks/1\.png: the mask is \(10, 12\).*its image 1\.png is \(12, 10\).*EXIF"):
        Folder(folder)[1]
    write(folder / "masks" / "2.png", np.zeros((12, 10, 3), np.uint8) + np.uint8([1, 2, 3]))
    with pytest.raises(DataError, match=r"masks/2\.png: the mask is coloured"):
        Folder(folder)[2]
    (folder / "masks" / "3.png").unlink()
    with pytest.raises(DataError, match=r"1 of 4 names have no mask file \(3\).*add the files"):
        Folder(folder)
    (folder / "images" / "5.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 names have no image file \(5\)"):
        Folder(folder, "val")
    (folder / "val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"\(val\): the split is empty"):
        Folder(folder, "val")
    with pytest.raises(DataError, match=r"no split 'test' \(test\.txt\): there are train, val and all"):
        Folder(folder, "test")
    (folder / "val.txt").write_text("4")
    (folder / "classes.txt").write_text("only one")
    with pytest.raises(DataError, match="1 class names but 2 or more"):
        Folder(folder, "val")


def test_labels_refuse():
    with pytest.raises(ValueError, match="'colours' but 'classes', 'binary' or 'instances'"):
        Labels(("a", "b"), "colours")
    with pytest.raises(ValueError, match="3 class names for masks of binary"):
        Labels(("a", "b", "c"), "binary")


def test_isbi(real):
    train, val = tinyseg.data.open(real("isbi2012")), tinyseg.data.open(real("isbi2012"), "val")
    assert (len(train), len(val), train.in_channels, train.num_classes) == (24, 6, 1, 2)
    masks = np.stack([val[i].mask for i in range(6)])
    assert set(np.unique(masks)) == {0, 1} and 0.7 < masks.mean() < 0.9


def test_coco(real):
    train = tinyseg.data.open(real("coco_mini"), scale=0.25)
    assert (len(train), train.num_classes, train.in_channels) == (80, 81, 3) and train.class_names[80] == "toothbrush"
    sample = train[0]
    assert sample.image.shape == (*sample.mask.shape, 3) and sample.instances.max() >= 1


def test_nuclei(real):
    val = tinyseg.data.open(real("dsb2018"), "val")
    sample = val[0]
    assert len(val) == 43 and sample.instances.max() > 1 and np.array_equal(sample.mask, sample.instances > 0)


def test_labelme(real):
    dataset = tinyseg.data.open(real("voc2011_labelme"), "all")
    assert dataset.num_classes == 21 and dataset.class_names[0] == "background"
    sample = dataset[0]
    assert set(np.unique(sample.mask)) == {0, 5, 15, 255} and (sample.instances[sample.mask == 255] == 0).all()


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_two_files_of_one_name_are_refused(folder, kind):
    Image.fromarray(np.zeros((12, 10), np.uint8)).save(folder / kind / "0.bmp")
    with pytest.raises(DataError, match=r"two files of one name.*0\.bmp.*0\.png.*rename"):
        Folder(folder, "train")
    assert len(Folder(folder, "val")) == 2  # where it plays no part
