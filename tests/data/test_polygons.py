import json

import numpy as np
import pytest
from PIL import Image

from tinyseg.data import DataError, PennFudan, Polygons, check, open_objects


def picture(path, size=(20, 30)):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


SHAPES = [
    {"label": "leaf", "shape_type": "polygon", "points": [[2, 2], [10, 2], [10, 8], [2, 8]]},
    {"label": "bark", "shape_type": "rectangle", "points": [[12, 4], [20, 10]]},
    {"label": "leaf", "shape_type": "circle", "points": [[22, 14], [26, 14]]},
    {"label": "leaf", "shape_type": "point", "points": [[1, 1]]},
]


@pytest.fixture
def labelme(tmp_path):
    for name in "abcde":
        picture(tmp_path / f"{name}.png")
        whole = {"imagePath": f"..\\pictures\\{name}.png", "shapes": SHAPES, "imageHeight": 20, "imageWidth": 30}
        (tmp_path / f"{name}.json").write_text(json.dumps(whole))
    return tmp_path


def test_labelme(labelme):
    found = check(labelme)
    assert found.ok and "15 objects" in str(found) and found.splits == {"train": 4, "val": 1}
    train, val = open_objects(labelme, "train"), open_objects(labelme, "val")
    assert type(train) is Polygons and (len(train), len(val)) == (4, 1)
    assert train.class_names == ("background", "bark", "leaf")
    objects = val[0].objects
    assert objects.labels.tolist() == [2, 1, 2]  # a point has no inside
    assert objects.boxes.tolist()[:2] == [[2, 2, 10, 8], [12, 4, 20, 10]] and objects.areas.tolist()[:2] == [48, 48]
    assert abs(objects.areas[2] - np.pi * 16) < 3
    (labelme / "classes.txt").write_text("background\nleaf\nbark\nroot\n")
    assert open_objects(labelme, "all").num_classes == 4
    (labelme / "train.txt").write_text("b\n")
    assert open_objects(labelme, "train").name(0) == "b"
    half = open_objects(labelme, "val", scale=0.5)[0]
    assert half.objects.size == (10, 15)


REGIONS = [
    ({"name": "polygon", "all_points_x": [2, 10, 10, 2], "all_points_y": [2, 2, 8, 8]}, [2, 2, 10, 8]),
    ({"name": "rect", "x": 12, "y": 4, "width": 8, "height": 6}, [12, 4, 20, 10]),
    ({"name": "circle", "cx": 15, "cy": 10, "r": 4}, [11, 6, 19, 14]),
    ({"name": "ellipse", "cx": 15, "cy": 10, "rx": 6, "ry": 3, "theta": np.pi / 2}, [12, 4, 18, 16]),
]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("as_dict", [False, True])
def test_via(tmp_path, wrapped, as_dict):
    """Versions 1 (regions by number) and 2, the annotations alone and the whole project."""
    picture(tmp_path / "a.jpg")
    regions = [{"shape_attributes": s, "region_attributes": {"kind": "balloon"}} for s, _ in REGIONS]
    regions = {str(i): r for i, r in enumerate(regions)} if as_dict else regions
    whole = {"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": regions}}
    (tmp_path / "via.json").write_text(json.dumps({"_via_img_metadata": whole} if wrapped else whole))
    objects = Polygons(tmp_path, "all")[0].objects
    assert Polygons(tmp_path, "all").class_names == ("background", "balloon") and len(objects) == 4
    np.testing.assert_allclose(objects.boxes, [box for _, box in REGIONS], atol=1)


def test_errors(labelme):
    def with_shape(shape):
        whole = json.loads((labelme / "e.json").read_text()) | {"shapes": [shape]}
        (labelme / "e.json").write_text(json.dumps(whole))
        return Polygons(labelme, "val")[0]

    with pytest.raises(DataError, match=r"e.json: shape 0: no 'label'; expected"):
        with_shape({"points": [[0, 0], [1, 1], [2, 0]]})
    with pytest.raises(DataError, match="e.json: shape 0: a circle needs two points"):
        with_shape({"label": "leaf", "shape_type": "circle", "points": [[4, 4]]})
    corners = {"label": "leaf", "shape_type": "rectangle", "points": [[9, 2], [9, 8], [3, 8], [3, 2]]}
    assert with_shape(corners).objects.boxes.tolist() == [[3, 2, 9, 8]]
    with pytest.raises(DataError, match="e.json: shape 0: list indices"):
        with_shape([1])
    with pytest.raises(DataError, match="'e': the outline of 'leaf': .*finite"):
        with_shape({"label": "leaf", "points": [[0, 0], [float("nan"), 1], [2, 0]]})
    (labelme / "classes.txt").write_text("background\nbark\n")
    with pytest.raises(DataError, match="no class leaf"):
        Polygons(labelme)
    (labelme / "classes.txt").unlink()
    whole = (labelme / "b.json").read_text()
    (labelme / "b.json").write_text(whole[:-9])  # its outlines must not be lost in silence
    with pytest.raises(DataError, match="b.json: cannot be read as JSON .*mend it"):
        Polygons(labelme)
    assert "b.json: cannot be read as JSON" in str(check(labelme))
    (labelme / "b.json").write_text(whole)
    (labelme / "a.png").unlink()
    with pytest.raises(DataError, match="no image file for a"):
        Polygons(labelme)
    with pytest.raises(DataError, match="no outlines found"):
        Polygons(labelme / "nowhere")


@pytest.mark.parametrize("entry", [{"regions": []}, {"filename": "a.jpg", "regions": 5}])
def test_via_entries_that_lack_something(tmp_path, entry):
    (tmp_path / "via.json").write_text(json.dumps({"a.jpg1": entry}))
    with pytest.raises(DataError, match="via.json: 'a.jpg1': no filename, or no list of regions"):
        Polygons(tmp_path, "all")


def test_penn_fudan(tmp_path):
    for folder in ("PNGImages", "PedMasks"):
        (tmp_path / folder).mkdir()
    for name in ("FudanPed00001", "FudanPed00002"):
        picture(tmp_path / "PNGImages" / f"{name}.png")
        ids = np.zeros((20, 30), np.uint8)
        ids[2:9, 3:7], ids[5:15, 10:20] = 1, 2
        Image.fromarray(ids).save(tmp_path / "PedMasks" / f"{name}_mask.png")
    data = open_objects(tmp_path, "all")
    assert type(data) is PennFudan and len(data) == 2 and data.class_names == ("background", "pedestrian")
    sample = data[0]
    assert sample.mask.max() == 1 and sample.instances.max() == 2 and data.file_name(0) == "FudanPed00001.png"
