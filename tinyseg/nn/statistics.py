"""Batch-norm statistics by one pass over the training images, as SegNet's release computes them after training."""

from collections.abc import Iterable

from ..tensor import Tensor, no_grad
from .layers import BatchNorm2d
from .module import Module


def batch_norm_statistics(model: Module, batches: Iterable[Tensor]) -> int:
    """Replace the running statistics of every batch norm by their means over `batches`; returns how many came.

        mean = 1/B sum_b mean_b,      var = 1/B sum_b m/(m-1) var_b          (m values a channel in batch b)

    Each batch is normalised by its own statistics, as in training; dropout is off and nothing is trained. Frozen batch
    norms keep what they have. SegNet's `compute_bn_statistics.py`. Raises ValueError if there is no batch.

    Example:
        ts.nn.batch_norm_statistics(model, (ts.tensor(b.images) for b in loader))
    """
    layers = [m for m in model.modules() if isinstance(m, BatchNorm2d) and not m.frozen]
    before, modes, count = [m.momentum for m in layers], [(m, m.training) for m in model.modules()], 0
    model.eval()
    try:
        with no_grad():
            for x in batches:
                count += 1
                for m in layers:
                    m.training, m.momentum = True, 1 / count  # the first batch replaces, the others join the mean
                model(x)
    finally:
        for m, momentum in zip(layers, before):
            m.momentum = momentum
        for m, training in modes:
            m.training = training
    if not count:
        raise ValueError("batch_norm_statistics: got no batch; cure: batches of training images")
    return count
