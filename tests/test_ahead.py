"""Compiling ahead: what is compiled, and when a second process is started for it."""

import gc
import subprocess

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import ahead, jit
from tinyseg.device import Cpu
from tinyseg.native import Native


def test_a_training_step_finds_its_kernels_compiled(monkeypatch, tmp_path):
    monkeypatch.setattr(jit, "ahead_mark", lambda: tmp_path / "mark")
    for native in (o for o in gc.get_objects() if type(o) is Native):
        monkeypatch.setattr(native, "versions", {})  # what other tests have compiled in this process
    ahead.main()
    assert (tmp_path / "mark").exists()
    compiled, call = [], Native.__call__

    def count(self, *args):
        before = len(self.versions)
        call(self, *args)
        compiled.extend([self.body.__name__] * (len(self.versions) - before))

    monkeypatch.setattr(Native, "__call__", count)
    model = ts.models.UNet(num_classes=5, width=32, depth=3)
    optimizer = ts.optim.AdamW(model.parameters())
    loss = ts.losses.cross_entropy(model(np.ones((1, 32, 32, 3), np.float32)), np.zeros((1, 32, 32), np.int32))
    loss.backward()
    optimizer.step()
    assert compiled == []


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The commands of processes that would be started, with an empty cache folder and two cores."""
    commands = []

    class Process:
        def __init__(self, command, **options):
            commands.append((command[-1], options["env"]))

    monkeypatch.setenv("TINYSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(jit.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(jit.atexit, "register", lambda *args: None)
    return commands


def test_the_first_optimiser_starts_a_helper(started):
    cpu = Cpu()
    for _ in range(2):
        cpu.prepare()
    ((module, environment),) = started
    assert module == "tinyseg.ahead" and environment["NUMBA_NUM_THREADS"] == "1"


def test_none_is_started_where_it_would_not_help(started, monkeypatch):
    jit.cache_folder().mkdir()
    jit.ahead_mark().touch()
    jit.compile_ahead()
    jit.ahead_mark().unlink()
    monkeypatch.setattr(jit.os, "sched_getaffinity", lambda _: {0}, raising=False)
    jit.compile_ahead()
    monkeypatch.setattr(jit, "cache_folder", lambda: None)
    jit.compile_ahead()
    assert started == []


def test_a_helper_that_cannot_be_started_is_done_without(started, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError

    monkeypatch.setattr(subprocess, "Popen", refuse)
    jit.compile_ahead()
