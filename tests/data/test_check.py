import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinyseg.data import check
from tinyseg.data.check import CURES
from tinyseg.data.coco import Coco
from tinyseg.data.folder import Folder
from tinyseg.data.layouts import layout_of_objects
from tinyseg.data.weak_files import write_coco_boxes, write_points

NAMES = ("background", "cell", "border")


def test_a_sound_set(folder):
    report = check(folder)
    assert report.ok and report.pairs == 6 and report.splits == {"train": 4, "val": 2} and report.sizes == {(12, 10): 6}
    masks = np.stack([np.array(Image.open(folder / "masks" / f"{i}.png")) for i in range(6)])
    known = masks[masks != 255]
    assert np.allclose([report.shares[k] for k in range(3)], np.bincount(known) / known.size)
    text = str(report)
    assert "6 pairs" in text and "12x10 (6)" in text and "0, 1, 2, 255" in text and "cell" in text
    assert "nothing is wrong" in text and report.images == 6 and report.unused == report.instances == 0
    assert "objects   told apart nowhere; mask_rcnn_... needs PNGs in instances/" in text and "1 masks" not in text


def break_image(folder):
    (folder / "images" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")


def break_mask(folder):
    (folder / "masks" / "0.png").write_bytes((folder / "masks" / "0.png").read_bytes()[:60])


def write(path, array):
    Image.fromarray(array).save(path)


def colour_mask(folder):
    write(folder / "masks" / "0.png", np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8))


def some_instances(folder):
    (folder / "instances").mkdir()
    write(folder / "instances" / "0.png", np.ones((12, 10), np.uint8))


FAULTS = {
    "class names": lambda d: (d / "classes.txt").write_text("one"),
    "split": lambda d: (d / "val.txt").write_text(""),
    "no image file": lambda d: (d / "val.txt").write_text("4\n5\nnone"),
    "no mask file": lambda d: (d / "masks" / "0.png").unlink(),
    "weak labels": lambda d: (d / "tags.txt").write_text("0: dog\n"),
    "weak label without image": lambda d: (d / "tags.txt").write_text("new: cell\n"),
    "mask without image": lambda d: write(d / "masks" / "new.png", np.zeros((3, 3), np.uint8)),
    "two files of one name": lambda d: write(d / "images" / "0.bmp", np.zeros((12, 10, 3), np.uint8)),
    "in two splits": lambda d: (d / "val.txt").write_text("3\n4\n5"),
    "no instances file": some_instances,
    "unreadable image": break_image,
    "unreadable mask": break_mask,
    "coloured mask": colour_mask,
    "image and mask differ in size": lambda d: write(d / "masks" / "0.png", np.zeros((3, 3), np.uint8)),
    "number of no class": lambda d: write(d / "masks" / "0.png", np.full((12, 10), 3, np.uint8)),
    "nothing but ignore": lambda d: write(d / "masks" / "0.png", np.full((12, 10), 255, np.uint8)),
}


def test_every_cure_has_a_fault():
    elsewhere = {"no data set", "no picture", "nothing to measure by", "annotations"}  # the last in test_coco.py
    assert FAULTS.keys() | elsewhere == CURES.keys()


@pytest.mark.parametrize("what", FAULTS)
def test_each_fault_is_found_with_its_cure(folder, what):
    FAULTS[what](folder)
    report = check(folder)
    assert list(report.problems) == [what] and not report.ok
    assert what in str(report) and CURES[what] in str(report) and str(report).endswith("1 kind of fault")


def test_a_damaged_mask_is_not_called_coloured_and_its_pair_does_not_count(folder):
    break_mask(folder)
    text = str(check(folder))
    assert "5 pairs of image and mask that can be used, of 6 images" in text and "colour" not in text


def test_images_in_no_split_and_objects_are_told(folder):
    (folder / "train.txt").write_text("0\n1")
    (folder / "val.txt").write_text("2")
    assert "splits    train 2, val 1, in none 3" in str(check(folder))
    (folder / "instances").mkdir()
    for i in range(2):
        write(folder / "instances" / f"{i}.png", np.ones((12, 10), np.uint8))
    report = check(folder)
    assert "objects   told apart in 2 of 3 images" in str(report) and report.problems == {"no instances file": ["2"]}
    write(folder / "instances" / "2.png", np.ones((12, 10), np.uint8))
    assert "objects   told apart in all images" in str(check(folder))


def test_folders_without_a_picture(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    (tmp_path / "images" / "a.heic").write_text("")
    report = check(tmp_path)
    assert list(report.problems) == ["no picture"] and "note" not in str(report)


def test_weak_labels_stand_for_masks(folder):
    """An image with scribbles, a point, a box or tags needs no mask; each is read, and what is damaged is told."""
    for kind, text in (("scribbles", "1,2,3,5,3\n"), ("points", "cell,3,4\n")):
        (folder / kind).mkdir()
        (folder / kind / f"{len(kind) % 2}.txt").write_text(text)  # scribbles of 1, points of 0
    write_coco_boxes(folder / "boxes.json", {"2": np.float32([[2, 1, 8, 9, 2]])}, {"2": (12, 10)}, NAMES)
    (folder / "tags.txt").write_text("3: cell\n2: border\n")
    for name in "0123":
        (folder / "masks" / f"{name}.png").unlink()
    report = check(folder)
    assert report.ok and report.weak == {"scribbles": 1, "points": 1, "boxes": 1, "tags": 2} and report.pairs == 2
    assert "weak      scribbles 1, points 1, boxes 1, tags 2   (images); tinyseg train --supervision" in str(report)
    (folder / "scribbles" / "1.txt").write_text("dog,2,3\n")
    assert "no class 'dog'" in str(check(folder).problems["weak labels"])
    (folder / "points" / "0.txt").unlink()
    assert list(check(folder).problems) == ["weak labels", "no mask file"]


def test_weak_labels_alone_are_a_set(folder):
    """Without masks/; what they are good for is said, and what is missing."""
    (folder / "masks").rename(folder / "scribbles")
    report = check(folder)
    assert list(report.problems) == ["nothing to measure by"] and report.weak == {"scribbles": 6} and report.pairs == 0
    assert "tinyseg train --supervision scribbles learns from them" in str(report)
    assert "needs masks there, to measure by" in str(report) and report.images == 6
    (folder / "classes.txt").unlink()
    assert "two classes; more are named in classes.txt" in str(check(folder))
    (folder / "scribbles").rename(folder / "others")
    assert list(check(folder).problems) == ["no data set"]


def test_weak_labels_outside_of_the_image(folder):
    """As where x and y are exchanged: images are 10 wide and 12 high."""
    write_points(folder / "points" / "0.txt", np.array([[1, 2, 12], [1, 3, 40]]))
    write_coco_boxes(folder / "boxes.json", {"1": np.array([[1, 2, 30, 5, 1]])}, {"1": (12, 10)}, NAMES)
    (folder / "scribbles").mkdir()
    (folder / "scribbles" / "2.txt").write_text("1,2,11\n")
    found = check(folder).problems["weak labels"]
    assert len(found) == 2 and "0.txt: nothing of it lies inside the image of 10 x 12" in found[0]
    assert "a box ends beyond the image of 10 x 12" in found[1]


def test_weak_labels_do_not_hide_what_says_more(folder):
    """A folder called as a split beside images/ and masks/ is none of theirs; nor are objects forgotten for points."""
    (folder / "masks").rename(folder / "all")
    write_points(folder / "points" / "0.txt", np.array([[1, 2, 3]]))
    (folder / "all").rename(folder / "masks")
    (folder / "test").mkdir()
    assert check(folder).splits == {"train": 4, "val": 2}
    (folder / "masks").rename(folder / "others")
    content = {"images": [{"id": 1, "file_name": "0.png", "height": 12, "width": 10}], "annotations": [],
               "categories": [{"id": 1, "name": "cell"}]}  # fmt: skip
    (folder / "instances_train.json").write_text(json.dumps(content))
    assert layout_of_objects(folder) is Coco and not Folder.recognises(folder)


def test_numbers_that_mean_ignore_and_numbers_of_objects(folder, tmp_path):
    """CamVid's 11 is told; a line for each set of numbers is not, where numbers count objects."""
    for name in ("train", "trainannot"):
        (tmp_path / "camvid" / name).mkdir(parents=True)
    write(tmp_path / "camvid" / "train" / "a.png", np.zeros((4, 5, 3), np.uint8))
    write(tmp_path / "camvid" / "trainannot" / "a.png", np.full((4, 5), 11, np.uint8) - np.eye(4, 5, dtype=np.uint8))
    assert "note      11 is read as 255 = ignore: pixels without a label" in str(check(tmp_path / "camvid"))
    assert "ignore:" not in str(check(folder)) and " masks with " in str(check(folder))
    (folder / "classes.txt").unlink()
    for i in range(6):
        write(folder / "masks" / f"{i}.png", np.full((12, 10), 300 + i, np.uint16))
    assert "each number is read as one object" in str(check(folder)) and " with 30" not in str(check(folder))


def test_coloured_and_jpeg_masks(folder):
    colour_mask(folder)
    write(folder / "masks" / "1.jpg", np.zeros((12, 10), np.uint8))
    (folder / "masks" / "1.png").unlink()
    problems = check(folder).problems
    assert list(map(len, problems.values())) == [1, 1]
    assert "(3072" not in problems["coloured mask"][0] and "JPEG" in problems["unreadable mask"][0]


def test_binary_masks_are_noted(folder):
    for path in (folder / "masks").iterdir():
        write(path, (np.array(Image.open(path)) == 1) * np.uint8(255))
    (folder / "classes.txt").unlink()
    report = check(folder)
    assert report.ok and "0 and 255: read as class 0 and class 1" in str(report)


def test_the_numbers_of_each_mask_are_told(folder):
    for i in range(4):
        write(folder / "masks" / f"{i}.png", np.eye(12, 10, dtype=np.uint8))
    write(folder / "masks" / "5.png", np.full((12, 10), 2, np.uint8))
    lines = [line.strip() for line in str(check(folder)).splitlines()]
    at = lines.index("4 masks with 0, 1   such as 0.png")
    assert lines[at + 1 : at + 3] == ["1 mask with 0, 1, 2, 255   such as 4.png", "1 mask with 2   such as 5.png"]


def test_many_sets_of_numbers_are_summed_up(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for i in range(12):
            write(tmp_path / name / f"{i:02}.png", np.arange(36, dtype=np.uint8).reshape(6, 6) % (i + 1))
    assert "4 masks with 4 other sets of numbers" in str(check(tmp_path))


def test_no_data_set(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        report = check(path)
        assert list(report.problems) == ["no data set"] and "images/ + masks/" in str(report)


@given(st.lists(st.tuples(st.sampled_from(["images/0.png", "masks/1.png", "masks/2.png", "val.txt", "classes.txt"]),
                          st.sampled_from(["delete", "cut", "noise", "empty", "text", "folder"])), max_size=4))
def test_nothing_makes_it_fail(tmp_path_factory, faults):
    path = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (path / name).mkdir()
        for i in range(3):
            write(path / name / f"{i}.png", rng.integers(0, 2, (5, 5), dtype=np.uint8))
    (path / "val.txt").write_text("2")
    (path / "classes.txt").write_text("a\nb")
    for name, fault in faults:
        file = path / name
        if fault in ("delete", "folder"):
            if file.is_file():
                file.unlink()
            if fault == "folder":
                file.mkdir(exist_ok=True)
        elif not file.is_dir():
            old = file.read_bytes() if file.exists() else b""
            contents = {"cut": old[:len(old) // 2], "noise": rng.bytes(50), "empty": b"", "text": b"0\n1\n2"}
            file.write_bytes(contents[fault])
    assert str(check(path))


def test_real_sets_are_sound(real):
    for name, pairs, names in (("isbi2012", 30, 2), ("voc2011_labelme", 3, 21)):
        report = check(real(name))
        assert report.ok and report.pairs == pairs and len(report.labels.class_names) == names
    assert abs(check(real("isbi2012")).shares[0] - 0.22) < 0.005
