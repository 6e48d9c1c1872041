import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.data import (
    DataError,
    ElasticDeformation,
    LargeScaleJitter,
    Objects,
    RandomCrop,
    RandomFlip,
    RandomQuarterTurn,
    RandomRotation,
    Resize,
    ResizeShortest,
    Sample,
    Shapes,
    objects_of,
    open_objects,
    stack_objects,
    write_mask,
)

from ..strategies import seeds


def overlapping(seed, size=(20, 26), count=5):
    """Objects whose masks overlap, with holes."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *size), np.uint8)
    for mask in masks:
        top, left = rng.integers(0, size[0] - 6), rng.integers(0, size[1] - 6)
        h, w = rng.integers(3, 12, 2)
        part = mask[top : top + h, left : left + w]
        part[:] = rng.random(part.shape) < 0.8
        part[0, 0] = 1
    return masks, rng.integers(1, 4, count)


@given(seeds)
def test_masks_boxes_and_layers(seed):
    masks, labels = overlapping(seed)
    objects = Objects.of(masks.shape[1:], labels, masks)
    assert len(objects) == 5 and objects.areas.tolist() == masks.sum((1, 2)).tolist()
    for k, mask in enumerate(masks):
        np.testing.assert_array_equal(objects.mask(k), mask)
        x1, y1, x2, y2 = objects.boxes[k].astype(int)
        assert mask[y1:y2, x1:x2].sum() == mask.sum() and mask[y1].any() and mask[:, x2 - 1].any()
    layers = objects.layers()
    for k, mask in enumerate(masks):
        np.testing.assert_array_equal(np.any([layer == k + 1 for layer in layers], axis=0), mask)
    np.testing.assert_array_equal(objects.instances() > 0, masks.any(0))
    few = objects.take([3, 1])
    assert few.labels.tolist() == labels[[3, 1]].tolist() and np.array_equal(few.mask(0), masks[3])


TRANSFORMS = [
    RandomFlip(1, 0), RandomFlip(0, 1), RandomCrop(14), RandomCrop((30, 40)), Resize((31, 17)), RandomRotation(30),
    ElasticDeformation(2), RandomQuarterTurn(), ResizeShortest(33, 60), LargeScaleJitter(24, 0.5, 2),
]  # fmt: skip


@given(seeds, st.sampled_from(TRANSFORMS))
def test_every_transform_moves_objects_as_it_moves_a_mask(seed, transform):
    """Each object goes where a sample that has its mask as its class mask goes; boxes are those of the moved masks."""
    masks, labels = overlapping(seed)
    image = np.random.default_rng(seed).integers(0, 256, (*masks.shape[1:], 3)).astype(np.uint8)
    moved = transform(Sample(image, objects=Objects.of(image.shape[:2], labels, masks)), np.random.default_rng(seed))
    left = iter(range(len(moved.objects)))
    for mask, label in zip(masks, labels):
        alone = transform(Sample(image, mask=mask.astype(np.int32)), np.random.default_rng(seed)).mask == 1
        if alone.any():
            k = next(left)
            np.testing.assert_array_equal(moved.objects.mask(k), alone)
            assert moved.objects.labels[k] == label and moved.objects.areas[k] == alone.sum()
    assert next(left, None) is None and moved.objects.size == moved.image.shape[:2]


def test_from_instances():
    instances = np.array([[0, 3, 3], [7, 7, 3], [9, 0, 5]])
    mask = np.array([[0, 2, 2], [1, 1, 1], [255, 0, 0]])
    objects = Objects.from_instances(instances, mask)
    assert objects.labels.tolist() == [2, 1] and objects.boxes.tolist() == [[1, 0, 3, 2], [0, 1, 2, 2]]
    assert Objects.from_instances(instances).labels.tolist() == [1, 1, 1, 1]
    assert len(Objects.from_instances(np.zeros((3, 3), int))) == 0


def test_shapes_have_objects_and_batches_are_padded():
    a, b = Shapes(size=(40, 50))[0], Shapes(size=(33, 64))[1]
    batch = stack_objects([a, b])
    assert batch.images.shape == (2, 64, 64, 3) and batch.sizes == ((40, 50), (33, 64)) and len(batch) == 2
    assert not batch.images[0, 40:].any() and not batch.images[1, 33:].any() and batch.images[1, :33, :64].any()
    objects = objects_of(a)
    np.testing.assert_array_equal(objects.instances() > 0, a.instances > 0)
    assert all(objects.labels[k] == a.mask[objects.mask(k) > 0][0] for k in range(len(objects)))
    crowd = Objects.of((5, 5), [1, 1], np.ones((2, 5, 5)), crowd=[True, False])
    assert len(stack_objects([Sample(np.zeros((5, 5, 3), np.uint8), objects=crowd)]).objects[0]) == 1


def test_objects_without_a_pixel_are_left_out_unless_they_have_a_box():
    masks = np.zeros((2, 6, 6), np.uint8)
    masks[1, 2:4, 3:5] = 1
    assert Objects.of((6, 6), [1, 2], masks).labels.tolist() == [2]
    objects = Objects.of((6, 6), [1, 2], masks, boxes=[[0, 0, 3, 3], [3, 2, 5, 4]])
    assert len(objects) == 2 and not objects.mask(0).any()


@pytest.mark.parametrize(
    "box, message",
    [
        ([4, 4, 2, 5], "'cat': box 1 is .4.0, 4.0, 2.0, 5.0., which has x2 <= x1.*x y width height"),
        ([0, 0, 10, 3], "box 1 .* lies outside of the image, 6 x 8"),
        ([0, np.nan, 3, 3], "box 1 .* is not finite"),
    ],
)
def test_boxes_that_make_no_sense_are_refused(box, message):
    with pytest.raises(DataError, match=message):
        Objects.of((6, 8), [1, 1], np.ones((2, 6, 8)), boxes=[[0, 0, 2, 2], box], name="cat")


def test_masks_without_instances_are_no_objects(folder):
    with pytest.raises(DataError, match=r"\(train\): 4 of 4 images have masks, but .*cure: PNGs in instances/"):
        open_objects(folder)
    (folder / "instances").mkdir()
    for i in range(4):
        write_mask(folder / "instances" / f"{i}.png", np.ones((12, 10), np.int32))
    assert open_objects(folder)[0].instances.any()
    with pytest.raises(DataError, match=r"\(val\): 2 of 2 images"):
        open_objects(folder, "val")


def test_errors():
    with pytest.raises(DataError, match="expected one label for each mask"):
        Objects.of((6, 6), [1], np.ones((2, 6, 6)))
    with pytest.raises(DataError, match="2 masks, 1 boxes"):
        Objects.of((6, 6), [1, 1], np.ones((2, 6, 6)), boxes=[[0, 0, 1, 1]])
    with pytest.raises(DataError, match="nothing says which pixels are one object"):
        objects_of(Sample(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int32), name="a"))
    with pytest.raises(DataError, match="its objects are of an image of"):
        Sample(np.zeros((4, 4, 3), np.uint8), objects=Objects.of((5, 4), [], []))
    with pytest.raises(DataError, match="one number of channels"):
        stack_objects([Sample(np.zeros((4, 4, c), np.uint8), objects=Objects.of((4, 4), [], [])) for c in (1, 3)])
