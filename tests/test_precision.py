"""ts.precision: what it changes, where, and for whom."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.precision import is_exact

from .strategies import normal


def error(level):
    """The largest errors of y, dx and dw of a 3x3 convolution against float64, each over its largest value."""
    shapes = (1, 24, 24, 128), (3, 3, 128, 64), (1, 24, 24, 64)
    x, w, dy = (normal(shape, i) for i, shape in enumerate(shapes))

    def maps(dtype, level):
        inputs = [ts.tensor(a.astype(dtype), requires_grad=True) for a in (x, w)]
        with ts.precision(level):
            y = ts.ops.conv2d(*inputs, padding=1)
        y.backward(dy.astype(dtype))  # outside: the gradients are as exact as the forward pass was
        return y.numpy(), *(t.grad.numpy() for t in inputs)

    pairs = zip(maps(np.float32, level), maps(np.float64, level))
    return np.array([np.abs(a - b).max() / np.abs(b).max() for a, b in pairs])


def test_exact_convolutions_have_the_rounding_error_of_a_plain_sum():
    exact, fast = error("exact"), error("fast")
    assert (exact < 1e-6).all()
    assert (fast < 1e-5).all()
    assert (exact <= fast).all()


def test_the_context_ends_and_nests_and_is_a_threads_own():
    assert not is_exact()
    with ts.precision("exact"):
        with ts.precision("fast"):
            assert not is_exact()
        assert is_exact()
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(is_exact).result()
        with pytest.raises(KeyError), ts.precision("fast"):
            raise KeyError
        assert is_exact()
    assert not is_exact()


def test_gradcheck_is_exact():
    seen = []
    ts.gradcheck(lambda x: seen.append(is_exact()) or x * 2, np.ones(3))
    assert seen and all(seen)


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="precision: got 'double', expected 'fast' or 'exact'"), ts.precision("double"):
        pass
