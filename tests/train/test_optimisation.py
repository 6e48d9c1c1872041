import pytest

import tinyseg as ts
from tinyseg.train.optimisation import OPTIMIZERS, make_optimizer, make_schedule

from .options import options


@pytest.mark.parametrize("name", ["constant", "poly", "cosine", "step"])
def test_schedules_begin_at_one_and_do_not_rise(name):
    schedule = make_schedule(options(schedule=name), 100)
    factors = [schedule(i) for i in range(100)]
    assert factors[0] == 1 and all(a >= b >= 0 for a, b in zip(factors, factors[1:]))
    warm = make_schedule(options(schedule=name, warmup=10), 100)
    assert 0 < warm(0) < 0.2 and warm(50) == schedule(50)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_biases_are_not_decayed(name):
    optimizer = make_optimizer(options(optimizer=name, weight_decay=0.5), ts.models.create("unet", 2, width=2))
    decay = {p.ndim > 1: group["weight_decay"] for group in optimizer.groups for p in group["params"]}
    assert decay == {True: 0.5, False: 0.0}
