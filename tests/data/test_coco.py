import json

import numpy as np
import pytest
from PIL import Image

import tinyseg
from tinyseg import rle
from tinyseg.data import Coco, DataError, Shapes, check, objects_of, open_objects, to_coco, write_coco
from tinyseg.metrics import coco_ap


@pytest.fixture
def coco(tmp_path):
    """Two pictures; polygons, run lengths as a list and as text, a crowd, an annotation without a pixel."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{name}.png")
    crowd = np.zeros((12, 16), np.uint8)
    crowd[8:, 8:] = 1
    whole = {
        "images": [{"id": 5, "file_name": "a.png", "height": 12, "width": 16}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 18, "bbox": [2, 1, 6, 4], "area": 24, "iscrowd": 0,
             "segmentation": [[2, 1, 8, 1, 8, 5, 2, 5]]},
            {"id": 2, "image_id": 5, "category_id": 3, "bbox": [8, 8, 8, 4], "area": 32, "iscrowd": 1,
             "segmentation": {"size": [12, 16], "counts": rle.encode(crowd).tolist()}},
            {"id": 3, "image_id": 2, "category_id": 3, "bbox": [8, 8, 8, 4],
             "segmentation": {"size": [12, 16], "counts": rle.to_text(rle.encode(crowd))}},
            {"id": 4, "image_id": 2, "category_id": 3, "bbox": [1, 1, 0, 0],
             "segmentation": [[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]]},
        ],
    }  # fmt: skip
    (tmp_path / "instances_train.json").write_text(json.dumps(whole))
    return tmp_path


def broken(coco, change):
    file = coco / "instances_train.json"
    whole = json.loads(file.read_text())
    change(whole)
    file.write_text(json.dumps(whole))
    return coco


def test_objects_classes_and_masks(coco):
    data = open_objects(coco, "train")
    assert type(data) is Coco and data.class_names == ("background", "car", "dog") and data.category_ids == (0, 3, 18)
    sample = data[0]
    objects = sample.objects
    assert objects.labels.tolist() == [2, 1] and objects.crowd.tolist() == [False, True]
    assert objects.boxes.tolist() == [[2, 1, 8, 5], [8, 8, 16, 12]] and objects.areas.tolist() == [24, 32]
    assert objects.mask(0).sum() == 24 and (sample.mask[1:5, 2:8] == 2).all() and (sample.mask[8:, 8:] == 255).all()
    assert len(data[1].objects) == 1  # the one without a pixel is left out
    assert data.name(1) == "b" and data.file_name(1) == "b.png" and data.in_channels == 3
    (coco / "images" / "other.txt").touch()
    assert type(tinyseg.data.open(coco, "train")) is Coco  # where nothing else is found, its class map is the mask
    half = Coco(coco, "train", scale=0.5)[0]
    assert half.objects.size == (6, 8) == half.image.shape[:2] and half.objects.boxes[0].tolist() == [1, 0, 4, 2]


def test_as_it_is_distributed(coco):
    (coco / "annotations").mkdir()
    (coco / "instances_train.json").rename(coco / "annotations" / "instances_val2017.json")
    (coco / "images").rename(coco / "val2017")
    assert len(open_objects(coco, "val")) == 2
    with pytest.raises(DataError, match="no annotations of split 'train'.*instances_val2017.json"):
        open_objects(coco, "train")
    assert len(open_objects(coco / "annotations" / "instances_val2017.json")) == 2


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: w["annotations"][0].update(bbox=[2, 1, 99, 4]), "'a.png', annotation 1: bbox is .*x1 y1 x2 y2"),
        (lambda w: w["annotations"][0].update(bbox=[2, 1, -3, 4]), "annotation 1: bbox is"),
        (lambda w: w["annotations"][0].update(bbox=[2, 1, float("nan"), 4]), "annotation 1: bbox is"),
        (lambda w: w["annotations"][0].update(bbox=[2, 1, None, 4]), "annotation 1: bbox is"),
        (lambda w: w["annotations"][0].update(bbox="2 1 3 4"), "annotation 1: bbox is"),
        (lambda w: w["annotations"][0].update(area="12"), "annotation 1: area is '12'"),
        (lambda w: w["annotations"][0].update(segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]]), "annotation 1: .*reaches to"),
        (lambda w: w["annotations"][1]["segmentation"].update(counts=[2**70]), "annotation 2: "),
        (lambda w: w["annotations"][0].update(category_id=7), "annotation 1: there is no category 7"),
        (lambda w: w["annotations"][0].update(segmentation=[]), "annotation 1: no segmentation"),
        (lambda w: w["annotations"][0].update(segmentation=[[1, 2, 3]]), "annotation 1: .*a polygon of 3 coordinates"),
        (lambda w: w["annotations"][1]["segmentation"].update(size=[16, 12]), "annotation 2: run lengths of .16, 12."),
        (lambda w: w["annotations"][1]["segmentation"].update(counts=[3]), "annotation 2: .*cover 3 pixels"),
        (lambda w: w["images"][0].update(height=13), "it is .12, 16. .*says .13, 16."),
        (lambda w: w["images"][1].update(file_name="c.png"), "1 of 2 images are not in"),
        (lambda w: w["images"].clear(), "lists no images"),
        (lambda w: w.pop("categories"), "no categories in it"),
    ],
)
def test_errors_name_file_and_annotation(coco, change, message):
    with pytest.raises(DataError, match=message):
        _ = Coco(broken(coco, change), "train")[0]


def test_not_json(coco):
    (coco / "instances_train.json").write_text("{")
    with pytest.raises(DataError, match="instances_train.json: cannot be read as JSON"):
        Coco(coco)


def test_written_and_read_again(coco, tmp_path):
    """A data set as COCO: the same objects, and a perfect score against itself."""
    data = open_objects(coco, "train")
    whole = write_coco(data, coco / "val.json")
    again = Coco(coco, "val")
    for i in range(2):
        a, b = objects_of(data[i]), again[i].objects
        assert a.labels.tolist() == b.labels.tolist() and a.crowd.tolist() == b.crowd.tolist()
        np.testing.assert_allclose(a.boxes, b.boxes)
        assert all(np.array_equal(a.mask(k), b.mask(k)) for k in range(len(a)))
    perfect = [a | {"score": 1.0} for a in whole["annotations"] if not a["iscrowd"]]
    assert coco_ap(whole, perfect)["AP"] > 1 - 1e-9
    shapes = to_coco(Shapes(size=48, length=2))
    assert len(shapes["categories"]) == 5 and shapes["annotations"][0]["bbox"][2] > 0
    with pytest.raises(DataError, match="cannot be written"):
        write_coco(data, coco / "no" / "where.json")


def test_check(coco):
    found = check(coco)
    assert found.ok and found.layout == "Coco" and found.splits == {"instances_train": 2} and found.pairs == 2
    assert "2 objects (car 1, dog 1), and 1 crowds" in str(found) or "2 objects (dog 1, car 1)" in str(found)
    found = check(broken(coco, lambda w: w["annotations"][0].update(bbox=[2, 1, 99, 4])))
    assert not found.ok and "annotation 1: bbox is" in str(found) and found.pairs == 1


def test_check_of_the_layout_as_it_is_distributed(coco):
    """annotations/instances_train2017.json + train2017/: found by the split that is in the file's name."""
    (coco / "annotations").mkdir()
    (coco / "instances_train.json").rename(coco / "annotations" / "instances_train2017.json")
    (coco / "images").rename(coco / "train2017")
    report = check(coco)
    assert report.ok and report.splits == {"instances_train2017": 2} and len(open_objects(coco, "train")) == 2


def test_check_finds_pictures_of_two_splits_and_annotations_of_none(coco):
    (coco / "instances_val.json").write_text((coco / "instances_train.json").read_text())
    assert check(coco).problems == {"in two splits": ["a.png", "b.png"]}
    (coco / "instances_val.json").unlink()
    report = check(broken(coco, lambda w: w["annotations"][0].update(image_id=77)))
    assert list(report.problems) == ["annotations"]
    assert "instances_train.json: 1 annotations are of images that it does not list" in str(report)


@pytest.mark.parametrize("what, entry", [
    ("images", {"id": 7}), ("images", {"id": 7, "file_name": None}), ("categories", 5), ("annotations", {"id": 1}),
    ("annotations", {"image_id": [1]}),
])  # fmt: skip
def test_entries_that_lack_what_they_are_known_by(coco, what, entry):
    with pytest.raises(DataError, match=f"number 2 of its {what} has no "):
        Coco(broken(coco, lambda w: w[what].insert(2, entry)), "train")
    with pytest.raises(DataError, match=f"number 0 of its {what} has no "):
        Coco(broken(coco, lambda w: w.update({what: 3})), "train")


def test_coco_mini(real):
    root = real("coco_mini")
    data = open_objects(root, "val")
    assert len(data) == 79 and data.num_classes == 81
    assert sum(len(data.annotations[image["id"]]) for image in data.images) == 624
    sample = data[0]
    index = np.array(Image.open(root / "masks" / f"{sample.name}.png"))
    assert (sample.mask == index).mean() > 0.99  # small objects on top in both; ties of size may differ


def test_nuclei(real):
    sample = open_objects(real("dsb2018"), "val")[0]
    objects = objects_of(sample)
    assert len(objects) == len(np.unique(sample.instances)) - 1 and set(objects.labels.tolist()) == {1}
