"""The same bits whatever the number of threads, and float32 near float64."""

import numba
import numpy as np

import tinyseg as ts


def run(fn, arrays, device="cpu"):
    """[y, dx, ...]: the value of fn on float arrays and the gradients for a fixed random dy, as NumPy arrays."""
    tensors = [ts.tensor(a, device, requires_grad=True) for a in arrays]
    y = fn(*tensors)
    y.backward(np.random.default_rng(0).standard_normal(y.shape).astype(y.dtype))
    return [y.numpy(), *(t.grad.numpy() for t in tensors)]


def assert_bits_repeat(fn, *arrays, device="cpu"):
    """One thread and all threads give the same bits, forward and backward."""
    threads = numba.get_num_threads()
    assert threads == numba.config.NUMBA_NUM_THREADS, "a kernel has left this thread with fewer threads"
    try:
        several = run(fn, arrays, device)
        numba.set_num_threads(1)
        for a, b in zip(several, run(fn, arrays, device)):
            np.testing.assert_array_equal(a, b)
    finally:
        numba.set_num_threads(threads)


def assert_single_near_double(fn, *arrays, device="cpu", tolerance=1e-5):
    """float32 agrees with float64, forward and backward, and stays float32."""
    exact = run(fn, [a.astype(np.float64) for a in arrays], device)
    for a, b in zip(run(fn, [a.astype(np.float32) for a in arrays], device), exact):
        assert a.dtype == np.float32 and b.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(np.abs(b).max(initial=0), 1))
