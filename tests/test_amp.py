"""autocast and the loss's scale: which type flows where, how near to float32 it stays, and what an overflow does."""

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.nn import BatchNorm2d, Conv2d, MaxPool2d, Parameter, ReLU, Sequential
from tinyseg.precision import narrow_type

from .strategies import normal


def network(device, seed=0, smooth=False):
    """Convolutions, a batch norm and what stands between them; smooth: without what jumps at a rounding."""
    layers = [Conv2d(3, 8, 3, padding=1), BatchNorm2d(8), ReLU(), MaxPool2d(2), Conv2d(8, 8, 3, padding=1), ReLU()]
    if smooth:
        layers = [layers[0], layers[1], layers[4]]
    model = Sequential(*layers, Conv2d(8, 4, 1))
    for i, p in enumerate(model.parameters()):
        p.assign(0.3 * normal(p.shape, (seed, i), np.float32))
    return model.to(device)


X = normal((2, 12, 14, 3), 1, np.float32)
Y = (normal((2, 12, 14), 2) > 0).astype(np.int32)


def loss_of(model):
    logits = model(ts.tensor(X, model.parameters()[0].device))
    return ts.ops.cross_entropy(logits, Y[:, : logits.shape[1], : logits.shape[2]].copy())


# ------------------------------------------------------------------------------------------------------ autocast


def test_blocks_nest_and_end():
    assert narrow_type() is None
    with ts.autocast():
        assert narrow_type() == "float16"
        with ts.autocast("bfloat16"):
            assert narrow_type() == "bfloat16"
            with ts.autocast(enabled=False):
                assert narrow_type() is None
        assert narrow_type() == "float16"
    with pytest.raises(ValueError, match="autocast: got dtype 'int8', expected 'float16' or 'bfloat16'"):
        with ts.autocast("int8"):
            pass


@pytest.mark.parametrize("dtype, expected", [("float16", np.float16), ("bfloat16", np.float32)])
def test_results_keep_the_type_until_an_operation_widens_it(capable, dtype, expected):
    x, w = ts.tensor(X, capable), ts.tensor(normal((3, 3, 3, 8), 3, np.float32), capable)
    with ts.autocast(dtype):
        y = ts.ops.conv2d(x, w, padding=1)
        same = [y, ts.ops.relu(y), y + y, ts.ops.max_pool2d(y, 2), ts.ops.concat([y, y], -1), y[:, 1:, :-1]]
        same += [ts.ops.avg_pool2d(y, 2), ts.ops.interpolate(y, scale_factor=2, mode="bilinear")]
        same += [y.reshape(2, -1), ts.ops.pad(y, [(0, 0), (1, 1), (0, 0), (0, 0)])]
        same += [ts.ops.conv_transpose2d(y, ts.tensor(normal((2, 2, 4, 8), 4, np.float32), capable), stride=2)]
        assert {t.dtype for t in same} == {np.dtype(expected)}
        wide = [y * 2.0, y.mean(), ts.ops.softmax(y), ts.ops.log_softmax(y)]
        wide += [ts.ops.dropout(y, 0.5, seed=1), ts.ops.concat([y, x], -1)]
        assert {t.dtype for t in wide} == {np.dtype(np.float32)}
    assert ts.ops.conv2d(x, w).dtype == np.float32
    assert ts.ops.conv2d(y, ts.tensor(normal((1, 1, 8, 2), 5, np.float32), capable)).dtype == np.float32  # outside


def test_the_cpu_computes_as_without_it():
    model = network("cpu")
    plain = loss_of(model).item()
    with ts.autocast():
        assert loss_of(model).item() == plain


@pytest.mark.parametrize("dtype, tolerance", [("float16", 6e-3), ("bfloat16", 5e-2)])
def test_gradients_are_float32_and_near_those_of_float32(capable, dtype, tolerance):
    reference, model = network("cpu", smooth=True), network(capable, smooth=True)
    loss_of(reference).backward()
    with ts.autocast(dtype):
        loss = loss_of(model)
    (loss * 1024.0).backward()
    for p, q in zip(model.parameters(), reference.parameters()):
        got, expected = p.grad.numpy(), q.grad.numpy()
        assert got.dtype == np.float32
        # the bias in front of a batch norm has no effect: its gradient is rounding, against that of the filters
        scale = max(np.abs(expected).max(), 0.05)
        assert np.abs(got / 1024 - expected).max() < tolerance * scale
    for a, b in zip(model.state_dict().values(), reference.state_dict().values()):  # running statistics, too
        assert a.dtype == np.float32 and np.allclose(a, b, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_block_computed_again_gives_the_same_bits(capable, dtype):
    def gradients(recompute):
        model = Sequential(network(capable), Conv2d(4, 4, 1, seed=0).to(capable))
        model.layers[0].recompute = recompute
        with ts.autocast(dtype):
            loss = loss_of(model)
        (loss * 1024.0).backward()
        return [p.grad.numpy() for p in model.parameters()]

    assert all(map(np.array_equal, gradients(False), gradients(True)))


EIGHTHS = np.round(normal((3, 3, 1, 8), 3, np.float32) * 8) / 8


@pytest.mark.parametrize(
    "op",
    [
        lambda y: ts.ops.relu(y),
        lambda y: y + y,
        lambda y: ts.ops.max_pool2d(y, 3, stride=2),
        lambda y: ts.ops.avg_pool2d(y, 3, stride=2),
        lambda y: ts.ops.interpolate(y, size=(5, 9), mode="bilinear"),
        lambda y: ts.ops.pad(ts.ops.concat([y[:, 1:], y[:, :-1]], -1), [(0, 0), (1, 0), (0, 2), (0, 0)]),
        lambda y: ts.ops.conv2d(y, np.full((3, 3, 1, 4), 0.25, np.float32), groups=4),
        lambda y: ts.ops.conv2d(ts.ops.concat([y, y], -1), EIGHTHS, padding=1, groups=8),
        lambda y: ts.ops.conv2d(ts.ops.concat([y, y], -1), EIGHTHS, padding=1, groups=8, stride=2),
        lambda y: ts.ops.add_relu(y, y),
        lambda y: ts.ops.batch_norm_add_relu(y, y, None, None, None, None, True),
    ],
    ids=["relu", "add", "max_pool2d", "avg_pool2d", "interpolate", "pad and concat", "depth-wise",
         "depth-wise, packs", "depth-wise, packs, stride 2", "add_relu", "batch_norm_add_relu"],
)
def test_operations_on_half_are_those_on_float32_rounded(capable, op):
    x, w = np.round(4 * X) / 4, np.eye(3, 4, dtype=np.float32).reshape(1, 1, 3, 4)  # numbers that float16 has

    def run(half):
        t = ts.tensor(x, capable, requires_grad=True)
        with ts.precision("exact"), ts.autocast(enabled=half):
            y = op(ts.ops.conv2d(t, w))
        assert y.dtype == (np.float16 if half else np.float32)
        y.backward(np.round(normal(y.shape, 7, np.float32) * 2))
        return y.numpy().astype(np.float32), t.grad.numpy()

    for got, expected in zip(run(True), run(False)):
        assert np.abs(got - expected).max() <= 2e-3 * np.abs(expected).max()


def test_a_function_that_knows_no_half_gets_float32(capable):
    class Square(ts.Function):
        def forward(self, x):
            self.x = x
            assert x.dtype == np.float32
            return x * x

        def backward(self, dy):
            return 2 * self.x * dy

    x = ts.tensor(X, capable, requires_grad=True)
    with ts.autocast():
        y = ts.ops.conv2d(x, ts.tensor(normal((1, 1, 3, 3), 0, np.float32), capable))
    Square()(y).sum().backward()
    assert y.dtype == np.float16 and x.grad.dtype == np.float32


# ------------------------------------------------------------------------------------------------ the loss's scale


def test_a_scale_saves_gradients_that_float16_would_lose(capable):
    def gradient(scale):
        x = ts.tensor(X, capable, requires_grad=True)
        with ts.autocast():
            y = ts.ops.relu(ts.ops.conv2d(x, ts.tensor(np.ones((1, 1, 3, 1), np.float32), capable)))
        (y.astype(np.float32).sum() * 1e-9 * scale).backward()
        return x.grad.numpy() / scale

    assert not gradient(1.0).any()
    got = gradient(2.0**16)
    assert np.allclose(got[got != 0], 1e-9, rtol=1e-3) and (got != 0).any()


def give(params, values):
    for p, value in zip(params, values):
        p.grad = ts.tensor(np.full(p.shape, value, np.float32), p.device)


@pytest.mark.parametrize("make", [lambda p: ts.optim.SGD(p, 0.1, momentum=0.9), lambda p: ts.optim.AdamW(p, 0.1)])
def test_scaled_steps_are_those_of_float32(device, make):
    params = [Parameter(normal(s, i, np.float32), device) for i, s in enumerate([(5, 3), (4,)])]
    twins = [Parameter(p.numpy(), "cpu") for p in params]
    scaler, scaled, plain = ts.amp.LossScaler(2.0**10), make(params), make(twins)
    for i in range(3):
        give(params, [1024 * (1.0 + i), 1024 * -0.5])
        give(twins, [1.0 + i, -0.5])
        ts.optim.clip_grad_norm(twins, 2.0)
        plain.step(0.7)
        assert scaler.step(scaled, 0.7, max_norm=2.0)
    for p, q in zip(params, twins):
        assert np.allclose(p.numpy(), q.numpy(), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_overflow_skips_the_step_and_says_so(device, bad):
    params = [Parameter(normal((3, 2), 0, np.float32), device), Parameter(normal((2,), 1, np.float32), device)]
    optimizer, scaler = ts.optim.Adam(params, 0.1), ts.amp.LossScaler(1024.0, patience=2)
    before = [p.numpy() for p in params]
    give(params, [1.0, bad])
    assert not scaler.step(optimizer)
    assert scaler.message == "a gradient is nan or inf in float16: the step is skipped, the loss's scale is now 512"
    assert all(np.array_equal(p.numpy(), b) for p, b in zip(params, before))
    assert optimizer.state_dict() == {}  # not counted, either
    for expected in (512, 1024, 1024, 2048):
        give(params, [1.0, 1.0])
        assert scaler.step(optimizer) and scaler.value == expected
    again = ts.amp.LossScaler()
    again.load_state_dict(scaler.state_dict())
    assert again.value == 2048 and again.good_steps == 0 and again.skipped_in_a_row == 0


def test_a_scale_that_is_none():
    with pytest.raises(ValueError, match="LossScaler: got scale 0"):
        ts.amp.LossScaler(0)


def test_an_overflow_leaves_the_running_statistics_alone(capable):
    norm = BatchNorm2d(4).to(capable)
    w = ts.tensor(np.full((1, 1, 3, 4), 1e5, np.float32), capable)  # inf in float16
    with ts.autocast():
        y = norm(ts.ops.conv2d(ts.tensor(X, capable), w))
    assert not np.isfinite(y.numpy()).all()
    assert all(np.isfinite(a).all() for a in norm.state_dict().values())


def test_training_in_half_follows_training_in_float32(capable):
    def train(device, half):
        model, losses = network(device), []
        optimizer, scaler = ts.optim.SGD(model.parameters(), 0.1), ts.amp.LossScaler(2.0**12)
        for _ in range(6):
            with ts.autocast(enabled=half):
                loss = loss_of(model)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            assert scaler.step(optimizer)
            losses.append(loss.item())
        return losses

    plain, half = train("cpu", False), train(capable, True)
    assert plain[-1] < 0.8 * plain[0]
    assert np.allclose(plain, half, rtol=1e-2)
