import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numba import prange
from numpy.testing import assert_array_equal

import tinyseg as ts
from tinyseg.device import Device, get_device, usable_devices
from tinyseg.kernel import kernel


@kernel
def axpy(y, x, a):
    """y[i] += a x[i]. Parallel over i."""
    for i in prange(y.size):
        y[i] += a * x[i]


def test_a_name_is_one_object():
    cpu = get_device("cpu")
    assert cpu is get_device("cpu") is get_device(cpu) and cpu.name == "cpu" and cpu.xp is np
    assert repr(cpu) == "device('cpu')" and cpu == get_device("cpu") and len({cpu, get_device("cpu")}) == 1
    assert cpu != "cpu"
    usable = usable_devices()["cuda"].startswith("usable")
    assert get_device("auto") is get_device("cuda" if usable else "cpu")


def test_names_that_are_none():
    for name in ("gpu", "cpu:0", "emulated:1", "cuda:", "cuda:x", ""):
        with pytest.raises(ValueError, match=f"device '{name}' is unknown: expected 'cpu', 'cuda', 'cuda:1'"):
            get_device(name)
    with pytest.raises(ValueError, match="device 'tpu' is unknown"):
        ts.tensor([1.0], device="tpu")


def test_the_devices_of_this_machine_in_words():
    devices = usable_devices()
    assert set(devices) == {"cpu", "cuda", "emulated"} and devices["cpu"].startswith("usable: ")
    for name in ("cuda", "emulated"):
        if not devices[name].startswith("usable"):
            with pytest.raises(RuntimeError, match=f"device '{name}'"):
                get_device(name)


def test_arrays(device):
    host = np.arange(6.0).reshape(2, 3)
    a = device.array(host.T)
    assert a.shape == (3, 2) and a.flags.c_contiguous and a.dtype == np.float64
    assert_array_equal(device.numpy(a), host.T)
    assert device.array([1, 2], np.float32).dtype == np.float32
    host[...] = 0
    assert device.numpy(a)[2, 1] == 5
    b = device.copy(a[1:])
    assert b.flags.c_contiguous and device.owner(b) != device.owner(a) == device.owner(a[1:].reshape(-1))
    assert_array_equal(device.numpy(b), device.numpy(a)[1:])
    assert_array_equal(device.numpy(device.zeros((3, 500))), np.zeros((3, 500), np.float32))
    assert device.empty((4, 1000), np.int32).dtype == np.int32


def test_host_copies_are_copies(device):
    a = device.zeros(5)
    host = device.numpy(a)
    host[0] = 1
    assert device.numpy(a)[0] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_launch_on_cpu(dtype):
    cpu = get_device("cpu")
    y, x = cpu.zeros(1001, dtype), cpu.array(np.arange(1001), dtype)
    cpu.launch(axpy, y, x, dtype(0.5))
    cpu.launch(axpy, y, x, dtype(0.5))
    assert_array_equal(y, np.arange(1001))


def test_launches_from_several_threads_wait_for_each_other():
    running, overlaps = [], []

    class Slow:
        @staticmethod
        def compiled(k):
            overlaps.extend(running)
            running.append(k)
            time.sleep(0.01)
            running.remove(k)

    threads = [threading.Thread(target=get_device("cpu").launch, args=(Slow, k)) for k in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not overlaps and not running


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_computes_on():
    cpu = get_device("cpu")
    x = cpu.array(np.arange(100_000), np.float32)

    def right():
        y = cpu.zeros(x.size)
        cpu.launch(axpy, y, x, np.float32(0.5))
        return bool((y == x / 2).all())

    assert right()  # now there is a team of threads
    done = threading.Event()
    beside = threading.Thread(target=lambda: [right() for _ in iter(done.is_set, True)])
    beside.start()
    try:
        for _ in range(3):
            child = os.fork()
            if not child:
                os._exit(0 if right() else 1)
            assert ended(child) == 0
    finally:
        done.set()
        beside.join()


def ended(child, seconds=60):
    """The exit code of a process, minus the signal that ended it; None, and it is killed, where it does not end."""
    for _ in range(seconds * 50):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_device_must_say_how():
    class Nothing(Device):
        name = "nothing"

    d = Nothing()
    for call in (
        lambda: d.empty(1),
        lambda: d.array([1]),
        lambda: d.numpy(1),
        lambda: d.owner(1),
        lambda: d.launch(axpy),
    ):
        with pytest.raises(NotImplementedError):
            call()


def test_tensors_of_two_devices_do_not_mix():
    class Elsewhere(type(get_device("cpu"))):
        name = "elsewhere"

    x = ts.tensor([1.0])
    there = x.to(Elsewhere())
    assert there.device.name == "elsewhere" and there.numpy().tolist() == [1]
    with pytest.raises(ValueError, match=r"Add: inputs are on 'cpu' and 'elsewhere'; cure: x.to\(...\)"):
        x + there
    assert (there + 1).device.name == "elsewhere"


def test_cupy_is_not_loaded_for_the_cpu():
    work = "import sys, tinyseg as ts; ts.tensor([1.0], 'cpu') + 1; sys.exit('cupy' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(ts.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", work], env=environment, check=False).returncode == 0


def test_a_copy_or_pickle_of_what_holds_a_device_is_on_the_same_one():
    model = ts.nn.Sequential(ts.nn.Conv2d(2, 3, 3), ts.nn.Dropout(0.5))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin[0].weight.device is get_device("cpu") and twin[0].weight is not model[0].weight
        assert_array_equal(twin[0].weight.numpy(), model[0].weight.numpy())
        twin[0].weight.data.fill(0)
        assert model[0].weight.numpy().any()


def test_a_user_without_a_home_only_has_no_cache(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    for name in ("TINYSEG_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert "not cached (no home folder" in ts.device.usable_devices()["cpu"]


def test_a_check_raises_what_it_found(device):
    found = device.array([3, 1, 2])
    device.check(found, lambda host: ValueError("below 1") if host.min() < 1 else None)
    device.numpy(found)
    with pytest.raises(ValueError, match="below 2"):
        device.check(found, lambda host: ValueError("below 2") if host.min() < 2 else None)
        device.numpy(found)  # a device that works ahead raises here
