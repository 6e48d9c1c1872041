"""U-Net against its paper: parameter counts, sizes, initial spread."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import nn
from tinyseg.models.unet import UNet, UNetPaper, check_size


def test_parameter_counts():
    assert UNet(2).parameter_count() == 31_037_698
    assert UNet(1).parameter_count() == 31_037_633
    assert UNetPaper(2, in_channels=1).parameter_count() == 31_030_658
    assert UNetPaper(2, in_channels=3).parameter_count() == 31_031_810


@pytest.mark.parametrize("size", [(188, 188), (204, 188)])
def test_valid_convolutions_lose_a_margin_of_92(size):
    model = UNetPaper(2, in_channels=1, width=1).eval()
    with ts.no_grad():
        y = model(ts.tensor(np.ones((1, *size, 1), np.float32)))
    assert y.shape == (1, size[0] - 184, size[1] - 184, 2) and UNetPaper.margin == 92


def test_572_gives_388():
    n = 572
    check_size(n)
    sizes = []
    for _ in range(4):
        n -= 4
        sizes.append(n)
        assert n % 2 == 0
        n //= 2
    n -= 4
    for skip in sizes[::-1]:
        n *= 2
        assert (skip - n) % 2 == 0 and skip >= n  # the crop is centred
        n -= 4
    assert n == 388


@pytest.mark.parametrize(
    "n, cure", [(512, "508 or 524"), (187, "188"), (1, "188"), (200, "188 or 204"), (573, "572 or 588")]
)
def test_a_size_that_does_not_fit_is_answered_with_the_nearest_that_do(n, cure):
    with pytest.raises(ValueError, match=f"188x{n}.*width {cure},"):
        UNetPaper(2, 1, width=1)(ts.tensor(np.zeros((1, 188, n, 1), np.float32)))


def test_the_sizes_that_are_accepted_are_16m_plus_12():
    accepted = []
    for n in range(1, 260):
        try:
            check_size(n)
            accepted.append(n)
        except ValueError:
            pass
    assert accepted == [188, 204, 220, 236, 252]
    model = UNetPaper(2, 1, width=1)
    assert [model.valid_size(n) for n in (1, 188, 189, 204, 512 + 2 * model.margin)] == [188, 188, 204, 204, 700]


def test_initial_spread_is_the_papers():
    model = UNetPaper(2, 1, width=32)
    layer = model.down[1][2]  # 3x3 after 64 channels: N = 576
    assert layer.weight.numpy().std() == pytest.approx((2 / 576) ** 0.5, rel=0.02) and not layer.bias.numpy().any()
    assert model.up[0].weight.numpy().std() == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    assert sum(isinstance(m, nn.Dropout) for m in model.modules()) == 2


@pytest.mark.parametrize("size", [(1, 1), (16, 32), (17, 5)])
def test_unet_takes_any_size_and_pads_inside(size):
    model = UNet(3, in_channels=1, width=2, depth=3).eval()
    x = np.random.default_rng(0).standard_normal((1, *size, 1)).astype(np.float32)
    with ts.no_grad():
        y = model(ts.tensor(x)).numpy()
        below, right = -size[0] % 8, -size[1] % 8
        whole = model(ts.tensor(np.pad(x, ((0, 0), (0, below), (0, right), (0, 0))))).numpy()
    assert y.shape == (1, *size, 3)
    np.testing.assert_array_equal(y, whole[:, : size[0], : size[1]])
