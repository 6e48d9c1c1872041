"""Labels of a graph's nodes with a small energy, by moves that are minimal cuts.

    E(y) = sum_i unary_i(y_i) + sum_{e = (i,j)} weight_e V(y_i, y_j)

Boykov, Veksler & Zabih 2001: the expansion of a label lets every node choose between its own label and that one; with
x_i = 1 where it takes the new one, the best choice is a minimal cut. Its pairwise terms

    A = w V(y_i, y_j),  B = w V(y_i, new),  C = w V(new, y_j),  D = w V(new, new)
    A + (C - A) x_i + (D - C) x_j + (B + C - A - D) (1 - x_i) x_j

need B + C - A - D >= 0 (Kolmogorov & Zabih 2004), which holds for every metric V. One label after the other is expanded
until none helps. For a metric the result is within a factor of 2 max V / min V of the optimum; for two labels it is the
optimum. Letters: i, j node; e edge; l label; N, E, L their numbers.
"""

import numpy as np

from ..device import get_device
from ..kernel import kernel
from .graph_cut import Graph, edge_list


def alpha_expansion(
    unary: np.ndarray,
    edges: np.ndarray,
    weights: np.ndarray,
    pairwise: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    energies: list[float] | None = None,
) -> np.ndarray:
    """Labels y with a small E(y) = sum_i unary_i(y_i) + sum_e weight_e pairwise(y_i, y_j); see `labelling_energy`.

    pairwise: a metric on labels; left out: [y_i != y_j] (Potts). labels: where to begin (the best of each node alone);
    energies: a list to which E is appended, at the beginning and after each move that lowered it. An infinite unary
    forbids a label. Boykov, Veksler & Zabih 2001.
    Shapes: unary (N,L) or (H,W,L) float; edges (E,2) integers; weights (E,) or a number, >= 0; pairwise (L,L);
        labels (N,) or (H,W) integers -> int32 like labels.
    Raises ValueError: shapes; nan; a node without a label; weights < 0; a pairwise that no cut can express.
    Example:
        labels = alpha_expansion(-np.log(probabilities), grid_edges(height, width, 8), 2.0)
    """
    unary, edges, weights, pairwise = _checked("alpha_expansion", unary, edges, weights, pairwise)
    _check_metric(pairwise)
    shape = unary.shape[:-1]
    unary = unary.reshape(-1, unary.shape[-1])
    N, L = unary.shape
    if labels is None:
        y = unary.argmin(1).astype(np.int32)
    else:
        y = _label_array("alpha_expansion", labels, shape, L).reshape(-1).copy()
    if not np.isfinite(unary[np.arange(N), y]).all():
        at = int(np.argmin(np.isfinite(unary[np.arange(N), y])))
        said = "no label has a finite unary" if labels is None else f"label {y[at]}, where to begin, is forbidden"
        raise ValueError(f"alpha_expansion: node {at}: {said}")

    launch, graph = get_device("cpu").launch, Graph(N, edges)
    terminal, residual = np.empty(N), np.empty(2 * len(edges))
    lowest = _energy(y, unary, edges, weights, pairwise)
    energies = [] if energies is None else energies
    energies.append(lowest)
    new, tried = 0, 0
    while tried < L:  # as many labels in a row as there are did not help
        launch(
            expansion_capacities, terminal, residual, y, unary, edges, weights, pairwise,
            graph.arc, graph.sister, new, N, len(edges),
        )  # fmt: skip
        _, takes = graph.cut(terminal, residual)
        moved = np.where(takes, np.int32(new), y)
        energy = _energy(moved, unary, edges, weights, pairwise)
        if energy < lowest:
            y, lowest, tried = moved, energy, 0
            energies.append(energy)
        tried += 1
        new = (new + 1) % L
    return y.reshape(shape)


def labelling_energy(
    labels: np.ndarray, unary: np.ndarray, edges: np.ndarray, weights: np.ndarray, pairwise: np.ndarray | None = None
) -> float:
    """E(y) = sum_i unary_i(y_i) + sum_{e = (i,j)} weight_e pairwise(y_i, y_j), in float64.

    Arguments, shapes and errors: see `alpha_expansion`; here pairwise need not be a metric.
    """
    unary, edges, weights, pairwise = _checked("labelling_energy", unary, edges, weights, pairwise)
    y = _label_array("labelling_energy", labels, unary.shape[:-1], unary.shape[-1])
    return _energy(y.reshape(-1), unary.reshape(-1, unary.shape[-1]), edges, weights, pairwise)


def _energy(y, unary, edges, weights, pairwise):
    return float(unary[np.arange(len(y)), y].sum() + (weights * pairwise[y[edges[:, 0]], y[edges[:, 1]]]).sum())


def _checked(op, unary, edges, weights, pairwise):
    """All in float64 and C-contiguous; a number for all weights spelt out, Potts where there is no pairwise."""
    unary, weights = np.asarray(unary), np.asarray(weights)
    if unary.ndim < 2 or not unary.shape[-1] or unary.dtype.kind not in "iuf":
        raise ValueError(f"{op}: unary is {unary.dtype} of shape {unary.shape}, expected floats (N,L) or (H,W,L)")
    unary = np.ascontiguousarray(unary, np.float64)
    if np.isnan(unary).any() or (unary == -np.inf).any():
        raise ValueError(f"{op}: unary holds nan or -inf; expected costs, inf where a label is forbidden")
    L = unary.shape[-1]
    edges = edge_list(op, edges, unary.size // L)
    if weights.shape not in ((), (len(edges),)):
        raise ValueError(f"{op}: weights have shape {weights.shape}, expected ({len(edges)},), one for each edge")
    weights = np.ascontiguousarray(np.broadcast_to(weights, len(edges)), np.float64)
    if not (weights >= 0).all() or not np.isfinite(weights).all():
        raise ValueError(f"{op}: weights hold negative numbers, nan or inf; expected finite numbers >= 0")
    pairwise = 1.0 - np.eye(L) if pairwise is None else np.ascontiguousarray(pairwise, np.float64)
    if pairwise.shape != (L, L) or not np.isfinite(pairwise).all():
        raise ValueError(f"{op}: pairwise has shape {pairwise.shape}, expected ({L}, {L}) finite numbers")
    return unary, edges, weights, pairwise


def _check_metric(V):
    """ValueError unless V(a,b) + V(l,l) <= V(a,l) + V(l,b) for all labels."""
    scale = np.abs(V).max(initial=0)
    for label in range(len(V)):
        gap = V[:, label][:, None] + V[label] - V - V[label, label]
        if gap.min() < -1e-9 * scale:
            a, b = np.unravel_index(gap.argmin(), gap.shape)
            raise ValueError(
                f"alpha_expansion: pairwise[{a},{b}] + pairwise[{label},{label}] > pairwise[{a},{label}] + "
                f"pairwise[{label},{b}]: no cut expresses that; cure: a metric, for example a truncated one"
            )


def _label_array(op, labels, shape, L):
    labels = np.asarray(labels)
    if labels.shape != shape or labels.dtype.kind not in "iu":
        raise ValueError(f"{op}: labels are {labels.dtype} of shape {labels.shape}, expected integers {shape}")
    if labels.size and (labels.min() < 0 or labels.max() >= L):
        raise ValueError(f"{op}: labels go from {labels.min()} to {labels.max()}, but unary has {L} (from 0)")
    return labels.astype(np.int32)


@kernel
def expansion_capacities(terminal, residual, y, unary, edges, weights, pairwise, arc, sister, new, N, E):
    """The cut whose sink's side takes the label `new`; nodes that have it already must not gain by it. One thread."""
    for i in range(N):
        terminal[i] = unary[i, new] - unary[i, y[i]]  # the price of the sink's side is paid from the source
    for e in range(E):
        i, j, w = edges[e, 0], edges[e, 1], weights[e]
        stay, take_j = w * pairwise[y[i], y[j]], w * pairwise[y[i], new]
        take_i, take_both = w * pairwise[new, y[j]], w * pairwise[new, new]
        terminal[i] += take_i - stay
        terminal[j] += take_both - take_i
        residual[arc[e]] = max(take_j + take_i - stay - take_both, 0.0)
        residual[sister[arc[e]]] = 0.0
