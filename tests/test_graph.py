"""graph: a call does what the function does; what a replay could not do is refused; how a GPU is asked to capture."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.cuda.copies import LARGE, Copies
from tinyseg.cuda.gpu import Gpu
from tinyseg.device import Cuda
from tinyseg.nn import Conv2d, Dropout, Sequential

from .cuda.fake_gpu import FakeCuda
from .strategies import normal


def test_inference_gives_what_the_model_gives(device):
    model = Sequential(Conv2d(3, 4, 3)).to(device)
    x, other = (ts.tensor(normal((2, 6, 7, 3), i, np.float32), device) for i in range(2))
    predict = ts.graph(model, x)
    for images in (x, other, x):
        assert np.array_equal(predict(images).numpy(), model(images).numpy())
    assert np.array_equal(predict(x.numpy()).numpy(), model(x).numpy())  # an array goes to the device


def test_a_training_step_moves_as_it_does_without_a_graph(device):
    x = [ts.tensor(normal((2, 6, 7, 3), i, np.float32), device) for i in range(3)]
    y = [ts.tensor((normal((2, 4, 5), i) > 0).astype(np.int32), device) for i in range(3)]

    def train(captured):
        model = Sequential(Conv2d(3, 2, 3, seed=1)).to(device)
        optimizer, scaler = ts.optim.SGD(model.parameters(), 0.1), ts.amp.LossScaler(64.0)

        def forward_backward(images, masks):
            optimizer.zero_grad()
            loss = ts.ops.cross_entropy(model(images), masks)
            scaler.scale(loss).backward()
            return loss

        step = ts.graph(forward_backward, x[0], y[0]) if captured else forward_backward
        losses = []
        for images, masks in zip(x, y):
            losses.append(step(images, masks).item())
            assert scaler.step(optimizer)
        return losses, [p.numpy() for p in model.parameters()]

    (plain, weights), (captured, same) = train(False), train(True)
    assert plain == captured and all(map(np.array_equal, weights, same))


def test_inputs_that_do_not_fit():
    step = ts.graph(lambda a, b: a + b, np.ones((2, 3), np.float32), np.ones(3, np.float32))
    with pytest.raises(TypeError, match="graph: got 1 inputs, it was captured with 2"):
        step(np.ones((2, 3), np.float32))
    with pytest.raises(
        ValueError, match=r"graph: input 1 is float32 \(4,\), it was captured with float32 \(3,\); cure"
    ):
        step(np.ones((2, 3), np.float32), np.ones(4, np.float32))
    with pytest.raises(ValueError, match=r"graph: input 0 is float64 \(2, 3\), it was captured with float32 \(2, 3\)"):
        step(ts.tensor(np.ones((2, 3)), dtype=np.float64), np.ones(3, np.float32))
    with pytest.raises(TypeError, match="graph: got no inputs"):
        ts.graph(lambda: None)


# ------------------------------------------------------------------------------ a GPU that only notes what is asked


@pytest.fixture
def gpu():
    gpu = object.__new__(Gpu)
    gpu.cupy = type("cupy", (), {"cuda": FakeCuda()})
    gpu.use, gpu.copies = lambda: None, Copies(gpu.cupy.cuda)
    return gpu


@pytest.fixture
def cuda(gpu):
    device = object.__new__(Cuda)
    device.name, device.gpu, device.xp = "cuda", gpu, np
    device._pending, device._lock, device._thread = [], threading.Lock(), threading.local()
    return device


def test_a_function_runs_twice_and_is_recorded_once(cuda):
    log = cuda.gpu.cupy.cuda.log
    replay = cuda.captured(lambda: log.append("run while capturing" if cuda.capturing else "run"))
    order = ["run", "run", "synchronize", "enter stream", "own pool", "begin", "run while capturing", "end"]
    assert log == [*order, "common pool", "leave stream"] and not cuda.capturing
    replay(), replay()
    assert log[-2:] == ["launch", "launch"]


def test_what_a_replay_could_not_do_is_refused(cuda):
    def refused(call):
        def run():
            if cuda.capturing:
                call()

        with pytest.raises(RuntimeError) as error:
            cuda.captured(run)
        assert not cuda.capturing and cuda.gpu.copies._thread.kept is None  # and the device works on
        return str(error.value)

    p = ts.nn.Parameter(np.ones(3))
    p.device = cuda
    assert "a value is read on the host" in refused(lambda: cuda.numpy(np.ones(3)))
    assert "SGD.step: inside a graph" in refused(lambda: ts.optim.SGD([p], 0.1).step())
    x = ts.Tensor(np.ones((2, 3), np.float32), cuda)
    assert "dropout: inside a graph every replay" in refused(lambda: Dropout(0.5)(x))


def test_a_capture_that_fails_says_what_went_wrong_in_it(cuda, monkeypatch):
    fake = cuda.gpu.cupy.cuda
    broken = type("Stream", (fake.Stream,), {"end_capture": lambda self: (_ for _ in ()).throw(
        fake.runtime.CUDARuntimeError("cudaErrorStreamCaptureInvalidated"))})  # fmt: skip
    monkeypatch.setattr(fake, "Stream", broken)
    with pytest.raises(MemoryError, match="out of memory"):
        cuda.captured(lambda: cuda.capturing and (_ for _ in ()).throw(MemoryError("out of memory")))
    with pytest.raises(fake.runtime.CUDARuntimeError, match="Invalidated"):
        cuda.captured(lambda: None)
    assert not cuda.capturing


def test_a_capture_keeps_what_its_copies_read(cuda):
    fake, host = cuda.gpu.cupy.cuda, np.ones(LARGE, np.float32)
    target = SimpleNamespace(data=fake.alloc(host.nbytes))
    replay = cuda.captured(lambda: cuda.gpu.upload(target, host))
    fake.drain()
    streams = [stream for _, stream in fake.copies]
    assert len(streams) == 3 and streams[:2] == [cuda.gpu.copies.stream] * 2 and streams[2] not in streams[:2]
    cuda.gpu.copies._release()
    assert not cuda.gpu.copies._held and len(fake.pinned[host.nbytes]) == 1  # one of two: the graph's is not free
    del replay
    assert len(fake.pinned[host.nbytes]) == 2


def test_another_thread_may_copy_and_read_during_a_capture(cuda):
    def elsewhere():
        host = np.full(4, 7, np.float32)
        target = SimpleNamespace(data=cuda.gpu.cupy.cuda.alloc(host.nbytes))
        cuda.gpu.upload(target, host)
        seen.append(cuda.capturing)

    def run():
        if cuda.capturing:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()

    seen = []
    cuda.captured(run)
    fake = cuda.gpu.cupy.cuda
    assert seen == [False] and fake.copies == [(16, fake.default)]


def test_every_replay_is_checked(cuda):
    """Also one whose finding the next replay has written over."""
    cuda.xp, found = SimpleNamespace(asnumpy=np.asarray), np.zeros(1, np.int32)
    cuda.copy = np.copy
    replay = cuda.captured(lambda: cuda.check(found, lambda n: ValueError(f"bad class {n[0]}") if n[0] else None))
    replay()
    cuda.numpy(found)  # all is well
    found[0] = 7  # as a launch of the next replay would leave it
    replay()
    found[0] = 0
    replay()
    with pytest.raises(ValueError, match="bad class 7"):
        cuda.numpy(found)
    assert not cuda._pending


def test_checks_from_several_threads_are_all_made(cuda):
    def work():
        for _ in range(500):
            cuda.check(np.zeros(1), lambda found: made.append(1) if len(made) < 10**6 else None)

    made, cuda.xp = [], SimpleNamespace(asnumpy=np.asarray)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuda.numpy(np.zeros(1))
    assert len(made) == 2000 and not cuda._pending
