"""Recipes: how a paper trained its model, as plain data beside the model.

    recipe = ts.models.recipe("fcn8s")        what `tinyseg models fcn8s` prints and `tinyseg train --recipe paper` does

Caffe's older networks sum the loss over the n labelled pixels of a batch where tinyseg takes their mean. A step of SGD
on the sum, w -= lr (n g + decay w), is one on the mean with

    lr' = n lr,     decay' = decay / n,

momentum unchanged: `for_mean_loss`. So FCN's 1e-10 on 500x375 pixels is 1.9e-5 here.
"""

from dataclasses import dataclass, replace

from ..nn import BatchNorm2d, Module


@dataclass(frozen=True)
class Recipe:
    """One training recipe; numbers are the paper's (or its release's: `notes` say where the two differ).

    Rates: `lr` with `schedule` "constant", "poly" (power 0.9) or "step" (times `gamma` at each of `milestones`, shares
    of the run). `lr_factors`: times lr for the parameters whose name begins so, the longest prefix counts. Biases and
    batch norm are not decayed unless `decay_all`. crop None: whole images. mean, std: of pixels in [0, 1], None: the
    usual ones of ImageNet. aux_weights: of the logits that the model returns in training behind the first.
    warm_start: the model to begin from.
    """

    paper: str
    batch: int
    lr: float
    steps: int
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_all: bool = False
    schedule: str = "constant"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    lr_factors: tuple[tuple[str, float], ...] = ()
    bias_lr: float = 1.0
    crop: tuple[int, int] | None = None
    augment: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    loss: str = "cross_entropy"
    sum_of_pixels: bool = False
    aux_weights: tuple[float, ...] = ()
    class_weights: str | None = None
    frozen_batch_norm: bool = False
    batch_norm_pass: bool = False
    pretrained: str = ""
    warm_start: str | None = None
    notes: tuple[str, ...] = ()

    def for_mean_loss(self, pixels: int) -> "Recipe":
        """This recipe for a loss that is a mean over `pixels`, the labelled pixels of a batch."""
        if not self.sum_of_pixels:
            return self
        return replace(self, lr=self.lr * pixels, weight_decay=self.weight_decay / pixels, sum_of_pixels=False)

    def groups(self, model: Module, lr: float | None = None) -> list[dict]:
        """The model's trained parameters as an optimiser takes them: groups of one lr and one weight_decay each.

        `lr` in place of the recipe's. Parameters that require no gradient (frozen) are left out.

        Example:
            optimizer = ts.optim.SGD(recipe.groups(model), lr=recipe.lr, momentum=recipe.momentum)
        """
        lr = self.lr if lr is None else lr
        groups = {}
        for name, p in model.named_parameters():
            if not p.requires_grad:
                continue
            rate = lr * self.factor(name) * (self.bias_lr if name.endswith("bias") else 1)
            decay = self.weight_decay if p.ndim > 1 or self.decay_all else 0.0
            groups.setdefault((rate, decay), []).append(p)
        return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]

    def factor(self, name: str) -> float:
        """Times lr for the parameter of this name."""
        fitting = [(prefix, factor) for prefix, factor in self.lr_factors if name.startswith(prefix)]
        return max(fitting, key=lambda item: len(item[0]))[1] if fitting else 1.0

    def prepare(self, model: Module) -> None:
        """Freeze the batch norms where the recipe says so; before an optimiser is made."""
        if self.frozen_batch_norm:
            for module in model.modules():
                if isinstance(module, BatchNorm2d):
                    module.freeze()

    def __str__(self):
        """A few lines to read, for `tinyseg models NAME`."""
        rate = f"lr {self.lr:g}" + (" on the loss summed over pixels" if self.sum_of_pixels else "")
        steps = " ".join(f"{100 * m:g}%" for m in self.milestones)
        rate += {"constant": ", constant", "poly": ", poly 0.9"}.get(self.schedule, f", x{self.gamma:g} at {steps}")
        factors = [f"{prefix} x{factor:g}" for prefix, factor in self.lr_factors]
        factors += [f"biases x{self.bias_lr:g}"] * (self.bias_lr != 1)
        size = "whole images" if self.crop is None else "crops of {} x {}".format(*self.crop)
        told = [
            f"{self.optimizer}, momentum {self.momentum:g}, weight decay {self.weight_decay:g}, {rate}",
            f"{self.steps:,} steps of {self.batch} ({size}), augmentation: {', '.join(self.augment) or 'none'}",
            f"loss: {self.loss}" + (f", classes weighed by {self.class_weights} frequency" * bool(self.class_weights)),
        ]
        told += [f"learning rates: {', '.join(factors)}"] * bool(factors)
        told += [f"auxiliary losses times {', '.join(f'{w:g}' for w in self.aux_weights)}"] * bool(self.aux_weights)
        told += ["batch norm frozen"] * self.frozen_batch_norm
        told += ["batch-norm statistics by one pass over the training images after training"] * self.batch_norm_pass
        told += [f"begins from {self.pretrained}"] * bool(self.pretrained)
        told += [f"warm start from {self.warm_start}"] * bool(self.warm_start)
        return "\n".join([self.paper, *(f"  {line}" for line in (*told, *self.notes))])
