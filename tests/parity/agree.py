"""One function in both worlds: values and gradients of tinyseg (channels last) against PyTorch (channels first)."""

import numpy as np
import pytest

import tinyseg as ts

torch = pytest.importorskip("torch")


def first(t):
    """(N,H,W,C) -> PyTorch's (N,C,H,W), as a view."""
    return t.permute(0, 3, 1, 2)


def last(t):
    """PyTorch's (N,C,H,W) -> (N,H,W,C), as a view."""
    return t.permute(0, 2, 3, 1)


def assert_agree(ours, theirs, *arrays, single=2e-5, double=1e-11):
    """`ours` takes Tensors, `theirs` torch tensors of the same shapes; same result, same gradients for a random dy.

    Errors are measured by the greatest value of each array, or by 1 where that is less.
    """
    a = [ts.tensor(x, requires_grad=True) for x in arrays]
    b = [torch.tensor(x, requires_grad=True) for x in arrays]
    y, z = ours(*a), theirs(*b)
    assert y.shape == tuple(z.shape)
    dy = np.random.default_rng(0).standard_normal(y.shape).astype(y.dtype)
    y.backward(dy), z.backward(torch.tensor(dy))
    for found, expected in [(y, z), *((t.grad, u.grad) for t, u in zip(a, b))]:
        found, expected = found.numpy(), expected.detach().numpy()
        assert found.dtype == expected.dtype
        tolerance = (single if found.dtype == np.float32 else double) * max(np.abs(expected).max(initial=0), 1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
