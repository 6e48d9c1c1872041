import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import tinyseg as ts
from tests.strategies import arrays, broadcastable, normal, seeds, shapes


def check_linear(fn, x, expected, device):
    """fn(x) has the expected values in one contiguous block, is linear, and its backward is its adjoint."""
    y = fn(ts.tensor(x.astype(np.float32), device))
    assert y.dtype == np.float32 and y.data.flags.c_contiguous
    assert_array_equal(y.numpy(), expected.astype(np.float32))
    if x.size and expected.size:
        ts.adjoint_check(fn, x, device=device)
    t = ts.tensor(x, device, requires_grad=True)
    fn(t).backward(np.zeros(expected.shape))
    assert t.grad.shape == x.shape


@given(data=st.data(), x=arrays(shapes(0, 4, 0, 4)))
def test_reshape_and_transpose(device, data, x):
    order = data.draw(st.permutations(range(x.ndim)))
    signed = [a - x.ndim if data.draw(st.booleans()) else a for a in order]
    check_linear(lambda x: x.transpose(*signed) if signed else x.transpose(), x, x.transpose(order), device)
    check_linear(lambda x: x.transpose(), x, x.T, device)
    other = tuple(x.shape[a] for a in order)
    check_linear(lambda x: x.reshape(other), x, x.reshape(other), device)
    check_linear(lambda x: x.reshape(-1), x, x.reshape(x.size), device)


@given(data=st.data(), x=arrays(shapes(1, 4, 1, 3)))
def test_flatten_squeeze_unsqueeze(device, data, x):
    i = data.draw(st.integers(0, x.ndim - 1))
    j = data.draw(st.integers(i, x.ndim - 1))
    flat = x.reshape(x.shape[:i] + (-1,) + x.shape[j + 1 :])
    check_linear(lambda x: x.flatten(i, j - x.ndim), x, flat, device)
    check_linear(lambda x: x.squeeze(), x, x.squeeze(), device)
    axis = data.draw(st.integers(-x.ndim - 1, x.ndim))
    longer = np.expand_dims(x, axis)
    check_linear(lambda x: x.unsqueeze(axis), x, longer, device)
    check_linear(lambda x: x.squeeze(axis), longer, x, device)
    check_linear(lambda x: x.squeeze((axis,)), longer, x, device)


@given(pair=broadcastable(2), seed=seeds)
def test_broadcast_to(device, pair, seed):
    shape, x = np.broadcast_shapes(*pair), normal(pair[0], seed)
    check_linear(lambda x: x.broadcast_to(shape), x, np.broadcast_to(x, shape), device)


@st.composite
def indices(draw, shape):
    """Numbers, slices of either direction, None and an ellipsis."""
    index = []
    for n in shape[: draw(st.integers(0, len(shape)))]:
        bound = st.none() | st.integers(-n - 1, n + 1)
        step = st.sampled_from([None, 1, 2, -1, -2])
        index.append(draw(st.integers(-n, n - 1) | st.builds(slice, bound, bound, step)))
    if draw(st.booleans()):
        index.insert(draw(st.integers(0, len(index))), None)
    if draw(st.booleans()):
        index.append(...)
    return tuple(index)


@given(data=st.data(), x=arrays(shapes(1, 4, 1, 4)))
def test_slicing(device, data, x):
    index = data.draw(indices(x.shape))
    check_linear(lambda x: x[index], x, x[index], device)


@given(data=st.data(), x=arrays(shapes(2, 3, 1, 4)))
def test_indexing_with_arrays_adds_up_repeats(device, data, x):
    def integers(axis):
        n = x.shape[axis]
        return np.array(data.draw(st.lists(st.integers(-n, n - 1), min_size=3, max_size=3)))

    i, j = integers(0), integers(1)
    for index in (
        i, (i, j), (slice(None), j), (..., i % x.shape[-1]), (i[:, None], j), x[..., 0] > 0, x > 0,
        i.tolist(), (tuple(i.tolist()),), (slice(None), tuple(j.tolist())), range(len(x)),
    ):  # fmt: skip
        check_linear(lambda x, index=index: x[index], x, x[index], device)
    check_linear(lambda x: x[ts.tensor(i, device), ts.tensor(j, device)], x, x[i, j], device)


def test_an_index_that_changes_afterwards_does_not_move_the_gradient():
    x, index = ts.tensor(np.zeros(3), requires_grad=True), np.array([0, 0])
    y = x[index]
    index[:] = 2
    y.sum().backward()
    assert x.grad.numpy().tolist() == [2, 0, 0]


def test_a_row_taken_twice_gets_both_gradients():
    x = ts.tensor(np.zeros((2, 2)), requires_grad=True)
    x[[0, 0, 1]].backward(np.array([[1.0, 2], [10, 20], [5, 6]]))
    assert x.grad.numpy().tolist() == [[11, 22], [5, 6]]


@given(data=st.data(), shape=shapes(1, 4, 1, 4), seed=seeds)
def test_concat(device, data, shape, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sides = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    before, after = shape[: axis % len(shape)], shape[axis % len(shape) + 1 :]
    parts = [normal((*before, n, *after), seed + k) for k, n in enumerate(sides)]
    y = ts.ops.concat([ts.tensor(p, device) for p in parts], axis)
    assert y.data.flags.c_contiguous
    assert_array_equal(y.numpy(), np.concatenate(parts, axis))
    if y.size:
        ts.gradcheck(lambda *t: ts.ops.concat(t, axis), *parts, device=device, directions=1)
    if axis == -1:
        assert_array_equal(ts.ops.concat(parts).numpy(), y.numpy())


@given(data=st.data(), shape=shapes(0, 3), count=st.integers(1, 3), seed=seeds)
def test_stack(device, data, shape, count, seed):
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    parts = [normal(shape, seed + k) for k in range(count)]
    assert_array_equal(ts.ops.stack(parts, axis).numpy(), np.stack(parts, axis))
    ts.gradcheck(lambda *t: ts.ops.stack(t, axis), *parts, device=device, directions=1)


def test_concat_of_one_tensor_with_itself():
    x = ts.tensor(np.arange(3.0), requires_grad=True)
    ts.ops.concat([x, x]).backward(np.array([1.0, 2, 3, 10, 20, 30]))
    assert x.grad.numpy().tolist() == [11, 22, 33]


@given(data=st.data(), x=arrays(shapes(1, 4, 1, 4)))
def test_pad(device, data, x):
    widths = [(data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))) for _ in x.shape]
    check_linear(lambda x: x.pad(widths), x, np.pad(x, widths), device)
    y = ts.ops.pad(x, widths, value=2.5)
    assert_array_equal(y.numpy(), np.pad(x, widths, constant_values=2.5))
    ts.gradcheck(lambda x: ts.ops.pad(x, widths, value=2.5), x, device=device, directions=1)
    inner = [(min(a, n - 1), min(b, n - 1)) for (a, b), n in zip(widths, x.shape)]
    check_linear(lambda x: x.pad(inner, mode="reflect"), x, np.pad(x, inner, mode="reflect"), device)


def test_pad_widths_as_numpy_takes_them():
    x = normal((3, 4), 0)
    for widths in (2, (1, 2), ((1, 2),), ((1, 2), (0, 3)), np.array([[1, 2], [0, 3]])):
        assert_array_equal(ts.ops.pad(x, widths).numpy(), np.pad(x, widths))


@given(data=st.data(), x=arrays(shapes(3, 4, 1, 5)))
def test_crop(device, data, x):
    H, W = x.shape[-3:-1]
    h, w = data.draw(st.integers(0, H)), data.draw(st.integers(0, W))
    top, left = data.draw(st.integers(0, H - h)), data.draw(st.integers(0, W - w))
    window = x[..., top : top + h, left : left + w, :]
    check_linear(lambda x: ts.ops.crop(x, top, left, h, w), x, window, device)
    top, left = (H - h) // 2, (W - w) // 2
    middle = x[..., top : top + h, left : left + w, :]
    check_linear(lambda x: ts.ops.center_crop(x, (h, w)), x, middle, device)
    side = min(H, W)
    assert ts.ops.center_crop(x, side).shape[-3:-1] == (side, side)


@pytest.mark.parametrize(
    "error, match, call",
    [
        (ValueError, r"reshape: 6 values of shape \(2, 3\) do not fill shape \(4,\)", lambda x: x.reshape(4)),
        (ValueError, r"reshape: 6 values .* do not fill shape \(-1, -1\)", lambda x: x.reshape(-1, -1)),
        (TypeError, r"reshape: expected integers, got \(1.5, 4\)", lambda x: x.reshape(1.5, 4)),
        (ValueError, r"flatten: axes 0 to 2 do not fit x of shape \(2, 3\)", lambda x: x.flatten(0, 2)),
        (ValueError, r"flatten: axes 1 to 0 do not fit", lambda x: x.flatten(1, 0)),
        (
            ValueError,
            r"squeeze: axis 0 of x \(shape \(2, 3\)\) is not there or not of length 1",
            lambda x: x.squeeze(0),
        ),
        (ValueError, r"squeeze: axis 5 of x", lambda x: x.squeeze(5)),
        (ValueError, r"unsqueeze: axis 3 is out of range for x of shape \(2, 3\): -3 to 2", lambda x: x.unsqueeze(3)),
        (ValueError, r"transpose: axes \(0, 0\) are no order of the 2 axes", lambda x: x.transpose(0, 0)),
        (ValueError, r"transpose: axes \(0,\) are no order", lambda x: x.transpose((0,))),
        (ValueError, r"transpose: axes \(0, 1, 2\) are no order", lambda x: x.transpose(0, 1, 2)),
        (ValueError, r"broadcast_to: shape \(2, 3\) does not broadcast to \(2, 4\)", lambda x: x.broadcast_to((2, 4))),
        (IndexError, r"x\[\.\.\.\]: index 2 is out of bounds .* \(x has shape \(2, 3\)\)", lambda x: x[2]),
        (IndexError, r"x\[\.\.\.\]: .*\(x has shape \(2, 3\)\)", lambda x: x[[0, 5]]),
        (
            ValueError,
            r"concat: shapes \(2, 3\), \(3, 3\) differ beside axis -1; cure",
            lambda x: ts.ops.concat([x, x.pad(((1, 0), (0, 0)))]),
        ),
        (ValueError, r"concat: shapes \(2, 3\), \(3,\) differ", lambda x: ts.ops.concat([x, x[0]])),
        (ValueError, r"concat: axis 2 does not fit shapes \(2, 3\)", lambda x: ts.ops.concat([x], 2)),
        (ValueError, r"concat: expected at least one tensor", lambda x: ts.ops.concat([])),
        (TypeError, r"concat: inputs are float32 and float64", lambda x: ts.ops.concat([x, x.astype(np.float32)])),
        (
            ValueError,
            r"stack: expected tensors of one shape, got \[\(2, 3\), \(3,\)\]",
            lambda x: ts.ops.stack([x, x[0]]),
        ),
        (ValueError, r"stack: expected tensors of one shape, got none", lambda x: ts.ops.stack([])),
        (ValueError, r"pad: mode 'edge' is unknown, expected 'constant' or 'reflect'", lambda x: x.pad(1, mode="edge")),
        (ValueError, r"pad: widths .* do not fit x of shape \(2, 3\)", lambda x: x.pad(((1, 1),) * 3)),
        (ValueError, r"pad: widths -1 must not be negative; cure: crop", lambda x: x.pad(-1)),
        (
            ValueError,
            r"pad: reflect needs borders below the side, got 2 and 0 on axis 0",
            lambda x: x.pad(((2, 0), (0, 0)), mode="reflect"),
        ),
        (TypeError, r"pad: expected integers", lambda x: x.pad(0.5)),
        (
            ValueError,
            r"crop: expected x \(N,H,W,C\) or \(H,W,C\), got shape \(2, 3\)",
            lambda x: ts.ops.crop(x, 0, 0, 1, 1),
        ),
        (
            ValueError,
            r"crop: 2x2 pixels from \(1, 0\) leave the image of 2x3 pixels",
            lambda x: ts.ops.crop(x.unsqueeze(2), 1, 0, 2, 2),
        ),
        (ValueError, r"crop: .* leave the image", lambda x: ts.ops.crop(x.unsqueeze(2), -1, 0, 1, 2)),
        (
            ValueError,
            r"center_crop: 3x3 pixels do not fit x of shape \(2, 3, 1\)",
            lambda x: ts.ops.center_crop(x.unsqueeze(2), 3),
        ),
    ],
)
def test_errors(error, match, call):
    with pytest.raises(error, match=match):
        call(ts.tensor(normal((2, 3), 0)))


def test_unequal_gradients_reach_views_of_one_result():
    x = ts.tensor(np.arange(4.0), requires_grad=True)
    y = x * 2
    (y.reshape(2, 2)[0].sum() + 3 * y[2:].sum() + y.sum()).backward()
    assert_allclose(x.grad.numpy(), [4, 4, 8, 8])
