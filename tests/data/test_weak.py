"""Files of weak labels there and back, and data sets in which each image has what it has."""

import numpy as np
import pytest
from PIL import Image

import tinyseg.data
from tinyseg.data import DataError, Loader, RandomFlip, Sample, Shapes, Weak, weaken, write_mask
from tinyseg.data.weak_files import (
    class_id,
    read_coco_boxes,
    read_scribbles,
    read_tags,
    read_voc_boxes,
    write_coco_boxes,
    write_points,
    write_tags,
)

NAMES = ("background", "cell", "border")


def test_class_names_and_numbers():
    assert class_id("Cell", NAMES, "f") == class_id("1", NAMES, "f") == 1
    assert class_id("plane", ("background", "aeroplane"), "f") == 1  # ScribbleSup's word for it
    with pytest.raises(DataError, match="f: no class 'dog'; there are background, cell, border, or their numbers"):
        class_id("dog", NAMES, "f")


def test_scribbles_as_text_xml_and_png(tmp_path):
    expected = np.full((5, 6), 255, np.int32)
    expected[1, 1:5], expected[3, 2] = 1, 0
    (tmp_path / "a.txt").write_text("1,1,1,4,1\nbackground,2,3\n2,9,9\n")  # the last lies outside
    (tmp_path / "a.xml").write_text(
        "<annotation><polygon><tag>cell</tag><point><X>1</X><Y>1</Y></point><point><X>4</X><Y>1</Y></point></polygon>"
        "<polygon><tag>background</tag><point><X>2</X><Y>3</Y></point></polygon></annotation>"
    )
    write_mask(tmp_path / "a.png", expected)
    for ending in ("txt", "xml", "png"):
        assert np.array_equal(read_scribbles(tmp_path / f"a.{ending}", (5, 6), NAMES), expected)
    write_points(tmp_path / "p.txt", np.array([[2, 3, 4], [0, 1, 0]]))
    points = read_scribbles(tmp_path / "p.txt", (5, 6), NAMES)
    assert points[4, 3] == 2 and points[0, 1] == 0 and (points != 255).sum() == 2


def test_a_leap_ends_a_stroke(tmp_path):
    """Two strokes in one line, as ScribbleSup has them; but points that are far apart in general are joined."""
    (tmp_path / "a.txt").write_text("1,0,0,2,0,4,0,6,0,60,0,62,0,64,0\n2,0,3,64,3\n")
    drawn = read_scribbles(tmp_path / "a.txt", (5, 70), NAMES)
    assert (drawn[0] != 255).nonzero()[0].tolist() == [*range(7), *range(60, 65)] and (drawn[3] == 2).sum() == 65


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.txt", "1,2,3,4", "line 1: 3 coordinates; expected class,x,y,x,y"),
        ("a.txt", "1,2,b", "line 1: could not convert string to float"),
        ("a.txt", "4,2,2", "no class '4'"),
        ("a.xml", "<annotation>", "not XML"),
        ("a.xml", "<a><polygon><point><X>1</X></point></polygon></a>", "a <polygon> without <tag>, or a <point>"),
    ],
)
def test_damaged_scribbles(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_scribbles(tmp_path / name, (5, 6), NAMES)


def test_scribbles_of_another_size_or_class(tmp_path):
    write_mask(tmp_path / "a.png", np.full((5, 6), 7))
    with pytest.raises(DataError, match="the scribbles are .5, 6. .height, width. but the image is .5, 7."):
        read_scribbles(tmp_path / "a.png", (5, 7), NAMES)
    with pytest.raises(DataError, match="it holds 7 but there are 3 classes"):
        read_scribbles(tmp_path / "a.png", (5, 6), NAMES)


def test_boxes_of_voc_and_coco(tmp_path):
    (tmp_path / "a.xml").write_text(
        "<annotation><object><name>cell</name><bndbox><xmin>2</xmin><ymin>1</ymin><xmax>4</xmax><ymax>3</ymax></bndbox>"
        "</object></annotation>"
    )
    assert read_voc_boxes(tmp_path / "a.xml", NAMES).tolist() == [[1, 0, 4, 3, 1]]
    boxes = {"a": np.float32([[1, 2, 4, 6, 2]]), "b": np.zeros((0, 5), np.float32)}
    write_coco_boxes(tmp_path / "boxes.json", boxes, {"a": (8, 9), "b": (8, 9)}, NAMES)
    found = read_coco_boxes(tmp_path / "boxes.json", NAMES)
    assert found["a"].tolist() == [[1, 2, 4, 6, 2]] and found["b"].shape == (0, 5)
    folders = {f"{name}/1": np.float32([[i, 2, 4, 6, 2]]) for i, name in enumerate("xy")}
    folders["x/2"] = boxes["a"]
    write_coco_boxes(tmp_path / "boxes.json", folders, dict.fromkeys(folders, (8, 9)), NAMES)
    found = read_coco_boxes(tmp_path / "boxes.json", NAMES)
    assert set(found) == {"x/1", "y/1", "x/2", "2"} and found["y/1"][0, 0] == 1 and found["x/1"][0, 0] == 0
    (tmp_path / "a.xml").write_text((tmp_path / "a.xml").read_text().replace("<xmax>4", "<xmax>1"))
    with pytest.raises(DataError, match="is empty; expected x1 < x2 and y1 < y2"):
        read_voc_boxes(tmp_path / "a.xml", NAMES)
    (tmp_path / "boxes.json").write_text("{}")
    with pytest.raises(DataError, match="not COCO's JSON"):
        read_coco_boxes(tmp_path / "boxes.json", NAMES)
    (tmp_path / "b.xml").write_text("<a><object><name>cell</name></object></a>")
    with pytest.raises(DataError, match="an <object> without <name> or whole <bndbox>"):
        read_voc_boxes(tmp_path / "b.xml", NAMES)


def test_tags(tmp_path):
    tags = {"a b": np.array([True, True, False]), "c": np.array([True, False, False])}
    write_tags(tmp_path / "tags.txt", tags, NAMES)
    found = read_tags(tmp_path / "tags.txt", NAMES)
    assert {name: t.tolist() for name, t in found.items()} == {name: t.tolist() for name, t in tags.items()}
    (tmp_path / "tags.txt").write_text("c: border\n")
    assert read_tags(tmp_path / "tags.txt", NAMES)["c"].tolist() == [True, False, True]  # background comes by itself
    (tmp_path / "tags.txt").write_text("c border\n")
    with pytest.raises(DataError, match="line 1: 'c border'; expected NAME: class, class"):
        read_tags(tmp_path / "tags.txt", NAMES)


def test_a_mixed_data_set(folder):
    """Images 0 to 3 train: one with scribbles, one with a box, one with tags, one with its mask alone."""
    (folder / "scribbles").mkdir()
    (folder / "scribbles" / "0.txt").write_text("1,2,3,5,3\n")
    write_coco_boxes(folder / "boxes.json", {"1": np.float32([[2, 1, 8, 9, 2]])}, {"1": (12, 10)}, NAMES)
    (folder / "tags.txt").write_text("2: cell\n")
    for missing in "012":
        (folder / "masks" / f"{missing}.png").unlink()
    train = tinyseg.data.open(folder, masks_needed=False)
    weak = Weak(train, ("scribbles", "boxes", "tags", "masks"), folder)
    assert [weak.kind(i) for i in range(4)] == ["scribbles", "boxes", "tags", "masks"]
    samples = [weak[i] for i in range(4)]
    assert [s.supervision for s in samples] == ["scribbles", "boxes", "tags", "masks"]
    assert (samples[0].mask[3, 2:6] == 1).all() and (samples[0].mask != 255).sum() == 4
    assert samples[1].boxes.tolist() == [[2, 1, 8, 9, 2]] and (samples[1].mask == 255).all()
    assert samples[2].tags.tolist() == [True, True, False]
    assert np.array_equal(samples[3].mask, tinyseg.data.read_mask(folder / "masks" / "3.png"))
    batch = next(iter(Loader(weak, 4, shuffle=False)))
    assert batch.supervision == ("scribbles", "boxes", "tags", "masks") and batch.masks.shape == (4, 12, 10)
    assert batch.boxes[0] is None and batch.boxes[1].shape == (1, 5) and batch.tags[2].tolist() == [True, True, False]
    with pytest.raises(DataError, match="3 of 4 images have no masks .0, 1, 2.; expected a mask; cure"):
        Weak(train, ("masks",), folder)
    with pytest.raises(DataError, match="tinyseg weaken DIR --to points"):
        Weak(train, ("points",), folder)
    with pytest.raises(ValueError, match="kinds are .'strokes'., expected some of masks, scribbles"):
        Weak(train, ("strokes",), folder)
    with pytest.raises(DataError, match="have no mask file"):
        tinyseg.data.open(folder)


def test_labels_shrink_with_their_image(folder):
    (folder / "points").mkdir()
    (folder / "points" / "0.txt").write_text("1,9,11\n2,0,0\n")
    write_coco_boxes(folder / "boxes.json", {"0": np.float32([[2, 0, 8, 12, 2]])}, {"0": (12, 10)}, NAMES)
    (folder / "train.txt").write_text("0\n")
    half = tinyseg.data.open(folder, scale=0.5)
    points = Weak(half, ("points",), folder)[0].mask
    assert points.shape == (6, 5) and points[5, 4] == 1 and points[0, 0] == 2
    assert Weak(half, ("boxes",), folder)[0].boxes.tolist() == [[1, 0, 4, 6, 2]]


def test_made_from_masks():
    shapes = Shapes(size=40, length=4, seed=2)
    for kind in ("scribbles", "points", "boxes", "tags"):
        weak, again = (Weak(shapes, (kind,), seed=seed)[1] for seed in (1, 1))
        assert weak.supervision == kind and weak.instances is None
        for a, b in zip(weak.arrays, again.arrays, strict=True):
            assert np.array_equal(a, b)
    truth = shapes[1]
    assert np.array_equal(Weak(shapes, ("tags",))[1].tags, weaken.tags(truth.mask, 6))
    some = Weak(shapes, ("tags",), masked=2)
    assert [some.kind(i) for i in range(4)] == ["masks", "tags", "masks", "tags"]
    assert np.array_equal(some[2].mask, shapes[2].mask)


def test_boxes_move_with_their_image():
    sample = Sample(np.zeros((6, 8, 3), np.uint8), np.full((6, 8), 255, np.int32), boxes=np.float32([[1, 2, 4, 5, 2]]))
    flipped = RandomFlip(1.0, 0.0)(sample, np.random.default_rng(0))
    assert flipped.boxes.tolist() == [[4, 2, 7, 5, 2]]
    cut = sample.map(lambda a: a[3:], lambda a, _: a[3:])
    assert cut.boxes.tolist() == [[1, 0, 4, 2, 2]]
    assert cut.map(lambda a: a[:, 5:], lambda a, _: a[:, 5:]).boxes.shape == (0, 5)


def test_real_scribbles(real):
    """Four VOC images with ScribbleSup's own scribbles: the points of the text are those of the image."""
    root = real("voc_scribbles")
    for file in sorted((root / "scribbles").glob("*.txt")):
        size = np.asarray(Image.open(root / "images" / f"{file.stem}.jpg")).shape[:2]
        names = tinyseg.data.voc.CLASSES
        text = read_scribbles(file, size, names)
        png = read_scribbles(file.with_suffix(".png"), size, names)
        assert (text[png != 255] == png[png != 255]).mean() > 0.99  # where two scribbles cross the later one wins
        points = (png != 255).sum()
        assert 2 * points < (text != 255).sum() < 5 * points  # the points are those that a mouse left, 2 to 6 apart
