"""The loop's parts that need no data: a step with a scaled loss, and the mean of losses some of which were skipped."""

import math

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.amp import LossScaler
from tinyseg.checkpoint import read
from tinyseg.cli import main
from tinyseg.device import Cpu
from tinyseg.nn import Parameter
from tinyseg.ops.cross_entropy import CrossEntropy
from tinyseg.train.loop import mean_loss, update_scaled


def test_a_loss_that_is_nan_updates_nothing_and_lowers_the_scale():
    p = Parameter(np.ones(3))
    optimizer, scaler = ts.optim.SGD([p], lr=0.5), LossScaler(8.0)
    loss = (p * 2.0).sum()
    assert not update_scaled(scaler, loss, math.nan, optimizer, 1.0, 0.0)
    assert scaler.value == 4 and "the loss is nan or inf" in scaler.message and np.array_equal(p.numpy(), np.ones(3))
    assert update_scaled(scaler, loss, loss.item(), optimizer, 1.0, 0.0)
    assert np.array_equal(p.numpy(), np.zeros(3)) and scaler.skipped_in_a_row == 0


def test_skipped_steps_do_not_count_in_the_mean():
    assert mean_loss([1.0, math.nan, 3.0, math.inf]) == 2
    assert math.isnan(mean_loss([math.nan]))


def test_amp_on_the_cpu_says_that_it_computes_in_float32(tmp_path, capsys):
    out = str(tmp_path / "a")
    assert (
        main(["train", "--out", out, "--amp", "--device", "cpu", "--width", "4", "--batch", "2", "--steps", "2"]) == 0
    )
    assert "--amp: device cpu has no arithmetic of 16 bits, it computes in float32" in capsys.readouterr().out
    state = read(tmp_path / "a" / "last.npz")[0]["training"]["at"]["scaler"]
    assert state == {"value": 2.0**16, "good_steps": 2, "skipped_in_a_row": 0}


@pytest.mark.parametrize("labels", [[], ["--supervision", "scribbles", "tags"]])
def test_what_is_sent_ahead_is_what_the_loss_asks_for(tmp_path, monkeypatch, labels):
    sent, asked, array = [], [], Cpu.array
    monkeypatch.setattr(Cpu, "send", lambda self, host: sent.append(host))
    monkeypatch.setattr(Cpu, "array", lambda self, host, *dtype: asked.append(host) or array(self, host, *dtype))
    on_device = CrossEntropy._on_device  # which on the CPU takes an array as it is
    monkeypatch.setattr(CrossEntropy, "_on_device", lambda self, a: asked.append(a) or on_device(self, a))
    words = ["--device", "cpu", "--width", "4", "--batch", "2", "--steps", "3", "--workers", "1"]
    assert main(["train", "--out", str(tmp_path / "a"), *words, *labels]) == 0
    found = {id(host) for host in asked}  # all are alive: these lists hold them
    used = [host for host in sent if id(host) in found]
    assert len(used) == (3 if labels else 6) and {host.ndim for host in used} == ({4} if labels else {4, 3})
