"""Updates of all parameters in one launch, for devices on which a launch costs more than a small update.

A network has hundreds of parameters, most of them a few numbers long. Here all their arrays are named by their
addresses: `addresses` (rows, tensors) has a row of all w, one of all g, one for each array of the optimiser; `sizes`
their lengths; `numbers` (tensors, how many) what each update needs; `chunks` (blocks, 2) cuts them into pieces of CHUNK
elements, a block of threads each: (tensor, which piece). All are float32. The equations are those of `optimizer.py`.
"""

import numpy as np

from ..kernel import cuda_kernel

CHUNK = 4096  # elements


@cuda_kernel
def sgd_all(addresses, sizes, numbers, chunks, tensors, blocks):
    """Rows w, g, v (0: no momentum); numbers factor of g, lr, momentum, weight_decay, nesterov."""


@cuda_kernel
def adam_all(addresses, sizes, numbers, chunks, tensors, blocks):
    """Rows w, g, m, v; numbers factor of g, then those of `adam_update` in its order."""


@cuda_kernel
def squares_all(partial, addresses, sizes, chunks, tensors, blocks):
    """Row g; partial[j] = the sum of squares of piece j, in float64."""


class Tables:
    """What the kernels need beside the addresses, for arrays of certain sizes; made once."""

    def __init__(self, device, sizes: tuple[int, ...]):
        pieces = [(i, j) for i, size in enumerate(sizes) for j in range(-(-size // CHUNK))]
        self.device, self.tensors, self.blocks = device, len(sizes), len(pieces)
        self.sizes = device.array(np.array(sizes, np.int64))
        self.chunks = device.array(np.array(pieces, np.int32).reshape(-1, 2))

    def update(self, kernel, rows, numbers) -> None:
        """Launch `sgd_all` or `adam_all` on rows of arrays (None: no such array)."""
        numbers = self.device.array(np.array(numbers, np.float32))
        self.device.launch(kernel, self._addresses(rows), self.sizes, numbers, self.chunks, self.tensors, self.blocks)

    def squares(self, partial, arrays) -> None:
        """The sum of squares of each piece of each array, in float64."""
        addresses = self._addresses([arrays])
        self.device.launch(squares_all, partial, addresses, self.sizes, self.chunks, self.tensors, self.blocks)

    def _addresses(self, rows):
        table = [[0 if a is None else self.device.address(a) for a in row] for row in rows]
        return self.device.array(np.array(table, np.int64))
