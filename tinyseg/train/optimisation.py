"""The optimiser and the policy of its learning rate, as the options of `tinyseg train` say, or the model's recipe."""

from argparse import Namespace
from dataclasses import replace

from .. import models, optim
from ..models import Recipe

OPTIMIZERS = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}


def recipe_of(options: Namespace) -> Recipe | None:
    """The recipe to follow: with --recipe paper, that of the model's paper."""
    return models.recipe(options.model) if options.recipe else None


def follow(options: Namespace, labelled: int) -> None:
    """Set the --lr and --weight-decay that were not given to the recipe's, for a mean over `labelled` pixels a step."""
    if recipe := recipe_of(options):
        recipe = recipe.for_mean_loss(labelled)
        options.lr = recipe.lr if options.lr is None else options.lr
        options.weight_decay = recipe.weight_decay if options.weight_decay is None else options.weight_decay


def make_optimizer(options: Namespace, model) -> optim.Optimizer:
    """--optimizer with --lr and --weight-decay; vectors are not decayed. Or the recipe's groups."""
    recipe = recipe_of(options) or Recipe("", options.batch, options.lr, 1)
    groups = replace(recipe, weight_decay=options.weight_decay).groups(model, options.lr)
    if options.optimizer == "sgd":
        return optim.SGD(groups, lr=options.lr, momentum=recipe.momentum)
    return OPTIMIZERS[options.optimizer](groups, lr=options.lr)


def make_schedule(options: Namespace, steps: int) -> optim.Schedule:
    """--schedule over the whole run, after --warmup steps."""
    recipe = recipe_of(options)
    shares, gamma = (recipe.milestones, recipe.gamma) if recipe and recipe.milestones else ((0.5, 0.75), 0.1)
    schedule = {
        "constant": optim.constant(),
        "poly": optim.poly(steps),
        "cosine": optim.cosine(steps),
        "step": optim.step([int(steps * share) for share in shares], gamma),
    }[options.schedule]
    return optim.warm_up(schedule, options.warmup) if options.warmup else schedule
