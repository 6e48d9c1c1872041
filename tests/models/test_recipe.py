"""Recipes: what they mean for an optimiser, and that a sum over pixels is converted as it should be."""

from dataclasses import fields

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import models, nn
from tinyseg.models import Recipe


class Small(nn.Module):
    def __init__(self):
        self.backbone = nn.Sequential(nn.Conv2d(2, 3, 3, seed=0), nn.BatchNorm2d(3))
        self.head = nn.Conv2d(3, 2, 1, seed=1)

    def forward(self, x):
        return self.head(self.backbone(x))


def test_groups_by_rate_and_decay():
    recipe = Recipe("a paper", 4, 0.1, 100, lr_factors=(("head", 10), ("head.b", 5)), bias_lr=2, weight_decay=1e-3)
    model = Small()
    found = {id(p): (g["lr"], g["weight_decay"]) for g in recipe.groups(model) for p in g["params"]}
    names = {name: found[id(p)] for name, p in model.named_parameters()}
    assert names["backbone.0.weight"] == (0.1, 1e-3) and names["backbone.0.bias"] == (0.2, 0)
    assert names["head.weight"] == (1.0, 1e-3) and names["head.bias"] == (1.0, 0)
    assert names["backbone.1.weight"] == (0.1, 0)
    recipe = Recipe("a paper", 4, 0.1, 100, frozen_batch_norm=True, decay_all=True)
    recipe.prepare(model)
    groups = recipe.groups(model, lr=3)
    assert sum(len(g["params"]) for g in groups) == 4 and all(g["lr"] == 3 for g in groups)
    assert {g["weight_decay"] for g in groups} == {5e-4}


def test_a_step_on_the_sum_is_a_step_on_the_mean_with_the_converted_recipe():
    """Caffe's update is lr (gradient + decay w), momentum folded into both: equal for a constant rate."""
    recipe = Recipe("FCN", 2, 1e-5, 10, momentum=0.99, weight_decay=0.5, decay_all=True, sum_of_pixels=True)
    rng, weights = np.random.default_rng(0), []
    x, target = rng.standard_normal((2, 6, 5, 2)).astype(np.float32), rng.integers(0, 2, (2, 4, 3)).astype(np.int32)
    target[0, 0] = 255
    labelled = int((target != 255).sum())
    for r, reduction in ((recipe, "sum"), (recipe.for_mean_loss(labelled), "mean")):
        model = Small()
        optimizer = ts.optim.SGD(r.groups(model), lr=r.lr, momentum=r.momentum)
        for _ in range(3):
            optimizer.zero_grad()
            ts.ops.cross_entropy(model(ts.tensor(x)), target, reduction=reduction).backward()
            optimizer.step()
        weights.append(model.state_dict())
    for name, value in weights[0].items():
        np.testing.assert_allclose(value, weights[1][name], rtol=2e-5, atol=1e-7, err_msg=name)
    assert r.for_mean_loss(7) is r


@pytest.mark.parametrize("name", [n for n in models.names() if hasattr(models.MODELS[n], "recipe")])
def test_every_recipe_is_one_that_training_knows(name):
    recipe = models.recipe(name)
    assert recipe.optimizer in ("sgd", "adam", "adamw") and recipe.schedule in ("constant", "poly", "step")
    assert set(recipe.augment) <= {"flip", "vflip", "rotate", "elastic", "scale", "color", "blur"}
    assert recipe.class_weights in (None, "median") and recipe.warm_start in (None, *models.names())
    assert recipe.batch >= 1 and recipe.lr > 0 and recipe.steps >= 1 and recipe.paper in str(recipe)
    for field in fields(recipe):  # plain data: nothing that could not be printed or written down
        assert isinstance(getattr(recipe, field.name), str | int | float | bool | tuple | None), field.name


def test_a_model_without_one_says_who_has_one():
    with pytest.raises(ValueError, match="'nothing' has none; there are those of unet"):
        models.recipe("nothing")
