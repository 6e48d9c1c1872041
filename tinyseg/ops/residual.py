"""The end of a residual block in one pass: batch norm, the shortcut added, ReLU.

    y[m,c] = x[m,c] * scale[c] + shift[c] + z[m,c],  and with relu max(y, 0)

x is what the block's last convolution gives, z the shortcut; scale and shift are batch norm's (`batch_norm.py`). One by
one the three read and write eight arrays, together three. Backward keeps x and y, which the next block keeps anyway:
dz = dy where y > 0, and the kernel that sums dz and dz (x - mean) for batch norm writes it down on the way.
"""

from numba import prange

from ..kernel import kernel
from ..tensor import Function, Tensor
from .activation import relu, relu_backward_flat
from .arithmetic import add
from .batch_norm import AHEAD, BatchNorm, batch_norm
from .checks import wide
from .prefetch import prefetch
from .statistics import RUN, Runs


def batch_norm_add_relu(x, z, running_mean, running_var, weight, bias, training, momentum=0.1, eps=1e-5) -> Tensor:
    """relu(batch_norm(x, running_mean, ...) + z) in one pass over memory: the end of a residual block, z its shortcut.

    He et al. 2016.

    Shapes: x and z (..., C) float -> the same; the others as in `batch_norm`.
    Raises: see `batch_norm` and `add`.

    Example:
        y = ts.ops.batch_norm_add_relu(x, shortcut, mean, var, weight, bias, training=True)
    """
    return normalised(x, z, None, running_mean, running_var, weight, bias, training, momentum, eps)


def normalised(x, z, runs: Runs | None, running_mean, running_var, weight, bias, training, momentum, eps) -> Tensor:
    """The same where the statistics of x may be known already."""
    if not _alike(x, z):  # one by one: they broadcast and widen, or say what does not fit
        return relu(add(batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps), z))
    function = BatchNormAddRelu("batch_norm_add_relu", running_mean, running_var, training, momentum, eps, True, runs)
    return function(x, 1.0 if weight is None else weight, 0.0 if bias is None else bias, z)


def add_relu(a, b) -> Tensor:
    """relu(a + b) in one pass over memory. Shapes and errors: see `add`."""
    return AddRelu()(a, b) if _alike(a, b) else relu(add(a, b))


def _alike(a, b) -> bool:
    """Whether they are tensors or arrays of floats of one shape and dtype."""
    kinds = [(t.shape, t.dtype) for t in (a, b) if hasattr(t, "dtype")]
    return len(kinds) == 2 and kinds[0] == kinds[1] and kinds[0][1].kind == "f"


class BatchNormAddRelu(BatchNorm):
    """y = max(x * scale + shift + z, 0);  dz = dy where y > 0, and x's gradient is batch norm's for dz"""

    def forward(self, x, weight, bias, z):
        x = self.prepared(x, weight, bias)
        _, scale, shift = self.mean_scale_shift
        y = self.device.empty(x.shape, x.dtype)
        rows = self.rows.shape
        self.device.launch(normalise_add_relu, y.reshape(rows), self.rows, z.reshape(rows), scale, shift, *rows)
        self.y = y if any(self.needs) else None
        return y

    def backward(self, dy):
        x, (mean, *_) = self.rows, self.mean_scale_shift
        dz = self.device.empty(dy.shape, dy.dtype)
        sums = self.device.empty((2, -(-len(x) // RUN), x.shape[1]), wide(x.dtype))
        rows = dz.reshape(x.shape)
        y, self.y = self.y.reshape(x.shape), None
        self.device.launch(
            clipped_gradient_sums, rows, sums[0], sums[1], dy.reshape(x.shape), y, x, mean, *x.shape, RUN
        )
        dx, dweight, dbias = self.gradients(rows, sums, self._table(0.0, 1.0))
        return None if dx is None else dx.reshape(dy.shape), dweight, dbias, dz if self.needs[3] else None


class AddRelu(Function):
    """y = max(a + b, 0);  da = db = dy where y > 0"""

    takes_half = "alone"

    def forward(self, a, b):
        y = self.device.empty(a.shape, a.dtype)
        self.device.launch(add_relu_flat, y.reshape(-1), a.reshape(-1), b.reshape(-1), y.size)
        self.y = y if any(self.needs) else None
        return y

    def backward(self, dy):
        dx = self.device.empty(dy.shape, dy.dtype)
        self.device.launch(relu_backward_flat, dx.reshape(-1), dy.reshape(-1), self.y.reshape(-1), dx.size)
        return dx, dx


@kernel
def normalise_add_relu(y, x, z, scale, shift, M, C):
    """y = max(x * scale + shift + z, 0), nan stays nan. Parallel over rows."""
    zero = x.dtype.type(0)
    for m in prange(M):
        for c in range(C):
            v = x[m, c] * scale[c] + shift[c] + z[m, c]
            y[m, c] = zero if v < zero else v


@kernel
def clipped_gradient_sums(dz, sum_dz, sum_dzx, dy, y, x, mean, M, C, run):
    """dz = dy where y > 0, else 0; of each run of rows the sums of dz and dz (x - mean). Parallel over runs."""
    zero = x.dtype.type(0)
    for i in prange((M + run - 1) // run):
        for c in range(C):
            sum_dz[i, c], sum_dzx[i, c] = zero, zero
        for m in range(i * run, min(i * run + run, M)):
            prefetch(dy, (m + AHEAD) * C, C)
            prefetch(y, (m + AHEAD) * C, C)
            prefetch(x, (m + AHEAD) * C, C)
            for c in range(C):
                g = dy[m, c]  # loaded before it is chosen: only so does the choice become a vector instruction
                g = g if y[m, c] > zero else zero
                dz[m, c] = g
                sum_dz[i, c] += g
                sum_dzx[i, c] += g * (x[m, c] - mean[c])


@kernel
def add_relu_flat(y, a, b, n):
    """y[i] = max(a[i] + b[i], 0), nan stays nan. Parallel over i, in one run for each thread."""
    zero = a.dtype.type(0)
    for i in prange(n):
        v = a[i] + b[i]
        y[i] = zero if v < zero else v
