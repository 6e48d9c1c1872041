"""The nearest distribution that keeps linear constraints: the latent step of CCNN.

    minimise  sum_i KL(P_i || Q_i)   over P   subject to   A P >= b - xi,  xi >= 0,  at a price of beta . xi

where Q = softmax(f) and each row of A P is plus or minus the mean share of one class. The solution is

    P_i(k) = softmax_k( s (f_i(k) + (A^T m)(k)) ),      0 <= m <= beta,

with m the minimum of the dual  g(m) = 1/(s M) sum_i logsumexp_k s (f_i(k) + (A^T m)(k)) - m . b,  whose gradient is
A P - b. Pathak, Kraehenbuehl & Darrell 2015, section 4; s is their hardness. Their rows are divided by the number of
pixels M and their slack is multiplied by it; here m is their lambda / M, so that m adds to the logits as it is.
Letters: i pixel (M of them), k class, j constraint.
"""

import numpy as np

NO_PRICE = 1e10  # the slack of a constraint that must hold


class Constraints:
    """Bounds on the share of classes in an image: classes, signs (+1 at least, -1 at most), bounds, slack."""

    def __init__(self):
        self.classes, self.signs, self.bounds, self.slack = [], [], [], []

    def at_least(self, k: int, share: float, slack: float = NO_PRICE) -> None:
        """Class k has at least this share of the pixels; its logit rises by no more than the slack."""
        self._add(k, 1.0, share, slack)

    def at_most(self, k: int, share: float, slack: float = NO_PRICE) -> None:
        """Class k has at most this share of the pixels; its logit sinks by no more than the slack."""
        self._add(k, -1.0, share, slack)

    def _add(self, k, sign, share, slack):
        if not 0 <= share <= 1 or slack < 0:
            raise ValueError(f"ccnn: a share is {share} and a slack {slack}, expected a share in [0, 1], a slack >= 0")
        self.classes.append(k)
        self.signs.append(sign)
        self.bounds.append(sign * share)
        self.slack.append(slack)

    def refuse_the_impossible(self, present: list[int]) -> None:
        """Raise ValueError where no shares that sum to 1 keep the bounds that have no price."""
        low, high = dict.fromkeys(present, 0.0), dict.fromkeys(present, 1.0)
        for k, sign, bound, slack in zip(self.classes, self.signs, self.bounds, self.slack):
            if slack >= NO_PRICE:
                low[k], high[k] = (max(low[k], bound), high[k]) if sign > 0 else (low[k], min(high[k], -bound))
        if any(low[k] > high[k] for k in present) or sum(low.values()) > 1 or sum(high.values()) < 1:
            raise ValueError(
                f"ccnn: no shares of the classes {present} keep the bounds: at least {list(low.values())}, at most "
                f"{list(high.values())}, and together 1; cure: other shares"
            )


def project(
    xp, f, present: np.ndarray, constraints: Constraints, hardness: float = 1.0, tolerance: float = 1e-5,
    most: int = 3000,
):  # fmt: skip
    """P (M,K) and m (J,): the minimum by projected gradient, step x1.1 after a step that helped, x0.5 after one not.

    It ends where the constraints and their complements hold to `tolerance` (a share of the pixels), the step has
    vanished, or after `most` steps. Absent classes are left out of the problem: there P = 0.

    Shapes: f (M,K) scores on the device of xp, present (K,) bool on the host.
    Raises ValueError: bounds that no P can keep.
    """
    classes = np.flatnonzero(present).tolist()
    constraints.refuse_the_impossible(classes)
    scores = f[:, classes].astype(np.float64)
    at = np.array([classes.index(k) for k in constraints.classes], np.int64)
    sign, b, beta = (np.array(v, np.float64) for v in (constraints.signs, constraints.bounds, constraints.slack))

    def dual(m):
        """g, its gradient, and P."""
        rise = np.zeros(len(classes))
        np.add.at(rise, at, sign * m)
        z = hardness * (scores + xp.asarray(rise))
        highest = z.max(axis=1, keepdims=True)
        p = xp.exp(z - highest)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        value = float((xp.log(total) + highest).mean()) / hardness - m @ b
        shares = p.mean(axis=0)
        return value, sign * np.asarray(shares.tolist())[at] - b, p

    m = np.zeros(len(at))
    value, gradient, p = dual(m)
    step, taken = 1e5 / max(len(scores), 1), 0
    while len(m) and taken < most and step > 1e-8 / max(len(scores), 1):
        violated = np.where(m <= 0, np.minimum(gradient, 0), np.where(m >= beta, np.maximum(gradient, 0), gradient))
        if np.abs(violated).max() <= tolerance:
            break
        ahead = np.clip(m - step * gradient, 0, beta)
        new_value, new_gradient, new_p = dual(ahead)
        if new_value < value:
            m, value, gradient, p, step = ahead, new_value, new_gradient, new_p, 1.1 * step
        else:
            step *= 0.5
        taken += 1
    P = xp.zeros(f.shape, f.dtype)
    P[:, classes] = p
    return P, m
