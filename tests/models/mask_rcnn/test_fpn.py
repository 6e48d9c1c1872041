import numpy as np
import pytest

import tinyseg as ts
from tinyseg.models.mask_rcnn.fpn import FeaturePyramid, ResNetFPN


def test_top_down_by_hand():
    """1x1 filters that copy, 3x3 filters that copy: each level is its own map plus all those above, repeated."""
    fpn = FeaturePyramid([1, 1, 1], 1)
    for block in (*fpn.inner_blocks, *fpn.layer_blocks):
        w = np.zeros(block[0].weight.shape, np.float32)
        w[w.shape[0] // 2, w.shape[1] // 2] = 1
        block[0].weight.assign(w)
        block[0].bias.assign(np.zeros(1))
    maps = [np.random.default_rng(i).random((1, 8 >> i, 12 >> i, 1)).astype(np.float32) for i in range(3)]
    p2, p3, p4, p5 = (p.numpy() for p in fpn(*(ts.tensor(m) for m in maps)))
    twice = [m.repeat(2, 1).repeat(2, 2) for m in maps]
    np.testing.assert_allclose(p4, maps[2])
    np.testing.assert_allclose(p3, maps[1] + twice[2])
    np.testing.assert_allclose(p2, maps[0] + (maps[1] + twice[2]).repeat(2, 1).repeat(2, 2))
    np.testing.assert_array_equal(p5, p4[:, ::2, ::2])


def test_frozen_batch_norms_and_layers():
    model = ResNetFPN(18, 3, 4, 8, frozen_batch_norm=True, trainable_layers=3)
    names = [name for name, _ in model.named_parameters()]
    assert not any("bn" in name or "downsample.1" in name for name in names)
    assert "body.bn1.weight" in dict(model.named_buffers())
    trained = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad and "body" in name}
    assert trained == {"layer2", "layer3", "layer4"}
    before = model.state_dict()["body.bn1.running_mean"]
    model.train()(ts.tensor(np.random.default_rng(0).random((1, 64, 64, 3)).astype(np.float32)))
    np.testing.assert_array_equal(before, model.state_dict()["body.bn1.running_mean"])
    with pytest.raises(ValueError, match="trainable_layers is 6"):
        ResNetFPN(18, 3, 4, 8, True, 6)
