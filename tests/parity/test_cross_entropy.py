"""cross_entropy, softmax and log_softmax against PyTorch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.ops import cross_entropy, log_softmax, softmax

from ..strategies import float_dtypes, normal, seeds
from .agree import assert_agree, first, torch

sides = st.integers(1, 6)
shapes = st.tuples(st.integers(1, 3), sides, sides, st.sampled_from([1, 2, 3, 11, 21]))


@given(
    shapes, st.booleans(), st.sampled_from(["mean", "sum", "none"]), st.sampled_from([0.0, 0.1]), float_dtypes, seeds
)
def test_cross_entropy(shape, weighted, reduction, smoothing, dtype, seed):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, shape[-1], shape[:-1])
    target[rng.random(target.shape) < 0.2] = 255
    target[0, 0, 0] = 0  # PyTorch gives NaN where nothing is counted
    weight = rng.uniform(0.1, 2, shape[-1]).astype(dtype) if weighted else None

    def theirs(x):
        w = None if weight is None else torch.tensor(weight)
        return torch.nn.functional.cross_entropy(
            first(x), torch.tensor(target), w, ignore_index=255, reduction=reduction, label_smoothing=smoothing
        )

    x = normal(shape, (seed, 1), dtype) * 5
    assert_agree(lambda x: cross_entropy(x, target, weight, 255, reduction, smoothing), theirs, x)


@pytest.mark.parametrize("ours, theirs", [(softmax, torch.softmax), (log_softmax, torch.log_softmax)])
@given(shapes, st.integers(-1, 2), float_dtypes, seeds)
def test_softmax(ours, theirs, shape, axis, dtype, seed):
    assert_agree(lambda x: ours(x, axis), lambda x: theirs(x, axis), normal(shape, seed, dtype) * 5)
