"""exp for kernels, in a form that the compiler turns into vector instructions, and the rows of a softmax made of it.

The C library's expf is a call for each number. In float32 we take instead

    exp(x) = 2^n exp(r),   n = round(x / ln 2),   r = x - n ln 2 in [-0.347, 0.347]

with ln 2 in two parts, so that r keeps its digits (Cody & Waite 1980), and exp(r) = 1 + r + r^2 p(r), where p has the
degree 4 and the smallest greatest error. The result is within 1.5 units in the last place; it is 0 below 1.2e-38 and
infinity above 2.4e38. float64 calls the library.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

from ..kernel import device_function

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # 9 bits: n * _LN2_HIGH is exact
_LN2_LOW = np.float32(-2.12194440e-4)
_ROUND = np.float32(1.5 * 2**23)  # adding it leaves the rounded integer in the low bits of the sum
_BIAS, _MANTISSA_BITS = np.int32(127 << 23), np.int32(23)
_SMALLEST, _LARGEST = np.float32(-87.33654), np.float32(88.37)
_ZERO, _ONE, _HALF, _INFINITY = np.float32(0), np.float32(1), np.float32(0.5), np.float32(np.inf)
_P1, _P2, _P3, _P4 = (np.float32(c) for c in (0.16666531, 0.04166725, 0.00836781, 0.00138635))


def exp(x):
    """exp(x) inside a kernel, in the dtype of x."""
    raise NotImplementedError("exponential.exp is for kernels; elsewhere there is numpy.exp")


@overload(exp)
def _exp(x):
    if x != types.float32:
        return lambda x: math.exp(x)

    def in_float32(x):
        shifted = x * _LOG2_E + _ROUND
        n = shifted - _ROUND
        r = (x - n * _LN2_HIGH) - n * _LN2_LOW
        p = (((_P4 * r + _P3) * r + _P2) * r + _P1) * r + _HALF
        p = p * (r * r) + r + _ONE
        power = np.int32((np.float32(shifted).view(np.int32) << _MANTISSA_BITS) + _BIAS).view(np.float32)  # 2^n
        y = _ZERO if x < _SMALLEST else p * power
        return _INFINITY if x > _LARGEST else y

    return in_float32


@device_function
def exponentials(y, highest, x, begin, end, K):
    """For rows m in [begin, end): highest[m] = max_k x[m,k] and y[m,k] = exp(x[m,k] - highest[m]).

    The exponentials of all rows are taken in one go, so that vectors are full however few classes there are.
    """
    for m in range(begin, end):
        top = x[m, 0]
        for k in range(1, K):
            v = x[m, k]
            top = v if v > top else top
        highest[m] = top
        for k in range(K):
            y[m, k] = x[m, k] - top
    together = y[begin:end].reshape((end - begin) * K)
    for i in range(len(together)):
        together[i] = exp(together[i])


@device_function
def row_sum(y, m, K):
    """sum_k y[m,k], in four sums side by side: one alone would wait for each addition before the next."""
    a = b = c = d = y.dtype.type(0)
    whole = K // 4 * 4
    for k in range(0, whole, 4):
        a += y[m, k]
        b += y[m, k + 1]
        c += y[m, k + 2]
        d += y[m, k + 3]
    for k in range(whole, K):
        a += y[m, k]
    return (a + b) + (c + d)
