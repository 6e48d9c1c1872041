"""Each stage of Mask R-CNN against torchvision's, from the same weights and, stage by stage, the same inputs."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import interop, models
from tinyseg.data import Objects
from tinyseg.models.mask_rcnn import roi_heads as roi_heads_file
from tinyseg.models.mask_rcnn import rpn as rpn_file
from tinyseg.models.mask_rcnn.anchors import pyramid_anchors

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

CLASSES, SIZE, SIZES = 5, (128, 160), [(128, 160), (120, 131)]


class Ours(models.MaskRCNN):
    """Torchvision's numbers on ResNet-18, to be quick."""

    def __init__(self):
        super().__init__(CLASSES, 3, 18, 64, 256, 1024, (32, 64, 128, 256, 512), (200, 100), (100, 60), 256, 512, True,
                         5, 128, 160, 0)  # fmt: skip


@pytest.fixture(scope="module")
def both():
    """The two models, a padded batch for each, and its objects for each."""
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.models.detection.image_list import ImageList

    rng, ours = np.random.default_rng(0), Ours()
    for module in ours.modules():
        if hasattr(module, "running_var"):  # statistics of their own; branches that add little keep numbers near 1
            size = module.running_var.shape
            module.running_mean.assign(rng.normal(0, 0.1, size))
            module.running_var.assign(rng.uniform(0.8, 1.5, size))
            module.weight.assign(rng.uniform(0.3, 0.6, size))
            module.bias.assign(rng.normal(0, 0.1, size))
    for layer in (ours.rpn.head.cls_logits, ours.rpn.head.bbox_pred):  # as if trained: opinions that differ
        layer.weight.assign(20 * layer.weight.numpy())
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    theirs = MaskRCNN(backbone, CLASSES, min_size=128, max_size=160, rpn_pre_nms_top_n_train=200,
                      rpn_pre_nms_top_n_test=100, rpn_post_nms_top_n_train=100, rpn_post_nms_top_n_test=60)  # fmt: skip
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in interop.to_torch(ours).items()})
    assert interop.load_torch(Ours(), theirs.state_dict(), strict=True) == []
    images = rng.standard_normal((2, *SIZE, 3)).astype(np.float32)
    images[1, 120:], images[1, :, 131:] = 0, 0
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    targets, objects = [], []
    for size, count in zip(SIZES, (4, 3)):
        masks = np.zeros((count, *size), np.uint8)
        for mask in masks:
            h, w = rng.integers(20, 70, 2)
            y, x = rng.integers(0, size[0] - h), rng.integers(0, size[1] - w)
            mask[y : y + h, x : x + w] = rng.random((h, w)) > 0.3
        objects.append(Objects.of(size, rng.integers(1, CLASSES, count), masks))
        targets.append({"boxes": torch.tensor(objects[-1].boxes), "masks": torch.tensor(masks),
                        "labels": torch.tensor(objects[-1].labels, dtype=torch.int64)})  # fmt: skip
    return ours, theirs, ts.tensor(images), ImageList(batch, SIZES), objects, targets


@pytest.fixture
def maps(both):
    ours, theirs, images, batch, _, _ = both
    with ts.no_grad(), torch.no_grad():
        return ours.eval().backbone(images), theirs.eval().backbone(batch.tensors)


def last(t):
    return t.detach().permute(0, 2, 3, 1).numpy()


def near(found, expected, tolerance=1e-4):
    found, expected = (a.numpy() if hasattr(a, "numpy") else np.asarray(a) for a in (found, expected))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max(initial=0)))


def test_pyramid(maps):
    for found, expected in zip(maps[0], maps[1].values(), strict=True):
        near(found.numpy(), last(expected))


def test_anchors(both, maps):
    _, theirs, _, batch, _, _ = both
    expected = theirs.rpn.anchor_generator(batch, list(maps[1].values()))
    found = pyramid_anchors(SIZE, [m.shape[1:3] for m in maps[0]], (32, 64, 128, 256, 512), (0.5, 1.0, 2.0))
    np.testing.assert_array_equal(np.concatenate(found), expected[0].numpy())


def test_rpn_outputs_and_proposals(both, maps):
    ours, theirs, _, batch, _, _ = both
    with ts.no_grad(), torch.no_grad():
        logits, offsets = theirs.rpn.head(list(maps[1].values()))
        for x, a, b in zip(maps[0], logits, offsets):
            for found, expected in zip(ours.rpn.head(x), (a, b)):
                near(found.numpy(), last(expected))
        found, _ = ours.rpn(maps[0], SIZE, SIZES)
        expected, _ = theirs.rpn(batch, maps[1])
    for a, b in zip(found, expected):
        near(a, b.numpy())


@pytest.fixture
def proposals(both, maps):
    with torch.no_grad():
        found, _ = both[1].eval().rpn(both[3], maps[1])
    return [p.numpy() for p in found], found


def test_roi_align_and_heads(both, maps, proposals):
    ours, theirs = both[0].roi_heads, both[1].roi_heads
    with ts.no_grad(), torch.no_grad():
        for bins, pool in ((7, theirs.box_roi_pool), (14, theirs.mask_roi_pool)):
            expected = pool(maps[1], proposals[1], SIZES)
            near(roi_heads_file.pool(maps[0], SIZE, proposals[0], bins).numpy(), last(expected))
        scores, offsets = theirs.box_predictor(theirs.box_head(theirs.box_roi_pool(maps[1], proposals[1], SIZES)))
        found_scores, found_offsets = ours.boxes_of(maps[0], SIZE, proposals[0])
        near(found_scores.numpy(), scores.numpy())
        near(found_offsets.numpy().reshape(len(scores), -1), offsets.numpy())
        masks = theirs.mask_predictor(theirs.mask_head(theirs.mask_roi_pool(maps[1], proposals[1], SIZES)))
        near(ours.masks_of(maps[0], SIZE, proposals[0]).numpy(), last(masks))


def test_detections(both, maps, proposals):
    with ts.no_grad(), torch.no_grad():
        found = both[0].roi_heads(maps[0], SIZE, SIZES, proposals[0])
        expected, _ = both[1].eval().roi_heads(maps[1], proposals[1], SIZES)
    for a, b in zip(found, expected):
        agree(a, b, a.masks, b["masks"][:, 0].numpy())


def agree(a, b, masks, their_masks):
    """The same detections, but for the order of scores that differ by rounding alone."""
    scores, labels, boxes = (b[key].numpy() for key in ("scores", "labels", "boxes"))
    near(a.scores, scores)
    assert len(a) > 5
    for k in range(len(a)):
        same = np.flatnonzero((labels == a.labels[k]) & (np.abs(boxes - a.boxes[k]).max(1) < 0.02))
        assert len(same), f"detection {k}, score {a.scores[k]}"
        near(masks[k], their_masks[same[0]])


def first(matched, count, share):
    """A sampler that draws nothing: the first positives and negatives."""
    positive, negative = np.flatnonzero(matched >= 0), np.flatnonzero(matched == -1)
    positives = min(int(count * share), len(positive))
    return positive[:positives], negative[: min(count - positives, len(negative))]


class TheirSampler:
    def __init__(self, count, share):
        self.count, self.share = count, share

    def __call__(self, matched):  # theirs: 1.. positive, 0 negative, -1 between
        flags = [], []
        for m in matched:
            m = m.numpy()
            ours = np.where(m >= 1, 0, np.where(m == 0, -1, -2))
            for flag, chosen in zip(flags, first(ours, self.count, self.share)):
                flag.append(torch.zeros(len(m), dtype=torch.uint8))
                flag[-1][torch.from_numpy(chosen)] = 1
        return flags


def test_losses(both, maps, proposals, monkeypatch):
    ours, theirs, _, batch, objects, targets = both
    for file in (rpn_file, roi_heads_file):
        monkeypatch.setattr(file, "balanced", lambda m, n, share, g: np.sort(np.concatenate(first(m, n, share))))
    monkeypatch.setattr(theirs.rpn, "fg_bg_sampler", TheirSampler(256, 0.5))
    monkeypatch.setattr(theirs.roi_heads, "fg_bg_sampler", TheirSampler(512, 0.25))
    theirs.train(), ours.train()
    with torch.no_grad(), ts.no_grad():
        _, expected = theirs.rpn(batch, maps[1], targets)
        _, found = ours.rpn(maps[0], SIZE, SIZES, [o.boxes for o in objects])
        expected |= theirs.roi_heads(maps[1], proposals[1], SIZES, targets)[1]
        found |= ours.roi_heads(maps[0], SIZE, SIZES, proposals[0], objects)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-5), name


def test_from_the_photograph_to_pasted_masks(both):
    """Resizing, normalisation, padding and pasting too: an image whose shorter side becomes 128."""
    ours, theirs, *_ = both
    image = np.random.default_rng(5).integers(0, 256, (150, 170, 3)).astype(np.uint8)
    ours.info = ts.checkpoint.Info([str(k) for k in range(CLASSES)], [[0, 0, 0]] * CLASSES,
                                   [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # fmt: skip
    with torch.no_grad():
        (expected,) = theirs.eval()([torch.from_numpy(image / np.float32(255)).permute(2, 0, 1)])
    found = ts.detect(ours, image)
    masks = np.stack([ts.ops.paste_masks(found.masks[k : k + 1], found.boxes[k : k + 1], (150, 170)).numpy()[0]
                      for k in range(len(found))])  # fmt: skip
    scores = expected["scores"].numpy()
    near(found.scores[:20], scores[:20], 1e-3)
    labels, boxes = expected["labels"].numpy(), expected["boxes"].numpy()
    for k in range(10):
        same = np.flatnonzero((labels == found.labels[k]) & (np.abs(boxes - found.boxes[k]).max(1) < 0.05))
        assert len(same), k
        # a box's edge that falls on a whole pixel may be rounded to either side
        assert np.abs(masks[k] - expected["masks"][same[0], 0].numpy()).mean() < 1e-3
