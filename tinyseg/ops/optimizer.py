"""One update of one parameter array, in place: the kernels behind `tinyseg.optim`.

w parameter, g its gradient; all arrays are flat and of one dtype, and so are the numbers, so that nothing is computed
in another precision. Each kernel runs over the elements, every element by itself.
"""

from math import sqrt

from numba import prange

from ..kernel import kernel


@kernel
def descend(w, g, lr, weight_decay, n):
    """w -= lr (g + weight_decay w)"""
    for i in prange(n):
        w[i] -= lr * (g[i] + weight_decay * w[i])


@kernel
def sgd_update(w, v, g, lr, momentum, weight_decay, nesterov, n):
    """v = momentum v + (g + weight_decay w);  w -= lr v,  with Nesterov  w -= lr (g + weight_decay w + momentum v)."""
    for i in prange(n):
        d = g[i] + weight_decay * w[i]
        v[i] = momentum * v[i] + d
        w[i] -= lr * (d + momentum * v[i] if nesterov else v[i])


@kernel
def adam_update(w, m, v, g, step_size, beta1, rest1, beta2, rest2, correction, eps, weight_decay, keep, n):
    """m, v: running means of d = g + weight_decay w and of d^2;  w = keep w - step_size m / (sqrt(v) correction + eps)

    rest = 1 - beta. Adam has keep = 1, AdamW has weight_decay = 0 and keep = 1 - lr decay.
    """
    for i in prange(n):
        d = g[i] + weight_decay * w[i]
        m[i] = beta1 * m[i] + rest1 * d
        v[i] = beta2 * v[i] + rest2 * d * d
        w[i] = keep * w[i] - step_size * m[i] / (sqrt(v[i]) * correction + eps)


@kernel
def sum_of_squares(partial, x, length, pieces, n):
    """partial[j] = sum of x[i]^2 over the j-th piece of `length` elements; one thread a piece, summed in float64.

    The pieces do not depend on the number of threads, nor does what their sums add up to. Four sums at a time, since
    one would wait for itself at every addition.
    """
    for j in prange(pieces):
        first, end = j * length, min((j + 1) * length, n)
        a = b = c = d = 0.0
        fours = first + (end - first) // 4 * 4
        for i in range(first, fours, 4):
            a += x[i] * x[i]
            b += x[i + 1] * x[i + 1]
            c += x[i + 2] * x[i + 2]
            d += x[i + 3] * x[i + 3]
        for i in range(fours, end):
            a += x[i] * x[i]
        partial[j] = (a + b) + (c + d)
