"""The optimiser and its learning rate: from the options, and from the recipe of a paper."""

import argparse

import pytest

import tinyseg as ts
from tinyseg.cli.train import complete
from tinyseg.train.optimisation import OPTIMIZERS, follow, make_optimizer, make_schedule, recipe_of

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


def test_the_recipe_of_the_paper_sets_what_was_not_given():
    full = complete(argparse.Namespace(recipe="paper", model="fcn8s", batch=2, command_line=""))
    assert (full.batch, full.steps, full.optimizer, full.schedule) == (2, 100_000, "sgd", "constant")
    assert full.lr is None and full.augment == [] and full.epochs is None and full.crop is None
    follow(full, labelled=1000)
    assert full.lr == pytest.approx(1e-14 * 1000) and full.weight_decay == pytest.approx(5e-4 / 1000)
    model = ts.models.create("fcn8s", 2, width=1)
    optimizer = make_optimizer(full, model)
    rates = {
        name: g["lr"]
        for name, p in model.named_parameters()
        for g in optimizer.groups
        if any(p is q for q in g["params"])
    }
    assert rates["score_fr.bias"] == 2 * rates["score_fr.weight"] == pytest.approx(2e-11)
    assert {g["momentum"] for g in optimizer.groups} == {0.99}
    full = complete(
        argparse.Namespace(recipe="paper", model="segnet", epochs=3, lr=0.5, weight_decay=0.25, command_line="")
    )
    follow(full, labelled=1000)
    assert (full.lr, full.weight_decay, full.epochs, full.steps) == (0.5, 0.25, 3, None)
    assert full.class_weights == "median" and recipe_of(full).batch_norm_pass


def test_milestones_of_a_recipe(monkeypatch):
    recipe = ts.models.Recipe("a paper", 1, 0.1, 10, schedule="step", milestones=(0.2,), gamma=0.5)
    monkeypatch.setattr(ts.models.UNet, "recipe", recipe)
    schedule = make_schedule(options(schedule="step", recipe="paper", model="unet"), 100)
    assert [schedule(i) for i in (0, 19, 20, 99)] == [1, 1, 0.5, 0.5]
