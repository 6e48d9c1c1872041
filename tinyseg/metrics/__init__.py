"""How good a segmentation is: arrays in, numbers out.

    semantic.py   a class for every pixel: confusion matrix, IoU, boundary F-score
    coco.py       objects with scores: COCO's average precision, of boxes and of masks
    panoptic.py   both at once: panoptic quality
"""

from .coco import coco_ap, coco_table
from .panoptic import PanopticQuality
from .semantic import ConfusionMatrix, boundary_f_score

__all__ = ["ConfusionMatrix", "PanopticQuality", "boundary_f_score", "coco_ap", "coco_table"]
