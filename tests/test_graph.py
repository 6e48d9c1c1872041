"""graph: a call does what the function does; what a replay could not do is refused; how a GPU is asked to capture."""

from contextlib import contextmanager

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.cuda.gpu import Gpu
from tinyseg.device import Cuda
from tinyseg.nn import Conv2d, Dropout, Sequential

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
    with pytest.raises(TypeError, match="graph: got no inputs"):
        ts.graph(lambda: None)


# ------------------------------------------------------------------------------ a GPU that only notes what is asked


class FakeCuda:
    """As much of cupy.cuda as a capture and an upload need."""

    def __init__(self):
        self.log, self.done = [], False
        self.MemoryPool = type("MemoryPool", (), {"malloc": staticmethod(lambda size: None)})
        log = self.log

        class Stream:
            def __init__(self, non_blocking=False):
                pass

            def __enter__(self):
                log.append("enter stream")

            def __exit__(self, *_):
                log.append("leave stream")

            def synchronize(self):
                log.append("synchronize")

            def begin_capture(self):
                log.append("begin")

            def end_capture(self):
                log.append("end")
                return type("Graph", (), {"launch": lambda self, stream: log.append("launch")})()

        class Event:
            done = property(lambda event: self.done)

            def __init__(self, disable_timing):
                pass

            def record(self, stream):
                log.append("record")

        self.Stream, self.Event, self.stream = Stream, Event, Stream()

    def get_current_stream(self):
        return self.stream

    @contextmanager
    def using_allocator(self, malloc):
        self.log.append("own pool")
        yield
        self.log.append("common pool")

    def alloc_pinned_memory(self, size):
        memory = np.empty(size, np.uint8)
        return type("Pinned", (bytearray,), {"ptr": memory.ctypes.data})(size)


@pytest.fixture
def gpu():
    gpu = object.__new__(Gpu)
    import collections

    gpu.cupy = type("cupy", (), {"cuda": FakeCuda()})
    gpu.use, gpu._under_way, gpu._kept = lambda: None, collections.deque(), None
    return gpu


@pytest.fixture
def cuda(gpu):
    device = object.__new__(Cuda)
    device.name, device.gpu, device.xp, device._pending = "cuda", gpu, np, []
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
        assert not cuda.capturing and cuda.gpu._kept is None  # and the device works on
        return str(error.value)

    p = ts.nn.Parameter(np.ones(3))
    p.device = cuda
    assert "a value is read on the host" in refused(lambda: cuda.numpy(np.ones(3)))
    assert "SGD.step: inside a graph" in refused(lambda: ts.optim.SGD([p], 0.1).step())
    x = ts.Tensor(np.ones((2, 3), np.float32), cuda)
    assert "dropout: inside a graph every replay" in refused(lambda: Dropout(0.5)(x))


class Target:
    """An array on the GPU: what comes is only noted."""

    def __init__(self):
        self.data, self.came = self, []

    def copy_from_host_async(self, address, size, stream):
        self.came.append(size)


def test_pinned_memory_is_kept_until_the_gpu_has_read_it(gpu):
    fake, target = gpu.cupy.cuda, Target()
    gpu.upload(target, np.arange(6, dtype=np.float32).reshape(2, 3))
    gpu.upload(target, np.zeros((0, 3), np.float32))  # nothing to copy
    gpu.upload(target, np.arange(3, dtype=np.int64))
    assert target.came == [24, 24] and len(gpu._under_way) == 2
    assert np.array_equal(np.frombuffer(gpu._under_way[0][1], np.float32), np.arange(6))
    fake.done = True
    gpu.upload(target, np.ones(1, np.float32))
    assert not gpu._under_way


def test_a_capture_keeps_what_its_copies_read(cuda):
    gpu, target = cuda.gpu, Target()
    cuda.captured(lambda: gpu.upload(target, np.ones(4, np.float32)))
    assert (
        target.came == [16] * 3 and len(gpu._under_way) == 2
    )  # those of the two runs before; the third is the graph's


def test_cupy_has_what_the_fake_pretends():
    cuda = pytest.importorskip("cupy").cuda
    assert all(hasattr(cuda, name) for name in ("MemoryPool", "using_allocator", "alloc_pinned_memory", "Event"))
    assert all(hasattr(cuda.Stream, name) for name in ("begin_capture", "end_capture", "synchronize"))
    assert hasattr(cuda.MemoryPointer, "copy_from_host_async") and hasattr(cuda.graph.Graph, "launch")
    assert hasattr(cuda.Event, "done") and hasattr(cuda, "get_current_stream")
