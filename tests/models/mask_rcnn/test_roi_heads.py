import numpy as np

from tinyseg.models.mask_rcnn.roi_heads import level_of


def test_level_of_the_papers_boxes():
    sides = np.array([1, 56, 111.9, 112, 224, 447, 448, 5000], np.float32)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    assert (2 + level_of(boxes, 4)).tolist() == [2, 2, 2, 3, 4, 4, 5, 5]
    assert level_of(np.float32([[3, 3, 3, 9]]), 4).tolist() == [0]  # no area
    assert level_of(np.float32([[0, 0, 112, 448]]), 4).tolist() == [2]  # of 224^2 pixels
