"""The optimiser and the policy of its learning rate, as the options of `tinyseg train` say."""

from argparse import Namespace

from .. import optim

OPTIMIZERS = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}


def make_optimizer(options: Namespace, model) -> optim.Optimizer:
    """--optimizer with --lr and --weight-decay; vectors (biases, batch norm) are not decayed."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}]
    groups += [{"params": vectors, "weight_decay": 0.0}] * bool(vectors)
    if options.optimizer == "sgd":
        return optim.SGD(groups, lr=options.lr, momentum=0.9)
    return OPTIMIZERS[options.optimizer](groups, lr=options.lr)


def make_schedule(options: Namespace, steps: int) -> optim.Schedule:
    """--schedule over the whole run, after --warmup steps."""
    schedule = {
        "constant": optim.constant(),
        "poly": optim.poly(steps),
        "cosine": optim.cosine(steps),
        "step": optim.step([steps // 2, steps * 3 // 4]),
    }[options.schedule]
    return optim.warm_up(schedule, options.warmup) if options.warmup else schedule
