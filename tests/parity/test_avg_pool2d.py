"""avg_pool2d and adaptive_avg_pool2d against PyTorch, over drawn geometry."""

from hypothesis import assume, given
from hypothesis import strategies as st

from tinyseg.ops import adaptive_avg_pool2d, avg_pool2d

from ..strategies import float_dtypes, normal, pool_geometries, seeds
from .agree import assert_agree, first, last, torch

sides = st.integers(1, 9)


@given(pool_geometries(), st.booleans(), float_dtypes, seeds)
def test_avg_pool2d(g, count_include_pad, dtype, seed):
    assume(g.n)
    options = dict(count_include_pad=count_include_pad, **g.options)
    theirs = torch.nn.functional.avg_pool2d
    x = normal(g.x_shape, seed, dtype)
    assert_agree(lambda x: avg_pool2d(x, **options), lambda x: last(theirs(first(x), **options)), x)


@given(st.tuples(st.integers(1, 2), sides, sides, st.integers(1, 70)), sides, sides, float_dtypes, seeds)
def test_adaptive_avg_pool2d(shape, P, Q, dtype, seed):
    theirs = torch.nn.functional.adaptive_avg_pool2d
    x = normal(shape, seed, dtype)
    assert_agree(lambda x: adaptive_avg_pool2d(x, (P, Q)), lambda x: last(theirs(first(x), (P, Q))), x)
