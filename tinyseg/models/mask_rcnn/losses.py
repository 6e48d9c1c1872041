"""The losses of Mask R-CNN: one sum of five. He et al. 2017, section 3; torchvision's normalisation.

    L = L_objectness + L_rpn_box + L_class + L_box + L_mask

    objectness   mean binary cross-entropy over the sampled anchors
    boxes        smooth L1 (beta 1/9) of the positives' offsets, summed, divided by the number of all sampled boxes
    class        mean cross-entropy over the sampled boxes
    mask         mean binary cross-entropy over the pixels of the positives' masks, of their own class alone
"""

import numpy as np

from ... import ops
from ...tensor import Function, Tensor

BETA = 1 / 9


def binary_cross_entropy(logits: Tensor, target: np.ndarray) -> Tensor:
    """Mean of softplus(x) - t x, which is -t log sigmoid(x) - (1-t) log(1 - sigmoid(x)); targets in [0, 1]."""
    logits = single(logits)
    t = Tensor(logits.device.array(target, logits.dtype), logits.device)
    return ops.mean(ops.softplus(logits) - logits * t)


def smooth_l1(predicted: Tensor, target: np.ndarray, beta: float = BETA) -> Tensor:
    """Sum of d^2 / (2 beta) where d = |p - t| < beta, else d - beta/2. Girshick 2015."""
    predicted = single(predicted)
    d = ops.abs(predicted - Tensor(predicted.device.array(target, predicted.dtype), predicted.device))
    near = ops.minimum(d, beta)  # in it both branches are one: near (d - near/2) / beta
    return ops.sum(near * (d - 0.5 * near)) / beta


def cross_entropy(logits: Tensor, labels: np.ndarray) -> Tensor:
    """Mean of -log softmax(logits)[label]. Shapes: (R,K), (R,)."""
    return ops.cross_entropy(single(logits), labels.astype(np.int32), ignore_index=-1)


def single(x: Tensor) -> Tensor:
    """x in float32 where autocast made it float16: losses are sums of many small numbers."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


class OfClass(Function):
    """y[r] = x[r, ..., label[r]];  dx is dy there and 0 elsewhere"""

    def __init__(self, labels):
        self.labels = np.asarray(labels)

    def forward(self, x):
        self.shape = x.shape
        return self.device.xp.ascontiguousarray(x[self._index()])

    def backward(self, dy):
        dx = self.device.zeros(self.shape, dy.dtype)
        dx[self._index()] = dy  # no element is named twice
        return dx

    def _index(self):
        middle = len(self.shape) - 2
        sides = [np.arange(n).reshape(-1, *[1] * (middle - 1 - i)) for i, n in enumerate(self.shape[1:-1])]
        rows = np.arange(self.shape[0]).reshape(-1, *[1] * middle)
        return tuple(self.device.xp.asarray(a) for a in (rows, *sides, self.labels.reshape(rows.shape)))
