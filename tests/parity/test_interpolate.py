"""interpolate against PyTorch, over drawn sizes, factors and modes."""

from hypothesis import given
from hypothesis import strategies as st

from tinyseg.ops import interpolate

from ..strategies import float_dtypes, normal, seeds
from .agree import assert_agree, first, last, torch

sides = st.integers(1, 12)
shapes = st.tuples(st.integers(1, 2), sides, sides, st.sampled_from([1, 3, 8, 21]))
modes = st.sampled_from([{"mode": "nearest"}, {"mode": "bilinear"}, {"mode": "bilinear", "align_corners": True}])


def agree(x, options):
    theirs = torch.nn.functional.interpolate
    # PyTorch takes its coordinates in float32 where x is float32, we in float64: seven digits of a coordinate
    assert_agree(
        lambda x: interpolate(x, **options), lambda x: last(theirs(first(x), **options)), x, single=1e-4, double=1e-10
    )


@given(shapes, sides, sides, modes, float_dtypes, seeds)
def test_size(shape, P, Q, mode, dtype, seed):
    agree(normal(shape, seed, dtype), dict(size=(P, Q), **mode))


@given(shapes, st.sampled_from([1, 1.5, 2, 2.5, 8]), modes, float_dtypes, seeds)
def test_scale_factor(shape, factor, mode, dtype, seed):
    agree(normal(shape, seed, dtype), dict(scale_factor=factor, **mode))
