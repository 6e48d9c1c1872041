"""The whole model: shapes, gradients, counts, seeds, awkward images, and what it refuses."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import models, nn
from tinyseg.data import DataError, Objects, Shapes, objects_of, stack_objects
from tinyseg.models import MaskRCNNResNet18FPN


def small(seed=0, **options):
    return MaskRCNNResNet18FPN(4, width=4, seed=seed, **options)


def scene(count=2, size=64, seed=0):
    return stack_objects([Shapes(size=size, seed=seed, num_classes=4)[i] for i in range(count)])


def rectangles(size, boxes, labels=None, name=""):
    masks = np.zeros((len(boxes), *size), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = 1
    return Objects.of(size, labels or [1] * len(boxes), masks, name=name)


def test_parameter_counts():
    """Torchvision's num_params, without the affine of the frozen batch norms."""
    with nn.no_init():
        assert models.create("mask_rcnn_resnet50_fpn", 91).parameter_count() == 44_401_393
        assert models.create("mask_rcnn_resnet101_fpn", 91).parameter_count() == 63_341_297
        affine = models.MaskRCNNResNet50FPN(91, frozen_batch_norm=False)
        assert affine.parameter_count() == 44_454_513
        assert models.create("mask_rcnn_resnet50_fpn", 81).parameter_count() == 44_347_573


def test_losses_and_a_gradient_at_every_parameter(device):
    model, batch = small().to(device), scene()
    losses = model(ts.tensor(batch.images, device), batch.sizes, batch.objects)
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"}
    assert abs(losses["loss_objectness"].item() - np.log(2)) < 0.1  # logits near 0
    assert abs(losses["loss_classifier"].item() - np.log(4)) < 0.5
    sum(losses.values()).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and np.isfinite(p.grad.numpy()).all() and p.grad.numpy().any(), name


def test_mixed_precision(device):
    batch, found = scene(), []
    for enabled in (False, True):
        model = small().to(device)
        with ts.autocast(enabled=enabled):
            losses = model(ts.tensor(batch.images, device), batch.sizes, batch.objects)
        assert all(loss.dtype == np.float32 for loss in losses.values())
        total = sum(losses.values())
        total.backward()
        found.append(total.item())
        assert all(np.isfinite(p.grad.numpy()).all() for p in model.parameters())
    assert found[1] == pytest.approx(found[0], rel=0.02)


def test_the_seed_decides_weights_and_samples():
    batch, values = scene(), []
    for seed in (0, 0, 1):
        model = small(seed)
        values.append([sum(model(ts.tensor(batch.images), batch.sizes, batch.objects).values()).item() for _ in "ab"])
    assert values[0] == values[1] != values[2]
    a = small()
    a(ts.tensor(batch.images), batch.sizes, batch.objects)
    b = models.build(a.config)
    b.load_state_dict(a.state_dict())
    b.set_random_state(a.random_state())  # what a resumed run does
    results = [sum(m(ts.tensor(batch.images), batch.sizes, batch.objects).values()).item() for m in (a, b)]
    assert results[0] == results[1]


def test_detections_of_a_model_that_knows_nothing():
    model, batch = small().eval(), scene()
    with ts.no_grad():
        found = model(ts.tensor(batch.images), batch.sizes)
        again = model(ts.tensor(batch.images), batch.sizes)
    for d, e, (_, w) in zip(found, again, batch.sizes):
        assert np.array_equal(d.boxes, e.boxes) and np.array_equal(d.masks, e.masks)
        assert len(d) <= 100 and (d.boxes >= 0).all() and (d.boxes[:, [0, 2]] <= w).all()
        assert (np.diff(d.scores) <= 0).all() and ((d.masks >= 0) & (d.masks <= 1)).all() and (d.labels > 0).all()


def test_padding_changes_nothing():
    """An image of any size is padded by the model as a batch would be."""
    model, image = small().eval(), np.random.default_rng(0).random((1, 50, 70, 3)).astype(np.float32)
    padded = np.zeros((1, 64, 96, 3), np.float32)
    padded[:, :50, :70] = image
    with ts.no_grad():
        (a,), (b,) = model(ts.tensor(image)), model(ts.tensor(padded), [(50, 70)])
    assert a.size == (50, 70) and np.array_equal(a.boxes, b.boxes) and np.array_equal(a.masks, b.masks)


def test_images_without_objects_masks_without_pixels_and_one_pixel_objects():
    model = small()
    images = np.random.default_rng(0).random((3, 64, 96, 3)).astype(np.float32)
    sizes = [(64, 96), (50, 64), (64, 33)]
    empty = Objects.of(sizes[1], [2], np.zeros((1, *sizes[1])), boxes=[[5, 5, 20, 30]])  # a box, but no pixel
    targets = [rectangles(sizes[0], []), empty, rectangles(sizes[2], [(3, 3, 4, 4), (0, 0, 33, 64)])]
    for chosen in (targets, targets[:1] * 3):
        chosen = [Objects.of(s, [], []) if not len(t) else t for s, t in zip(sizes, chosen)]
        losses = model(ts.tensor(images), sizes, chosen)
        total = sum(losses.values())
        assert np.isfinite(total.item())
        total.backward()
    assert losses["loss_mask"].item() == 0 and losses["loss_box_reg"].item() == 0


def test_hundreds_of_objects():
    boxes = [(x, y, x + 5, y + 5) for y in range(0, 122, 6) for x in range(0, 122, 6)]
    objects = rectangles((128, 128), boxes[:400])
    assert sum(b.nbytes for b in objects.bits) < 400 * 26  # not 400 whole masks
    image = np.random.default_rng(0).random((1, 128, 128, 3)).astype(np.float32)
    assert np.isfinite(sum(small()(ts.tensor(image), None, [objects]).values()).item())


@pytest.mark.parametrize(
    "box, message",
    [
        ([30, 5, 20, 9], r"mask_rcnn: image 1 \('cat'\): box 1 is .*x2 <= x1"),
        ([30, 5, 70, 9], r"image 1 \('cat'\): box 1 .* lies outside"),
        ([30, 5, float("nan"), 9], r"image 1 \('cat'\): box 1 .* is not finite"),
    ],
)
def test_boxes_that_make_no_sense_name_image_and_box(box, message):
    batch = scene()
    bad = rectangles((64, 64), [(1, 1, 9, 9), (30, 5, 40, 9)], name="cat")
    object.__setattr__(bad, "boxes", np.float32([[1, 1, 9, 9], box]))  # Objects itself would refuse it
    with pytest.raises(DataError, match=message):
        small()(ts.tensor(batch.images), batch.sizes, [batch.objects[0], bad])


def test_errors():
    model, batch = small(), scene()
    x = ts.tensor(batch.images)
    for arguments, message in [
        ((x[:, :0],), "with some pixels"),
        ((x[0],), r"expected \(N,H,W,C\)"),
        ((x, [(64, 64)]), "2 images, 1 sizes"),
        ((x, batch.sizes, batch.objects[:1]), "2 images, 2 sizes, expected one"),
        ((x, [(64, 64), (60, 64)], batch.objects), "its objects are of an image of .64, 64., it has .60, 64."),
        ((x, batch.sizes, [rectangles((64, 64), [(1, 1, 9, 9)], [4])] * 2), "object 0 has class 4, expected 1 to 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            model(*arguments)
    with pytest.raises(ValueError, match="the background is class 0"):
        MaskRCNNResNet18FPN(1)


def test_learns_one_image_by_heart():
    """Two objects of two classes: found again, with their masks. (examples/ has four photographs.)"""
    sample = Shapes(size=64, seed=3, num_classes=4)[1]
    batch = stack_objects([sample, sample])
    model = MaskRCNNResNet18FPN(4, width=8)
    optimizer = ts.optim.AdamW(model.parameters(), lr=0.003)
    for step in range(40):
        loss = sum(model(ts.tensor(batch.images), batch.sizes, batch.objects).values())
        optimizer.zero_grad()
        loss.backward()
        ts.optim.clip_grad_norm(model.parameters(), 10.0)
        optimizer.step(min(1, (step + 1) / 10))
    truth, found = objects_of(sample), ts.detect(model, sample.image, score=0.3)
    for k in range(len(truth)):
        inside = truth.mask(k) > 0
        same = [found.mask(i) for i in range(len(found)) if found.labels[i] == truth.labels[k]]
        assert max(((m & inside).sum() / (m | inside).sum() for m in same), default=0) > 0.5


def test_detect_brings_objects_back_to_the_image(monkeypatch):
    model, seen = small(min_size=64, max_size=96), []
    forward = type(model).forward

    def watch(self, images, sizes=None, targets=None):
        seen.append(images.shape)
        return forward(self, images, sizes, targets)

    monkeypatch.setattr(type(model), "forward", watch)
    found = ts.detect(model, np.random.default_rng(0).integers(0, 256, (100, 130, 3)).astype(np.uint8))
    assert seen == [(1, 64, 83, 3)] and found.size == (100, 130) and model.training
    ts.detect(model, np.zeros((30, 300, 3), np.uint8))
    assert seen[1] == (1, 9, 96, 3)
    if len(found):
        assert found.mask(0).shape == (100, 130)
    with pytest.raises(ValueError, match="does not find objects; cure: ts.predict"):
        ts.detect(models.create("unet", 3, width=2), np.zeros((32, 32, 3), np.uint8))
