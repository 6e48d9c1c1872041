import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import tinyseg as ts
from tests.strategies import broadcastable, float_dtypes, normal, seeds


@st.composite
def factors(draw):
    """Shapes of a and b: vectors, matrices, and stacks that broadcast."""
    i, j, k = (draw(st.integers(1, 4)) for _ in "ijk")
    left, right = draw(broadcastable(2, max_axes=2))
    a = (k,) if draw(st.integers(0, 3)) == 0 else (*left, i, k)
    b = (k,) if draw(st.integers(0, 3)) == 0 else (*right, k, j)
    return a, b


@given(shapes=factors(), seed=seeds, dtype=float_dtypes)
def test_value_and_gradient(device, shapes, seed, dtype):
    a, b = (normal(s, seed + i) for i, s in enumerate(shapes))
    subscripts = {(1, 1): "k,k->", (1, 2): "k,...kj->...j", (2, 1): "...ik,k->...i", (2, 2): "...ik,...kj->...ij"}
    expected = np.einsum(subscripts[min(a.ndim, 2), min(b.ndim, 2)], a, b)
    y = ts.tensor(a.astype(dtype), device) @ ts.tensor(b.astype(dtype), device)
    assert y.dtype == dtype and y.shape == expected.shape and y.data.flags.c_contiguous
    assert_allclose(y.numpy(), expected, *((1e-12, 1e-12) if dtype == np.float64 else (1e-4, 1e-4)))
    ts.gradcheck(ts.ops.matmul, a, b, device=device, directions=1)
    ts.adjoint_check(lambda a: a @ b, a, device=device)


def test_integers_and_arrays_on_the_left():
    assert (np.array([[1, 2]]) @ ts.tensor(np.array([[3], [4]]))).item() == 11
    assert ts.ops.matmul(np.array([[1, 2]]), np.ones((2, 1), np.float32)).dtype == np.float32
    assert ts.ops.matmul(np.ones((2, 0), np.float32), np.ones((0, 3), np.float32)).numpy().tolist() == [[0] * 3] * 2


def test_errors():
    x = ts.tensor(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"last axis of a has 3 but b expects 4 \(a \(2, 3\), b \(4, 5\)\)"):
        x @ np.ones((4, 5))
    with pytest.raises(ValueError, match=r"matmul: the stacks .* do not broadcast \(a \(2, 1, 3\), b \(3, 3, 1\)\)"):
        ts.ops.matmul(np.ones((2, 1, 3)), np.ones((3, 3, 1)))
    with pytest.raises(ValueError, match=r"matmul: expected at least one axis each.*cure: a \* b"):
        x @ 2.0
    with pytest.raises(TypeError, match=r"matmul: inputs are float32 and float64"):
        x @ np.ones((3, 1), np.float32)
