"""A device that works ahead of the host learns late that a target or a position is no good: until then its kernels
must neither write nor read outside their arrays, and a loss must not look right."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.cuda import emulator
from tinyseg.device import Emulated

pytestmark = pytest.mark.skipif(bool(emulator.unusable()), reason=str(emulator.unusable()))


class Late(Emulated):
    """Errors are kept, as on a GPU, and memory lies between guards that must stay what they are."""

    def __init__(self):
        super().__init__("random")
        self.found, self.guarded = [], []

    def check(self, found, error):
        self.found.append(error(found))

    def empty(self, shape, dtype=np.float32):
        size = int(np.prod(shape))
        whole = np.full(size + 2000, 77, dtype)
        self.guarded.append((whole, size))
        return whole[1000 : 1000 + size].reshape(shape)

    def untouched(self):
        return all((w[:1000] == 77).all() and (w[1000 + size :] == 77).all() for w, size in self.guarded)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [-1, 3, 254, 1 << 20])
def test_a_class_that_does_not_exist_gives_nan_and_then_an_error(bad, dtype):
    device = Late()
    x = ts.tensor(np.random.default_rng(0).standard_normal((1, 2, 5, 3)), device, requires_grad=True, dtype=dtype)
    target = np.array([[[0, 1, 255, 2, 0], [1, bad, 255, 2, 0]]], np.int32)
    loss = ts.ops.cross_entropy(x, target)
    loss.backward()
    assert np.isnan(loss.item()) and device.untouched()
    (error,) = device.found
    assert f"target is {bad} at (0, 1, 1), but logits have K = 3 classes" in str(error)
    good = np.isfinite(x.grad.numpy()).all(-1)
    assert good.sum() == 9 and not good[0, 1, 1]


@pytest.mark.parametrize("bad", [-1, -40, 36, 1 << 20])
def test_a_position_outside_is_left_out(bad):
    device = Late()
    x = ts.tensor(np.ones((1, 2, 2, 1), np.float32), device, requires_grad=True)
    at = np.array([[0, 7], [bad, 35]], np.int32).reshape(1, 2, 2, 1)
    y = ts.ops.max_unpool2d(x, at, output_size=(6, 6))
    y.backward(np.ones(y.shape, np.float32))
    assert y.numpy().sum() == 3 and x.grad.numpy().ravel().tolist() == [1, 1, 0, 1] and device.untouched()
    assert "outside the output (H,W) = (6, 6)" in str(device.found[0])
