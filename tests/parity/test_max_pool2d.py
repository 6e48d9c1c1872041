"""max_pool2d and max_unpool2d against PyTorch, over drawn geometry, with ties."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops import max_pool2d, max_unpool2d

from ..strategies import float_dtypes, pool_geometries, seeds
from .agree import assert_agree, first, last, torch


def few_values(shape, seed, dtype):
    """Small integers: windows are full of ties."""
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(dtype)


@given(pool_geometries(), st.tuples(st.integers(1, 2), st.integers(1, 2)), float_dtypes, seeds)
def test_max_pool2d(g, dilation, dtype, seed):
    span = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(dilation, g.kernel_size, g.padding)]
    assume(g.n and span[0] <= g.h and span[1] <= g.w and (dilation == (1, 1) or g.padding == (0, 0)))
    options = dict(dilation=dilation, **g.options)
    theirs = torch.nn.functional.max_pool2d
    x = few_values(g.x_shape, seed, dtype)
    assert_agree(lambda x: max_pool2d(x, **options), lambda x: last(theirs(first(x), **options)), x)
    at = max_pool2d(ts.tensor(x), return_indices=True, **options)[1]
    expected = theirs(first(torch.tensor(x)), return_indices=True, **options)[1]
    np.testing.assert_array_equal(at.numpy(), last(expected).numpy())


@given(pool_geometries(max_side=7), float_dtypes, seeds)
def test_max_unpool2d(g, dtype, seed):
    assume(g.n)
    x = few_values(g.x_shape, seed, dtype)
    y, at = max_pool2d(ts.tensor(x), return_indices=True, **g.options)
    where = first(torch.tensor(at.numpy().astype(np.int64)))

    def theirs(y):
        z = torch.zeros(g.n, g.c, g.h * g.w, dtype=y.dtype)
        z = z.scatter(2, where.flatten(2), first(y).flatten(2))  # what max_unpool2d is, for any output size
        return last(z.unflatten(2, (g.h, g.w)))

    assert_agree(lambda y: max_unpool2d(y, at, (g.h, g.w)), theirs, y.numpy())
