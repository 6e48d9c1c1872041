import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg.ops import cross_entropy

from ..strategies import float_dtypes, normal, seeds
from .repeat import assert_bits_repeat, assert_single_near_double

shapes = st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 2, 3, 11, 21]))


def draw(shape, seed, dtype=np.float64):
    """logits, target with a quarter ignored, weight"""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, shape[-1], shape[:-1]).astype(np.int32)
    target[rng.random(target.shape) < 0.25] = 255
    return normal(shape, (seed, 1), dtype) * 3, target, rng.uniform(0.2, 2, shape[-1]).astype(dtype)


def oracle(x, target, weight=None, reduction="mean", label_smoothing=0.0):
    K = x.shape[-1]
    weight = np.ones(K) if weight is None else weight
    loss, counted = np.zeros(target.shape), 0.0
    for m in np.ndindex(target.shape):
        if target[m] != 255:
            log_p = x[m] - x[m].max() - np.log(np.exp(x[m] - x[m].max()).sum())
            hard, soft = -weight[target[m]] * log_p[target[m]], -(weight * log_p).sum() / K
            loss[m] = (1 - label_smoothing) * hard + label_smoothing * soft
            counted += weight[target[m]]
    if reduction == "none":
        return loss
    return loss.sum() / (1 if reduction == "sum" else counted or 1)


reductions = st.sampled_from(["mean", "sum", "none"])


@given(shapes, reductions, st.booleans(), st.sampled_from([0.0, 0.1, 1.0]), float_dtypes, seeds)
def test_value(device, shape, reduction, weighted, smoothing, dtype, seed):
    x, target, weight = draw(shape, seed, dtype)
    options = dict(weight=weight if weighted else None, reduction=reduction, label_smoothing=smoothing)
    loss = cross_entropy(ts.tensor(x, device), target, **options)
    assert loss.dtype == dtype
    expected = oracle(x.astype(np.float64), target, **options)
    np.testing.assert_allclose(loss.numpy(), expected, **(dict(rtol=1e-5, atol=1e-5) if dtype == np.float32 else {}))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradient(device, reduction, smoothing):
    x, target, weight = draw((2, 3, 4, 5), 0)
    ts.gradcheck(lambda x: cross_entropy(x, target, weight, 255, reduction, smoothing), x, device=device)
    ts.gradcheck(lambda x: cross_entropy(x, target, label_smoothing=smoothing) * 3, x, device=device)


def test_targets_of_any_kind(device):
    x, target, _ = draw((2, 3, 4, 5), 0, np.float32)
    expected = cross_entropy(ts.tensor(x, device), target).item()
    strided = np.repeat(target, 2, axis=2)[:, :, ::2]
    for other in (target.astype(np.int64), target.astype(np.uint8), ts.tensor(target, device), strided):
        assert cross_entropy(ts.tensor(x, device), other).item() == expected
    rows = cross_entropy(ts.tensor(x.reshape(-1, 5), device), target.reshape(-1))
    assert rows.item() == expected
    with_other_ignored = np.where(target == 255, -1, target)
    assert cross_entropy(ts.tensor(x, device), with_other_ignored, ignore_index=-1).item() == expected


def test_nothing_to_count(device):
    for shape in ((2, 3, 4, 5), (0, 3, 4, 5)):
        x = ts.tensor(np.ones(shape, np.float32), device, requires_grad=True)
        loss = cross_entropy(x, np.full(shape[:-1], 255))
        loss.backward()
        assert loss.item() == 0
        np.testing.assert_array_equal(x.grad.numpy(), 0)


def test_nan_and_infinity(device):
    x, target, _ = draw((1, 4, 4, 5), 0, np.float32)
    target[0, 0, :2] = 1, 255
    x[0, 0, 1] = np.nan  # under an ignored pixel
    logits = ts.tensor(x, device, requires_grad=True)
    loss = cross_entropy(logits, target)
    loss.backward()
    assert np.isfinite(loss.item()) and np.isfinite(logits.grad.numpy()).all()
    x[0, 0, 0, 3] = np.nan
    assert np.isnan(cross_entropy(ts.tensor(x, device), target).item())
    x[0, 0, 0] = -1e30, 1e30, 0, 0, 0
    assert np.isfinite(cross_entropy(ts.tensor(x, device), target).item())


def test_threads_and_precision(device):
    x, target, weight = draw((2, 30, 90, 7), 0)  # more than one run of pixels for each kernel
    for reduction in ("mean", "none"):
        fn = lambda x: cross_entropy(x, target, weight, reduction=reduction)  # noqa: B023, E731
        assert_bits_repeat(fn, x.astype(np.float32), device=device)
        assert_single_near_double(fn, x, device=device)


def test_errors(device):
    x, target, weight = draw((1, 3, 4, 5), 0, np.float32)
    x = ts.tensor(x, device)
    bad = target.copy()
    bad[0, 2, 1] = 7
    for arguments, message in [
        ((x, bad), r"target is 7 at \(0, 2, 1\), but logits have K = 5.*cure"),
        ((x, np.where(target == 255, -1, target)), "target is -1"),
        ((x, target[:, :2]), "need a target of shape"),
        ((x, target, weight[:4]), "weight has shape"),
        ((x, target, weight - 10), "weight holds -.*at least 0"),
        ((x, target, weight * np.nan), "weight holds nan"),
        ((x, target, None, 255, "average"), "reduction is 'average'"),
        ((x, target, None, 255, "mean", 2), "label_smoothing is 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            cross_entropy(*arguments)
    with pytest.raises(TypeError, match="integer class ids"):
        cross_entropy(x, target.astype(np.float32))


@pytest.mark.parametrize("dtype, wrong", [("i8", 2**32), ("i8", -(2**32) + 1), ("u4", 2**32 - 1), ("u8", 2**63)])
def test_a_class_id_beyond_int32_is_no_class(dtype, wrong):
    target = np.zeros((2, 3), dtype)
    target[1, 2] = wrong
    with pytest.raises(ValueError, match=rf"target is {wrong} at \(1, 2\), but logits have K = 4 classes"):
        ts.ops.cross_entropy(np.zeros((2, 3, 4), np.float32), target)
    target[1, 2] = 255
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    same = ts.ops.cross_entropy(x, target.astype(np.int32)).item()
    assert ts.ops.cross_entropy(x, target).item() == same
    target[1, 2] = abs(wrong)
    assert ts.ops.cross_entropy(x, target, ignore_index=abs(wrong)).item() == same


def test_logits_without_classes_are_refused():
    with pytest.raises(ValueError, match=r"logits \(\) need a target"):
        ts.ops.cross_entropy(np.float32(1), np.array(0))
