"""The largest flow from a source to a sink, and the smallest cut that proves it, over any graph.

    maximise the flow s -> t   subject to   0 <= flow(a) <= capacity(a) on each arc a, and nothing lost in a node
  = minimise over sides S, T of nodes  sum_{i in T} source_i + sum_{i in S} sink_i + sum_{i in S, j in T} capacity_ij

Boykov & Kolmogorov 2004: a tree of nodes that the source can still reach and one of those that still reach the sink
grow until they touch; the path found is filled, its full arcs cut branches off, and these orphans look for another
parent before the growth goes on. The trees are kept between paths, which makes it quick on the graphs of images. Among
possible parents the one nearest to the terminal is taken, with distances cached between two times (their section 3).
Letters: i, j node; a arc; N nodes, E edges (two arcs each). Everything runs on the CPU, one thread, in float64.
"""

import numpy as np

from ..device import get_device
from ..kernel import device_function, kernel

NONE, TERMINAL, ORPHAN = -1, -2, -3  # in place of the arc to a parent
FREE, SOURCE, SINK = 0, 1, 2  # the tree of a node
PARENT, STAMP, DISTANCE, TREE = 0, 1, 2, 3  # the columns of `node`
FAR = 1 << 30
U = np.uint32  # as an index of an array it needs no look at its sign


def max_flow(
    source: np.ndarray,
    sink: np.ndarray,
    edges: np.ndarray,
    capacity: np.ndarray,
    reverse_capacity: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """The largest flow, and which nodes lie on the sink's side of a smallest cut: those that can still reach it.

    source, sink: capacities source -> i and i -> sink. edges: pairs of nodes (i,j); capacity: i -> j, reverse_capacity:
    j -> i (0 if left out). Capacities may be infinite. Boykov & Kolmogorov 2004.
    Shapes: source, sink any (N,) or (H,W), nodes counted in reading order; edges (E,2) integers; capacities (E,) or a
        number -> flow (an int where all capacities are integers), bool like source.
    Raises ValueError: shapes; a node that does not exist; capacities negative or nan; a flow without limit.
    Example:
        flow, on_sink_side = max_flow(source, sink, grid_edges(height, width), 1.0, 1.0)
    """
    source, sink = np.asarray(source), np.asarray(sink)
    if source.shape != sink.shape:
        raise ValueError(f"max_flow: source has shape {source.shape}, sink {sink.shape}; expected the same")
    edges = edge_list("max_flow", edges, source.size)
    reverse = np.zeros((), np.int64) if reverse_capacity is None else np.asarray(reverse_capacity)
    capacity, given = np.asarray(capacity), {"source": source, "sink": sink}
    for name, values in (("capacity", capacity), ("reverse_capacity", reverse)):
        if values.shape not in ((), (len(edges),)):
            raise ValueError(f"max_flow: {name} has shape {values.shape}, expected ({len(edges)},), one for each edge")
        given[name] = values
    for name, values in given.items():
        _check_capacities(name, values)
    both = (source == np.inf) & (sink == np.inf)
    if both.any():
        raise ValueError(f"max_flow: node {int(np.argmax(both))} is tied to source and sink by infinite capacities")
    whole = all(values.dtype.kind in "iub" for values in given.values())
    if whole and float(source.sum()) >= 2**53:
        raise ValueError("max_flow: integer capacities sum to 2^53 or more; cure: smaller ones, or floats")

    graph = Graph(source.size, edges)
    residual = np.empty(2 * len(edges))
    residual[graph.arc] = capacity
    residual[graph.sister[graph.arc]] = reverse
    source, sink_flat = source.reshape(-1).astype(np.float64), sink.reshape(-1).astype(np.float64)
    flow, side = graph.cut(source - sink_flat, residual)
    flow += float(np.minimum(source, sink_flat).sum())
    return int(flow) if whole else flow, side.reshape(sink.shape)


def _check_capacities(name, values):
    if values.dtype.kind not in "iufb":
        raise ValueError(f"max_flow: {name} has dtype {values.dtype}, expected numbers")
    bad = ~(values >= 0)
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(f"max_flow: {name}[{at}] is {values.reshape(-1)[at]}, expected a capacity of at least 0")


def edge_list(op: str, edges, nodes: int) -> np.ndarray:
    """(E,2) int32, checked. Raises ValueError naming `op` for another shape and for nodes that do not exist."""
    edges = np.asarray(edges)
    if edges.size == 0:
        return np.zeros((0, 2), np.int32)
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        raise ValueError(f"{op}: edges are {edges.dtype} of shape {edges.shape}, expected (E,2) integers")
    if edges.min() < 0 or edges.max() >= nodes:
        raise ValueError(f"{op}: edges name nodes {edges.min()} to {edges.max()}, but there are {nodes} (from 0)")
    return np.ascontiguousarray(edges, np.int32)


def grid_edges(height: int, width: int, neighbours: int = 4) -> np.ndarray:
    """Edges between pixels, counted in reading order: to the right, down, and with 8 neighbours along both diagonals.

    Shapes: -> (E,2) int32; first all edges (y,x)-(y,x+1), then (y,x)-(y+1,x), then (y,x)-(y+1,x+1), (y,x+1)-(y+1,x).
    Raises ValueError: sides below 1; neighbours other than 4 and 8.
    """
    if neighbours not in (4, 8):
        raise ValueError(f"grid_edges: neighbours is {neighbours!r}, expected 4 or 8")
    if height < 1 or width < 1:
        raise ValueError(f"grid_edges: {height} x {width} pixels, expected at least one")
    at = np.arange(height * width, dtype=np.int32).reshape(height, width)
    pairs = [(at[:, :-1], at[:, 1:]), (at[:-1], at[1:])]
    if neighbours == 8:
        pairs += [(at[:-1, :-1], at[1:, 1:]), (at[:-1, 1:], at[1:, :-1])]
    return np.concatenate([np.stack([a.ravel(), b.ravel()], 1) for a, b in pairs])


class Graph:
    """A graph whose arcs are sorted by the node that they leave, for cuts with one capacity after another.

    Arcs first[i] ... first[i + 1] leave node i, arc a for head[a]; sister[a] is its reverse; arc[e] that of edge e.
    """

    def __init__(self, nodes: int, edges: np.ndarray):
        arcs = 2 * len(edges)
        if arcs >= FAR or nodes >= FAR:
            raise ValueError(f"max_flow: {nodes} nodes and {len(edges)} edges are more than 2^29")
        self.nodes = nodes
        self.first = np.zeros(nodes + 1, np.uint32)
        self.head, self.sister = np.empty(arcs, np.uint32), np.empty(arcs, np.uint32)
        self.arc = np.empty(len(edges), np.uint32)
        launch = get_device("cpu").launch
        launch(sort_arcs, self.first, self.head, self.sister, self.arc, edges, nodes, len(edges))

    def cut(self, terminal: np.ndarray, residual: np.ndarray) -> tuple[float, np.ndarray]:
        """The flow and the sink's side; terminal (N,) float64: source minus sink; residual (2E,) float64, used up."""
        flow, side = np.zeros(1), np.empty(self.nodes, np.bool_)
        node, links = np.empty((self.nodes, 4), np.int32), np.empty((2, self.nodes + 1), np.int32)
        tables = self.first, self.head, self.sister
        get_device("cpu").launch(boykov_kolmogorov, flow, side, residual, terminal, node, links, *tables, self.nodes)
        if not np.isfinite(flow[0]):
            raise ValueError("max_flow: the flow has no limit: infinite capacities lead from the source to the sink")
        return float(flow[0]), side


@kernel
def sort_arcs(first, head, sister, arc, edges, N, E):
    """The tables of `Graph`: arcs counted, then set down node by node in the order of the edges. One thread."""
    for e in range(E):
        first[edges[e, 0]] += 1
        first[edges[e, 1]] += 1
    total = 0
    for i in range(N):
        total += first[i]
        first[i] = total
    first[N] = total
    for e in range(E - 1, -1, -1):
        i, j = edges[e, 0], edges[e, 1]
        first[j] -= 1
        b = first[j]
        first[i] -= 1
        a = first[i]
        head[a], head[b] = j, i
        sister[a], sister[b] = b, a
        arc[e] = a


@device_function
def activate(i, queue, ends):
    """Node i to the end of the list of active nodes, unless it is in it. queue[i]: the next one; i itself: the last."""
    if queue[i] < 0:
        if ends[1] >= 0:
            queue[ends[1]] = i
        else:
            ends[0] = i
        ends[1] = i
        queue[i] = i


@device_function
def adopt(i, tree, time, residual, node, first, head, sister, queue, ends, orphans, marks):
    """A new parent for an orphan, the nearest to the terminal; without one it leaves the tree, its children orphans."""
    best, shortest = NONE, FAR
    for a0 in range(first[i], first[i + 1]):
        j = head[a0]
        if node[j, TREE] != tree or node[j, PARENT] == NONE:
            continue
        if residual[sister[a0] if tree == SOURCE else a0] <= 0:
            continue
        d = 0  # whether j hangs on the terminal, and how far from it
        while True:
            if node[j, STAMP] == time:
                d += node[j, DISTANCE]
                break
            up = node[j, PARENT]
            d += 1
            if up == TERMINAL:
                node[j, STAMP], node[j, DISTANCE] = time, 1
                break
            if up == ORPHAN:
                d = FAR
                break
            j = head[U(up)]
        if d < FAR:
            if d < shortest:
                best, shortest = a0, d
            j = head[a0]
            while node[j, STAMP] != time:
                node[j, STAMP], node[j, DISTANCE] = time, d
                d -= 1
                j = head[U(node[j, PARENT])]
    node[i, PARENT] = best
    if best != NONE:
        node[i, STAMP], node[i, DISTANCE] = time, shortest + 1
        return
    node[i, TREE] = FREE
    for a0 in range(first[i], first[i + 1]):
        j = head[a0]
        if node[j, TREE] == tree and node[j, PARENT] != NONE:
            if residual[sister[a0] if tree == SOURCE else a0] > 0:
                activate(j, queue, ends)
            up = node[j, PARENT]
            if up >= 0 and head[U(up)] == i:
                node[j, PARENT] = ORPHAN
                orphans[marks[1]] = j
                marks[1] = marks[1] + 1 if marks[1] + 1 < len(orphans) else 0


@device_function
def push(middle, residual, terminal, node, head, sister, orphans, marks):
    """Fill the path through the arc `middle` from one tree to the other; who hung on an arc now full is an orphan."""
    most = residual[middle]
    i = head[sister[middle]]
    while node[i, PARENT] != TERMINAL:
        up = U(node[i, PARENT])
        most = min(most, residual[sister[up]])
        i = head[up]
    most = min(most, terminal[i])
    i = head[middle]
    while node[i, PARENT] != TERMINAL:
        up = U(node[i, PARENT])
        most = min(most, residual[up])
        i = head[up]
    most = min(most, -terminal[i])
    if most == np.inf:
        return most

    residual[middle] -= most
    residual[sister[middle]] += most
    marks[0], marks[1] = 0, 0
    for tree in (SOURCE, SINK):
        i = head[sister[middle]] if tree == SOURCE else head[middle]
        while True:
            up = node[i, PARENT]
            if up == TERMINAL:
                terminal[i] += -most if tree == SOURCE else most
                full = terminal[i] == 0
            else:
                down = sister[U(up)] if tree == SOURCE else U(up)  # the way of the flow
                residual[down] -= most
                residual[sister[down]] += most
                full = residual[down] <= 0
            if full:
                node[i, PARENT] = ORPHAN
                orphans[marks[1]] = i
                marks[1] += 1
            if up == TERMINAL:
                break
            i = head[U(up)]
    return most


@kernel
def boykov_kolmogorov(flow, side, residual, terminal, node, links, first, head, sister, N):
    """flow[0]: what goes from source to sink; side: which nodes the sink's tree holds at the end. One thread.

    residual (2E,) and terminal (N,), positive from the source and negative to the sink, hold what is left. node (N,4)
    and links (2,N+1) are workspace: the trees, and the lists of active nodes and, in a ring, of orphans.
    """
    queue, orphans = links[0], links[1]
    ends, marks = np.full(2, -1), np.zeros(2, np.int64)
    for i in range(N):
        queue[i] = -1
        node[i, PARENT], node[i, STAMP], node[i, DISTANCE], node[i, TREE] = NONE, 0, 0, FREE
        if terminal[i] != 0:
            node[i, TREE] = SOURCE if terminal[i] > 0 else SINK
            node[i, PARENT], node[i, DISTANCE] = TERMINAL, 1
            activate(i, queue, ends)
    total, time, p, found = 0.0, 0, U(0), False
    while True:
        if not found:  # the next active node that still belongs to a tree
            while ends[0] >= 0:
                i = U(ends[0])
                ends[0] = queue[i] if queue[i] != i else -1
                if ends[0] < 0:
                    ends[1] = -1
                queue[i] = -1
                if node[i, TREE] != FREE:
                    p, found = i, True
                    break
            if not found:
                break
        tree, middle, met = node[p, TREE], U(0), False
        stamp, distance = node[p, STAMP], node[p, DISTANCE]
        for a in range(first[p], first[p + 1]):
            q = head[a]
            own = node[q, TREE] == tree
            if own and (node[q, STAMP] > stamp or node[q, DISTANCE] <= distance):
                continue
            if (residual[a] if tree == SOURCE else residual[sister[a]]) <= 0:
                continue
            if not own and node[q, TREE] != FREE:
                middle, met = U(a) if tree == SOURCE else sister[a], True
                break
            node[q, TREE], node[q, PARENT] = tree, sister[a]  # new, or now on a shorter way to the terminal
            node[q, STAMP], node[q, DISTANCE] = stamp, distance + 1
            if not own:
                activate(q, queue, ends)
        if not met:
            found = False
            continue
        time += 1
        most = push(middle, residual, terminal, node, head, sister, orphans, marks)
        total += most
        if most == np.inf:
            break
        while marks[0] != marks[1]:
            i = U(orphans[marks[0]])
            marks[0] = marks[0] + 1 if marks[0] + 1 < len(orphans) else 0
            adopt(i, node[i, TREE], time, residual, node, first, head, sister, queue, ends, orphans, marks)
        found = node[p, TREE] != FREE
    flow[0] = total
    for i in range(N):
        side[i] = node[i, TREE] == SINK
