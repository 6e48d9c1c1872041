"""Mask R-CNN, He et al. 2017, in the order of reading:

    mask_rcnn.py    the whole: image -> pyramid -> proposals -> class, box and mask of each
    fpn.py          ResNet's maps -> the feature pyramid P2..P6
    anchors.py      the boxes that everything starts from          box_coding.py   boxes as offsets, and back
    rpn.py          objectness and offsets at each anchor          sampling.py     which boxes learn what
    proposals.py    the few hundred boxes worth looking at         losses.py       the five losses
    roi_heads.py    RoIAlign, box head, mask head                  detections.py   what is found in the end
"""

from .detections import Detections
from .mask_rcnn import MaskRCNN, MaskRCNNResNet18FPN, MaskRCNNResNet50FPN, MaskRCNNResNet101FPN

__all__ = ["Detections", "MaskRCNN", "MaskRCNNResNet18FPN", "MaskRCNNResNet50FPN", "MaskRCNNResNet101FPN"]
