"""A GPU that computes nothing: what would be launched on it, with shapes and types alone, at any size in no time."""

import numpy as np

import tinyseg as ts
from tinyseg.cuda.source import plan_of, twin_of
from tinyseg.dryrun import DryRun, Ghost


class Shapes(DryRun):
    """Its kernels are those of `cuda`; each launch is planned, its numbers converted and its grid computed.

    `plans` are those of all launches. Like a GPU it refuses to make an array of one that is there, and to be read while
    it captures.
    """

    name = "shapes"
    half = True
    threads = 256
    capturing = False

    def __init__(self):
        super().__init__()
        self.plans = set()

    def array(self, host, dtype=None):
        if isinstance(host, Ghost):
            raise TypeError("Implicit conversion to a NumPy array is not allowed.")
        return super().array(host, dtype)

    def numpy(self, array):
        if self.capturing:
            raise RuntimeError("graph: a value is read on the host")
        return super().numpy(array)

    def address(self, array):
        return id(array)

    def shares(self, columns):
        return max(self.threads, (1 << 18) // max(columns, 1))

    def has(self, kernel):
        return twin_of(kernel) is not None

    def captured(self, run):
        self.capturing = True
        run()
        self.capturing = False
        return run

    def launch(self, kernel, *args):
        plan = plan_of(kernel, args)
        plan.converted(args)
        grid, shared = plan.twin.shape(*args)
        sizes = (*(grid if isinstance(grid, tuple) else (grid,)), 1, 1)[:3]
        looped = plan.twin.loop  # the launcher chooses, and the loop goes round
        assert looped or (0 <= sizes[0] < 2**31 and 0 <= max(sizes[1:]) < 2**16 and shared <= 99 << 10), (plan, sizes)
        self.plans.add(plan)


def units(plans) -> set:
    """(file, kernel with its types) of plans."""
    return {(p.twin.path, p.twin.expression(p.types)) for p in plans}


def zeros(device, *shape, grad=False):
    """A tensor of shapes alone, which takes no memory on the host either."""
    return ts.tensor(np.broadcast_to(np.float32(0), shape), device, grad)
