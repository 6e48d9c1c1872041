"""The parts of a mask that hang together, in NumPy."""

import numpy as np


def connected_components(mask: np.ndarray) -> np.ndarray:
    """(H,W) int32: 1, 2, ... for each part of a mask that hangs together by 4 neighbours, 0 outside; in reading order.

    Runs of pixels within rows are joined with the runs they touch in the row above (union-find over runs).
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 1), np.int8)
    padded[:, :width] = mask
    steps = np.diff(padded.reshape(-1), prepend=0)  # the column of zeros keeps rows apart
    starts, stops = np.nonzero(steps == 1)[0], np.nonzero(steps == -1)[0]
    # Runs a and b of neighbouring rows touch if a, moved down one row, overlaps b.
    first = np.searchsorted(stops, starts - (width + 1), side="right")
    last = np.searchsorted(starts, stops - (width + 1), side="left")
    parent = list(range(len(starts)))

    def root(run):
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    for run, (above, end) in enumerate(zip(first.tolist(), last.tolist())):
        for other in range(above, end):
            a, b = sorted((root(run), root(other)))
            parent[b] = a
    roots = np.array([root(run) for run in range(len(parent))], np.int64)
    _, number = np.unique(roots, return_inverse=True)
    ids = np.zeros(padded.size + 1, np.int32)
    ids[starts] += (number + 1).astype(np.int32)
    ids[stops] -= (number + 1).astype(np.int32)
    return np.cumsum(ids, dtype=np.int32)[:-1].reshape(height, width + 1)[:, :width].copy()
