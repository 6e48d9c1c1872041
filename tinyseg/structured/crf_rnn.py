"""Mean field as layers of a network: the dense CRF with gradients, for training through it.

    Q = softmax(U),   then again and again   Q = softmax( U - sum_g (w_g A_g K_g B_g Q) mu )

Zheng et al. 2015 (CRF-as-RNN): U are the network's logits, K_g Gaussian filters of the image's features, A_g and B_g
their normalisation, w_g weights of the filters (one, or one for each class), mu the compatibility of labels (Potts:
[k != l]). Gradients flow to the logits, the weights and mu; that of a filter is its exact transpose.
"""

import math

import numpy as np

from .. import ops
from ..tensor import Tensor
from .gaussian import filter_norms
from .permutohedral import lattice_filter


class NormalizedFilter:
    """A Lattice (or ExactGaussian) K between norms from D = diag(K 1), differentiable: filter(x) = D^-1/2 K D^-1/2 x.

    normalization: "symmetric", or "before" K D^-1, "after" D^-1 K, "none" K.
    Shapes: x (..,K) float with as many leading elements as the lattice has points -> the same.
    Raises ValueError: an unknown normalization, another number of points; TypeError: another dtype or device.
    Example:
        blur = NormalizedFilter(Lattice(bilateral_features(image, 80, 13)), "after")
        y = blur(probabilities)
    """

    def __init__(self, lattice, normalization: str = "symmetric"):
        self.lattice = lattice
        self.before, self.after = filter_norms("NormalizedFilter", lattice, normalization)

    def __call__(self, x) -> Tensor:
        scaled = x if self.before is None else self._scale(x, self.before)
        y = lattice_filter(scaled, self.lattice)
        return y if self.after is None else self._scale(y, self.after)

    def _scale(self, x, norm):
        if math.prod(x.shape[:-1]) != self.lattice.points:  # a broadcast would hide it
            raise ValueError(f"NormalizedFilter: x has shape {x.shape}, the lattice {self.lattice.points} points")
        return ops.mul(x, Tensor(norm.reshape(*x.shape[:-1], 1), self.lattice.device))


def crf_as_rnn(logits, filters: list[NormalizedFilter], weights, compatibility=None, iterations: int = 5) -> Tensor:
    """`iterations` mean-field steps on the logits of one image; the equation stands above. Returns logits again.

    Their softmax is the last Q, so a loss on logits takes them as they are. Zheng et al. 2015.
    Shapes: logits (N,K) or (H,W,K); filters: one for each of G kernels; weights (G,), or (G,K): one for each class;
        compatibility (K,K), Potts if left out -> like logits. Differentiable in logits, weights and compatibility.
    Raises ValueError: shapes; no filters; iterations < 1. TypeError: dtypes and devices other than the filters'.
    Example:
        filters = [NormalizedFilter(Lattice(f)) for f in (pixel_features(H, W, 3), bilateral_features(image, 80, 13))]
        loss = ts.ops.cross_entropy(crf_as_rnn(model(x)[0], filters, weights)[None], target)
    """
    shape, K, G = logits.shape, logits.shape[-1], len(filters)
    if G < 1 or isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"crf_as_rnn: {G} filters, iterations {iterations!r}: expected at least one of each")
    if weights.shape not in ((G,), (G, K)):
        raise ValueError(f"crf_as_rnn: weights have shape {weights.shape}, expected ({G},) or ({G}, {K})")
    if compatibility is None:
        compatibility = (1 - np.eye(K)).astype(filters[0].lattice.dtype)
    if compatibility.shape != (K, K):
        raise ValueError(f"crf_as_rnn: compatibility has shape {compatibility.shape}, expected ({K}, {K})")
    logits = ops.reshape(logits, (-1, K))
    scores = logits
    for _ in range(iterations):
        q, message = ops.softmax(scores), None
        for g, blur in enumerate(filters):
            weighted = ops.mul(blur(q), weights[g])
            message = weighted if message is None else ops.add(message, weighted)
        scores = ops.sub(logits, ops.matmul(message, compatibility))
    return ops.reshape(scores, shape)
