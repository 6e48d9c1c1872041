"""Write an operator: an equation, its Numba kernel, its backward pass; then have its gradient checked.

One step of heat flow, y = x + rate * (sum of the four neighbours - 4 x), with nothing flowing over the border. How
much of x[a] arrives in y[b] equals how much of x[b] arrives in y[a]: the matrix is symmetric, so it is its own
adjoint and backward is the same kernel.
"""

from pathlib import Path

import numpy as np
from numba import prange

import tinyseg as ts
from tinyseg.data.image import write_image
from tinyseg.kernel import kernel


@kernel
def heat_step(y, x, rate):
    """Parallel over the rows of all images; each gathers what flows into it."""
    n, h, w, c = x.shape
    for row in prange(n * h):
        i, p = row // h, row % h
        for q in range(w):
            for k in range(c):
                here, flow = x[i, p, q, k], x[i, p, q, k] * 0
                if p > 0:
                    flow += x[i, p - 1, q, k] - here
                if p < h - 1:
                    flow += x[i, p + 1, q, k] - here
                if q > 0:
                    flow += x[i, p, q - 1, k] - here
                if q < w - 1:
                    flow += x[i, p, q + 1, k] - here
                y[i, p, q, k] = here + rate * flow


class Heat(ts.Function):
    """y = x + rate * (sum of neighbours - 4 x), symmetric in x and y"""

    def __init__(self, rate):
        self.rate = rate

    def forward(self, x):
        return self.flow(x)

    def backward(self, dy):
        return self.flow(dy)

    def flow(self, x):
        y = self.device.empty(x.shape, x.dtype)
        self.device.launch(heat_step, y, x, x.dtype.type(self.rate))
        return y


if __name__ == "__main__":
    x = ts.tensor(np.random.default_rng(0).random((2, 5, 7, 3)), requires_grad=True)  # float64
    print(ts.gradcheck(lambda x: Heat(0.2)(x), x))

    image = ts.data.Shapes(size=128, seed=4)[0].image
    y = ts.tensor(image[None] / np.float32(255))
    before = y.numpy().mean()
    with ts.no_grad():
        for _ in range(60):
            y = Heat(0.2)(y)
    print(f"heat is conserved: the mean was {before:.6f} and is {y.numpy().mean():.6f}")
    Path("runs").mkdir(exist_ok=True)
    write_image("runs/04_heat.png", np.hstack([image / 255, y.numpy()[0]]))
    print("runs/04_heat.png: before | after 60 steps")
