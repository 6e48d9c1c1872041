"""Gaussian filtering of values that lie at any points of a space: the permutohedral lattice.

    y_n = sum_m exp(-|f_n - f_m|^2 / 2) x_m       approximated by       y = alpha S' B_d ... B_1 B_0 S x

Adams, Baek & Davis 2010. Space is cut into simplices whose vertices form a lattice. S (splat) spreads each value over
the d + 1 vertices of its simplex, with barycentric weights; B_j (blur) is [1/2 1 1/2] along the axis j of the lattice;
S' (slice) reads the result back with the same weights; alpha = 1 / (1 + 2^-d). Only vertices that points touch exist;
the value of the others is 0. The cost is that of the vertices, however wide the Gaussian. The result is not exact: it
is smoother than the Gaussian, and differs by some per cent (see `gaussian.py` for the sum itself).

A lattice point has d + 1 integer coordinates of sum 0, all with one remainder r modulo d + 1: (d + 1) m_i + r. Its key
is one integer, r + (d + 1) sum_i m_i stride_i over the first d of them. So a neighbour's key is a fixed step away.
Letters: n point, d features, j vertex of a simplex or axis (d + 1), v lattice vertex, k channel; N, M points, vertices.
"""

import math

import numpy as np
from numba import prange

from ..device import get_device
from ..kernel import device_function, kernel
from ..ops.rows import weighted_rows
from ..tensor import Function, Tensor
from .gaussian import check_dtype, filter_features, float_dtype

MOST_FEATURES = 15
BLOCK = 1024  # points that share a workspace
EMPTY = -1  # the key of a free place in the hash table
FIRST_TABLE = 1 / 4  # its size before it grows, as a share of the entries
LONGEST = 256  # places that a search in it looks at


def lattice_filter(x, lattice: "Lattice") -> Tensor:
    """y_n = sum_m exp(-|f_n - f_m|^2 / 2) x_m, by the lattice of the features f. Differentiable.

    Adams, Baek & Davis 2010; Krahenbuhl & Koltun 2011. The gradient is the exact transpose of what forward computes.
    Shapes: x (N,K), or (..,K) with as many leading elements as the lattice has points, float on its device -> the same.
    Raises ValueError: another number of points; TypeError: a dtype or a device other than the lattice's.
    Example:
        lattice = ts.structured.Lattice(bilateral_features(image, 80, 13))
        y = ts.structured.lattice_filter(probabilities, lattice)
    """
    return LatticeFilter(lattice)(x)


class LatticeFilter(Function):
    """y = alpha S' B_d ... B_0 S x;  dx = alpha S' B_0 ... B_d S dy"""

    def __init__(self, lattice):
        self.lattice = lattice

    def forward(self, x):
        lattice = self.lattice
        if x.ndim < 1 or math.prod(x.shape[:-1]) != lattice.points:
            raise ValueError(f"lattice_filter: x has shape {x.shape}, but the lattice has {lattice.points} points")
        check_dtype("lattice_filter", lattice, x)
        if self.device != lattice.device:
            names = f"{self.device.name!r}, the lattice on {lattice.device.name!r}"
            raise TypeError(f"lattice_filter: x is on {names}; cure: Lattice(features, device=)")
        return lattice.apply(x.reshape(lattice.points, -1)).reshape(x.shape)

    def backward(self, dy):
        return self.lattice.apply(dy.reshape(self.lattice.points, -1), transposed=True).reshape(dy.shape)


class Lattice:
    """The lattice of N points in the space of their features. Building it costs about as much as two filterings.

    vertex (N,d+1) int32 and weight (N,d+1): where a point's value goes, and how much of it. The same by vertices: those
    of v are entries start[v] ... start[v + 1], each a point and a weight, in the order of the points. neighbours
    (d+1,M,2): the vertices beside v along each axis; M, a row of zeros, where there is none.

    Shapes: features (N,d) float, 1 <= d <= 15, in units of their standard deviations.
    Raises ValueError: shapes; nan or inf; features so far apart that keys of 63 bits cannot tell cells from each other.
    """

    def __init__(self, features: np.ndarray, dtype=np.float32, device="cpu"):
        self.device, self.dtype = get_device(device), float_dtype("Lattice", dtype)
        features = filter_features("Lattice", features, MOST_FEATURES)
        self.points, self.axes = features.shape[0], features.shape[1] + 1
        if self.points * self.axes >= 1 << 30:
            raise ValueError(
                f"Lattice: {self.points} points of {features.shape[1]} features are more than 2^30 entries"
            )
        self.alpha = 1 / (1 + 2.0 ** -features.shape[1])
        self._build(features)

    def _build(self, features):
        (N, d), device, xp = features.shape, self.device, self.device.xp
        E = N * (d + 1)
        scale = math.sqrt(2 / 3) * (d + 1) / np.sqrt(np.arange(1, d + 1) * np.arange(2, d + 2))
        low, stride = key_space(features, scale)
        key, self.weight = device.empty((N, d + 1), np.int64), device.empty(N * (d + 1), self.dtype)
        tables = [device.array(a) for a in (features, scale, low, stride)]
        device.launch(embed, key, self.weight, *tables, N, d)

        # The vertices, numbered in the order in which the points first touch them.
        slot, filled = device.empty(E, np.int32), device.zeros(2, np.int32)
        bits = max(4, int(E * FIRST_TABLE).bit_length())
        while True:
            table_key, table_first = device.empty(1 << bits, np.int64), device.empty(1 << bits, np.int32)
            table_key.fill(EMPTY)
            table_first.fill(np.iinfo(np.int32).max)
            device.launch(insert, slot, table_key, table_first, filled, key, N, d + 1, bits)
            places, failed = device.numpy(filled).tolist()
            if not failed and 2 * places <= 1 << bits:  # half of it stays empty: `find` relies on some
                break
            filled.fill(0)
            bits += 2
        number, self.vertex = device.empty(E, np.int32), device.empty(E, np.int32)
        device.launch(mark_first, number, slot, table_first, E)
        number = xp.cumsum(number, dtype=np.int32)
        self.vertices = M = int(device.numpy(number[-1:])[0]) if E else 0
        vertex_key = device.empty(M, np.int64)
        device.launch(name_vertices, self.vertex, vertex_key, number, slot, table_first, key, E)

        self.neighbours = device.empty((d + 1, M, 2), np.int32)
        device.launch(
            find_neighbours, self.neighbours, vertex_key, table_key, table_first, number, tables[3], M, d, bits
        )

        self.start, self.entry = device.zeros(M + 1, np.int32), device.empty(E, np.int32)
        self.entry_weight = device.empty(E, self.dtype)
        if device.has(sort_entries):
            lists = self.start, self.entry, self.entry_weight, self.vertex, self.weight
            device.launch(sort_entries, *lists, self.alpha, N, d + 1, M)
        else:
            order = xp.argsort(self.vertex, kind="stable")
            self.start[1:] = xp.cumsum(xp.bincount(self.vertex, minlength=M))
            self.entry[:] = order // (d + 1)
            self.entry_weight[:] = self.weight[order] * self.dtype.type(self.alpha)

    def apply(self, x, transposed: bool = False):
        """alpha S' B_d ... B_0 S x for an array (N,K) of the lattice's dtype and device; transposed: B_0 ... B_d."""
        check_dtype("Lattice", self, x)
        K = x.shape[1]
        values = splat_and_blur(self, x, transposed)
        y = self.device.empty((self.points, K), self.dtype)
        self.device.launch(slice_values, y, values, self.vertex, self.weight, self.points, self.axes, K)
        return y


def splat_and_blur(lattice, x, transposed=False):
    """The values of the vertices (M+1,K), the last row 0, after splatting (N,K) and blurring along every axis."""
    device, M, K = lattice.device, lattice.vertices, x.shape[1]
    values, blurred = device.empty((M + 1, K), lattice.dtype), device.empty((M + 1, K), lattice.dtype)
    blurred[M] = 0
    device.launch(splat, values, x, lattice.start, lattice.entry, lattice.entry_weight, M, K)
    for axis in range(lattice.axes)[:: -1 if transposed else 1]:
        device.launch(blur, blurred, values, lattice.neighbours, axis, M, K)
        values, blurred = blurred, values
    return values


def key_space(features, scale) -> tuple[np.ndarray, np.ndarray]:
    """(low, stride), int64 (d,): m_i - low_i >= 0 in all cells near points; the radix of keys.

    Bounds of the coordinates y_i = sum_{j >= i} s_j f_j - i s_{i-1} f_{i-1} follow from bounds of the features.
    """
    N, d = features.shape
    columns = [features[:, i] for i in range(d)]  # one by one: much faster than along axis 0
    least = np.array([c.min(initial=np.inf) if N else 0 for c in columns]) * scale
    most = np.array([c.max(initial=-np.inf) if N else 0 for c in columns]) * scale
    low, extent = np.zeros(d, np.int64), []
    for i in range(d):
        bottom, top = least[i:].sum(), most[i:].sum()
        if i:
            bottom, top = bottom - i * most[i - 1], top - i * least[i - 1]
        if not max(-bottom, top) < 2.0**50:  # beyond, float64 does not tell cells apart
            extent.append(1 << 63)
            continue
        low[i] = math.floor(bottom / (d + 1)) - 3
        extent.append(math.ceil(top / (d + 1)) + 3 - int(low[i]) + 1)
    if math.prod(extent) * (d + 1) >= 1 << 63:
        raise ValueError(
            f"Lattice: the {d} features span more cells than keys of 63 bits can count; cure: features in units of "
            "their standard deviations, or fewer of them"
        )
    return low, np.array([math.prod(extent[:i]) for i in range(d)], np.int64)


@kernel
def embed(key, weight, features, scale, low, stride, N, d):
    """The d + 1 vertices of each point's simplex and its barycentric weights there. Parallel over blocks of points.

    The point is lifted to the plane of sum 0 (y = E f, Adams p. 5). The nearest point of remainder 0 and the order of
    the differences to it name the simplex (Conway & Sloane); the gaps between the sorted ones are the weights (p. 10).
    """
    for block in prange((N + BLOCK - 1) // BLOCK):
        y, ordered = np.empty(d + 1), np.empty(d + 1)
        rank, step = np.empty(d + 1, np.int64), np.empty(d + 1, np.int64)
        for n in range(block * BLOCK, min(block * BLOCK + BLOCK, N)):
            above, excess, place, part = 0.0, 0, 0, 1 / (d + 1)
            for i in range(d, 0, -1):
                lifted = features[n, i - 1] * scale[i - 1]
                y[i] = (above - i * lifted) * part
                above += lifted
            y[0] = above * part
            for i in range(d + 1):
                cell = int(math.floor(y[i] + 0.5))
                excess += cell
                y[i] -= cell
                rank[i] = 0
                if i < d:
                    place += (cell - low[i]) * stride[i]
            for i in range(d):
                for j in range(i + 1, d + 1):
                    less = int(y[i] < y[j])  # added, not branched on: it is as random as a coin
                    rank[i] += less
                    rank[j] += 1 - less
            for i in range(d + 1):
                r, own = rank[i] + excess, stride[i] if i < d else 0
                wrong = int(r < 0) - int(r > d)  # rounding may leave the plane: the extreme ones go back
                r += wrong * (d + 1)
                place += wrong * own
                ordered[r], step[r] = y[i] - wrong, own
            for j in range(d + 1):
                key[n, j] = place * (d + 1) + j
                place -= step[d - j]
                weight[n * (d + 1) + j] = ordered[d - j] - ordered[d - j + 1] if j else 1 + ordered[d] - ordered[0]


@device_function
def hash_of(key, bits):
    """A place in a table of 2^bits: the bits stirred as in SplitMix64, then the highest of them."""
    h = np.uint64(key)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(h >> np.uint64(64 - bits))


@kernel
def insert(slot, table_key, table_first, filled, key, N, J, bits):
    """slot[e]: the place of key e in an open-addressed table of 2^bits; table_first: the first entry that has this key.

    filled[0] counts the places taken; filled[1] becomes 1 where a search takes too long: the table is too small. One
    thread; in CUDA one thread an entry, with integer atomics: places depend on their order, table_first does not.
    """
    for n in range(N):
        for j in range(J):
            e, wanted = n * J + j, key[n, j]
            if n > 0 and key[n - 1, j] == wanted:  # neighbours often share a simplex
                slot[e] = slot[e - J]
                continue
            at, steps = hash_of(wanted, bits), 0
            while table_key[at] != wanted and table_key[at] != EMPTY and steps < LONGEST:
                at = (at + 1) & ((1 << bits) - 1)
                steps += 1
            if steps == LONGEST:
                filled[1] = 1
                return
            if table_key[at] == EMPTY:
                table_key[at] = wanted
                filled[0] += 1
                table_first[at] = e
            slot[e] = at


@kernel
def mark_first(mark, slot, table_first, E):
    """mark[e]: 1 where e is the first entry of its vertex, else 0. Parallel over entries."""
    for e in prange(E):
        mark[e] = table_first[slot[e]] == e


@kernel
def name_vertices(vertex, vertex_key, number, slot, table_first, key, E):
    """vertex[e], counted from 0 where `number` counts first entries from 1; the key of each. Parallel over entries."""
    keys = key.reshape(E)
    for e in prange(E):
        first = table_first[slot[e]]
        v = number[first] - 1
        vertex[e] = v
        if first == e:
            vertex_key[v] = keys[e]


@device_function
def find(wanted, table_key, table_first, number, M, bits):
    """The number of the vertex of a key; M where it does not exist."""
    at = hash_of(wanted, bits)
    while table_key[at] != EMPTY:
        if table_key[at] == wanted:
            return number[table_first[at]] - 1
        at = (at + 1) & ((1 << bits) - 1)
    return M


@kernel
def find_neighbours(neighbours, vertex_key, table_key, table_first, number, stride, M, d, bits):
    """The vertices one step up and down along each axis, M where there is none. Parallel over vertices.

    A step up along axis j adds d to coordinate j and takes 1 from the others. With remainder r > 0 that is r - 1 and
    m_j + 1; from r = 0 it is r = d and m_i - 1 for all others. A step down is the reverse.
    """
    for v in prange(M):
        key, r = vertex_key[v], vertex_key[v] % (d + 1)
        every = 0
        for i in range(d):
            every += stride[i]
        for j in range(d + 1):
            own = stride[j] if j < d else 0
            up = own * (d + 1) - 1 if r > 0 else (own - every) * (d + 1) + d
            down = -own * (d + 1) + 1 if r < d else (every - own) * (d + 1) - d
            neighbours[j, v, 0] = find(key + up, table_key, table_first, number, M, bits)
            neighbours[j, v, 1] = find(key + down, table_key, table_first, number, M, bits)


@kernel
def sort_entries(start, entry, entry_weight, vertex, weight, alpha, N, J, M):
    """The entries by vertex: those of v are start[v] ... start[v + 1], in their order. One thread: a counting sort."""
    for e in range(N * J):
        start[vertex[e]] += 1
    total = 0
    for v in range(M + 1):
        total += start[v]
        start[v] = total
    for n in range(N - 1, -1, -1):
        for j in range(J - 1, -1, -1):
            v = vertex[n * J + j]
            start[v] -= 1
            at = start[v]
            entry[at] = n
            entry_weight[at] = alpha * weight[n * J + j]


@kernel
def splat(values, x, start, entry, weight, M, K):
    """values[v] = sum of weight x[point] over the entries of v; values[M] = 0. Parallel over vertices."""
    for v in prange(M + 1):
        if v < M:
            weighted_rows(values, values, v, x, entry, weight, start[v], start[v + 1], K, False)
        else:
            for k in range(K):
                values[v, k] = 0


@kernel
def blur(out, values, neighbours, axis, M, K):
    """out[v] = values[v] + (values[up] + values[down]) / 2 along an axis. Parallel over vertices."""
    for v in prange(M):
        y, x = out[v], values[v]
        up, down = values[neighbours[axis, v, 0]], values[neighbours[axis, v, 1]]
        half = values.dtype.type(0.5)
        for k in range(K):
            y[k] = x[k] + half * (up[k] + down[k])


@kernel
def slice_values(y, values, vertex, weight, N, J, K):
    """y[n] = sum_j weight[n J + j] values[vertex[n J + j]]. Parallel over points."""
    for n in prange(N):
        weighted_rows(y, y, n, values, vertex, weight, n * J, n * J + J, K, False)
