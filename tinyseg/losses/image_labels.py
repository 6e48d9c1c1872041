"""Losses for images of which it is known only which classes they show.

All but the first two find pixel labels that agree with the tags, P or y below, and then take one step towards them;
no gradient flows through finding them. f are the logits, Q = softmax(f).

    CAM        binary cross-entropy of z(k) = mean_i f_i(k) - f_i(0) for each class k          Zhou et al., CVPR 2016
    MIL        -1/|L| sum_{k in L} max_i log Q_i(k)                            Pathak et al., ICLR 2015 workshop
    EM-Fixed   y_i = argmax_k f_i(k) + b_k [k in L]                            Papandreou et al., ICCV 2015, algorithm 1
    EM-Adapt   b_k so large that each class in L has a given share of the pixels                 there, section 3.3
    CCNN       P = argmin KL(P || Q)  subject to  A P >= b,  sum_k P_i(k) = 1  Pathak, Kraehenbuehl & Darrell, ICCV 2015

L are the classes of an image, its background included where it has one. Letters: n image, i pixel, k class.
"""

import numpy as np

from .. import ops
from ..tensor import Tensor
from .constraints import Constraints, project
from .supervised import constant

Tags = np.ndarray | Tensor


def cam(logits: Tensor, tags: Tags, *, background: int | None = 0) -> Tensor:
    """Which classes an image shows, told by the mean over its pixels: the scores become maps of what tells them.

        z_n(k) = mean_i f_ni(k) - f_ni(background),      loss = mean_nk softplus(-z_n(k) where n shows k, else z_n(k))

    Every pixel has its say at every step, so that a network learns from nothing what the classes look like; how much of
    an image they cover it does not learn. A beginning for the losses that ask the network. Zhou et al. 2016; here the
    scores are those against the background's (without one: as they are).

    Shapes and errors: see `mil`.
    """
    tags = _checked("cam", logits, tags)
    z = ops.mean(logits.reshape(tags.shape[0], -1, tags.shape[1]), axis=1)
    asked = np.broadcast_to(tags.any(axis=1, keepdims=True), tags.shape).copy()
    if background is not None:
        z = z - z[:, background : background + 1]
        asked[:, background] = False
    sign = constant(1.0 - 2.0 * tags, logits)
    return ops.sum(ops.softplus(z * sign) * constant(asked / max(asked.sum(), 1), logits))


def mil(logits: Tensor, tags: Tags) -> Tensor:
    """Multiple instances: of each class that an image shows, the one pixel that looks most like it.

        loss = 1/N sum_n 1/|L_n| sum_{k in L_n} min_i -log Q_ni(k)

    Shapes: logits (N,H,W,K) float, tags (N,K) bool -> (). An image without tags counts nothing.
    Raises ValueError, TypeError: tags that do not fit.
    Example:
        loss = ts.losses.mil(model(x), tags)
    """
    tags = _checked("mil", logits, tags)
    N, K = tags.shape
    best = ops.max(ops.log_softmax(logits).reshape(N, -1, K), axis=1)
    share = tags / np.maximum(tags.sum(axis=1, keepdims=True), 1) / max(N, 1)
    return -ops.sum(best * constant(share, logits))


def em_fixed(
    logits: Tensor,
    tags: Tags,
    *,
    background_bias: float = 1.0,
    foreground_bias: float = 2.0,
    background: int | None = 0,
) -> Tensor:
    """Cross-entropy against y_i = argmax_k f_i(k) + b_k [k in L]: classes that the image shows are helped to win.

    The biases are those of the reference layer; the paper asks for foreground_bias > background_bias > 0.
    background: the class id that gets background_bias; None where the classes have none.

    Shapes and errors: see `mil`.
    """
    tags = _checked("em_fixed", logits, tags)
    bias = constant(_per_class(tags, background, background_bias, foreground_bias), logits).data
    y = (logits.data + bias[:, None, None, :]).argmax(axis=-1).astype(np.int32)
    return _towards(logits, y, tags)


def em_adapt(
    logits: Tensor,
    tags: Tags,
    *,
    background_share: float = 0.4,
    foreground_share: float = 0.2,
    background: int | None = 0,
    iterations: int = 5,
    seed: int = 0,
) -> Tensor:
    """Cross-entropy against the labels of `adapt`: biases so large that each class of the image gets its share.

    The shares are the paper's; its reference layer has 0.2 for both.
    seed: of the order in which the classes get their share; a new one in each step, such as the step's number.

    Shapes and errors: see `mil`; ValueError for shares outside of [0, 1].
    """
    tags = _checked("em_adapt", logits, tags)
    scores = adapt(
        logits.device.xp, logits.data, tags, background_share, foreground_share, background, iterations, seed
    )
    return _towards(logits, scores.argmax(axis=-1).astype(np.int32), tags)


def adapt(xp, f, tags, background_share, foreground_share, background=0, iterations=5, seed=0):
    """The scores f with a bias for each class of each image, and absent classes below all others.

    For `iterations` rounds, the background first and the others in a random order: with M the pointwise maximum over
    the classes in L, class c rises by that value of M - f_c that is reached by its share of the pixels, so that it wins
    on at least floor(share H W) of them. At the end the mean of M is what it was.

    Shapes: f (N,H,W,K) on the device of xp, tags (N,K) bool (host) -> (N,H,W,K).
    """
    for share in (background_share, foreground_share):
        if not 0 <= share <= 1:
            raise ValueError(f"em_adapt: a share is {share}, expected a number in [0, 1], a part of the pixels")
    rng, scores = np.random.default_rng(seed), f.copy()
    for n, present in enumerate(tags):
        classes = np.flatnonzero(present).tolist()
        if not classes:
            continue
        s = scores[n].reshape(-1, f.shape[-1])
        others = np.flatnonzero(~present).tolist()
        if others:  # clipped to just under the least score of the classes that are there
            low = s[:, classes].min(axis=1, keepdims=True) - 1e-5
            s[:, others] = xp.minimum(s[:, others], low)
        before = float(s[:, classes].max(axis=1).mean())
        foreground = [k for k in classes if k != background]
        for _ in range(iterations):
            for c in [k for k in classes if k == background] + rng.permutation(foreground).tolist():
                behind = s[:, classes].max(axis=1) - s[:, c]
                rank = int((background_share if c == background else foreground_share) * len(s))
                s[:, c] += xp.sort(behind)[min(rank, len(s) - 1)]
        s -= float(s[:, classes].max(axis=1).mean()) - before
        scores[n] = s.reshape(f.shape[1:])
    return scores


def ccnn(
    logits: Tensor,
    tags: Tags,
    *,
    large: Tags | None = None,
    foreground_share: float | None = None,
    foreground_slack: float | None = None,
    background_share: tuple[float, float] | None = None,
    small_share: float = 0.01,
    hardness: float | None = None,
    background: int | None = 0,
    pool: int = 1,
) -> Tensor:
    """KL(P || Q), averaged over pixels and images, P the nearest to Q that obeys the constraints; gradient Q - P.

    Absent classes have P = 0; each present one at least foreground_share of the pixels (0.05, at a price of 2 a unit:
    its logit rises by no more than the slack); the background between 0.3 and 0.7 of them, the upper bound only where
    something else is there. With `large`, (N,K) bool, which of the present classes are large: large ones have at least
    0.10 (at any price), others at most small_share, the background at least 0.2, and P is nearly one-hot (hardness
    1000 instead of 1). pool: the problem is solved, as in the paper, on a map coarser by this factor.

    Shapes and errors: see `mil`; ValueError for bounds that no P can keep.
    """
    tags = _checked("ccnn", logits, tags)
    sized = large is not None
    large = _checked("ccnn", logits, large) if sized else np.zeros_like(tags)
    if pool > 1:
        logits = ops.avg_pool2d(logits, pool, ceil_mode=True, count_include_pad=False)
    lower = (0.10 if sized else 0.05) if foreground_share is None else foreground_share
    slack = (1e10 if sized else 2.0) if foreground_slack is None else foreground_slack
    share = ((0.2 if sized else 0.3), 0.7) if background_share is None else background_share
    hardness = (1000.0 if sized else 1.0) if hardness is None else hardness
    N, K = tags.shape
    P, shown = np.zeros((N, int(np.prod(logits.shape[1:3])), K)), tags.any(axis=1)
    P = logits.device.array(P.astype(logits.dtype))
    for n in np.flatnonzero(shown):
        bounds = Constraints()
        foreground = [k for k in np.flatnonzero(tags[n]).tolist() if k != background]
        for k in foreground:
            if not sized or large[n, k]:
                bounds.at_least(k, lower, slack)
            else:
                bounds.at_most(k, small_share)
        if background is not None and tags[n, background]:
            bounds.at_least(background, share[0])
            if foreground:
                bounds.at_most(background, share[1])
        P[n] = project(logits.device.xp, logits.data[n].reshape(-1, K), tags[n], bounds, hardness)[0]
    P = P.reshape(logits.shape)
    entropy = float((P * logits.device.xp.log(logits.device.xp.maximum(P, 1e-30))).sum(dtype=np.float64))
    pixels = max(int(shown.sum()) * P.shape[1] * P.shape[2], 1)
    return (entropy - ops.sum(ops.log_softmax(logits) * Tensor(P, logits.device))) / pixels


# What all of them share


def _checked(loss, logits, tags) -> np.ndarray:
    """The tags on the host, (N,K) bool."""
    tags = np.asarray(tags.numpy() if isinstance(tags, Tensor) else tags)
    if logits.ndim != 4:
        raise ValueError(f"{loss}: logits have shape {logits.shape}, expected (N,H,W,K)")
    expected = (logits.shape[0], logits.shape[-1])
    if tags.shape != expected:
        raise ValueError(f"{loss}: tags are {tags.shape}, expected {expected}: for each image, which classes it shows")
    if tags.dtype.kind not in "biu" or not np.isin(tags, (0, 1)).all():
        raise TypeError(f"{loss}: tags are {tags.dtype} beyond 0 and 1, expected bool (N,K); cure: not class ids")
    return tags.astype(bool)


def _per_class(tags, background, of_background, of_foreground):
    """(N,K): a number for the background and one for the other classes, 0 for those that are not there."""
    values = np.full(tags.shape, of_foreground, np.float64)
    if background is not None:
        values[:, background] = of_background
    return values * tags


def _towards(logits, y, tags):
    """Cross-entropy against labels, of the images that have tags."""
    y[logits.device.array(~tags.any(axis=1))] = 255
    return ops.cross_entropy(logits, y)
