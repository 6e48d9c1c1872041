"""batch_norm and batch_norm_relu against PyTorch: values, gradients, running statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops import batch_norm, batch_norm_relu

from ..strategies import float_dtypes, normal, seeds
from .agree import assert_agree, first, last, torch

sides = st.integers(1, 6)
shapes = st.tuples(st.integers(2, 3), sides, sides, st.sampled_from([1, 3, 8, 21, 65]))


@pytest.mark.parametrize("fn, activation", [(batch_norm, lambda y: y), (batch_norm_relu, torch.relu)])
@given(shapes, st.booleans(), float_dtypes, seeds)
def test_batch_norm(fn, activation, shape, training, dtype, seed):
    x, (mean, weight, bias) = normal(shape, seed, dtype), normal((3, shape[-1]), (seed, 1), dtype)
    var = np.ones_like(mean)
    running, theirs = [ts.tensor(a) for a in (mean, var)], [torch.tensor(a) for a in (mean, var)]

    def norm(x, weight, bias):
        return last(activation(torch.nn.functional.batch_norm(first(x), *theirs, weight, bias, training)))

    # two pixels may be nearly equal: then 1 / deviation is up to 300, and float32 loses as many digits
    assert_agree(lambda *a: fn(a[0], *running, *a[1:], training), norm, x, weight, bias, single=2e-3, double=1e-7)
    for a, b in zip(running, theirs):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5)
