import numpy as np

from tinyseg.models.mask_rcnn.anchors import base_anchors, grid_anchors, pyramid_anchors


def test_base_anchors_by_hand():
    """Size 32: w = 32 / sqrt(ratio), h = 32 sqrt(ratio), half sides rounded (to even where they end in .5)."""
    expected = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    assert base_anchors(32, (0.5, 1.0, 2.0)).tolist() == expected


def test_order_is_row_column_anchor():
    base = base_anchors(8, (1.0, 2.0))
    found = grid_anchors(base, (2, 3), (4, 5)).reshape(2, 3, 2, 4)
    for y in range(2):
        for x in range(3):
            for a in range(2):
                assert found[y, x, a].tolist() == (base[a] + [5 * x, 4 * y, 5 * x, 4 * y]).tolist()


def test_one_size_a_level_and_whole_strides():
    levels = pyramid_anchors((96, 128), [(24, 32), (12, 16), (2, 2)], (32, 64, 512), (0.5, 1.0, 2.0))
    assert [len(a) for a in levels] == [24 * 32 * 3, 12 * 16 * 3, 2 * 2 * 3]
    assert (levels[1][3] - levels[1][0])[0] == 8 and levels[2][-2].tolist() == [64 - 256, 48 - 256, 64 + 256, 48 + 256]
    sides = levels[0][1, 2:] - levels[0][1, :2]
    np.testing.assert_array_equal(sides, [32, 32])
