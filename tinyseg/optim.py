"""Optimisers, learning-rate schedules and gradient clipping.

    optimizer = ts.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    schedule = ts.optim.warm_up(ts.optim.poly(steps), 100)
    for i in range(steps):
        loss = ...
        optimizer.zero_grad()
        loss.backward()
        ts.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step(schedule(i))

A schedule is a function from the step's number to a factor of the learning rate: it has no state to save. Updates are
PyTorch's to the letter. A parameter without a gradient is left alone, its momentum too.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .nn.module import Parameter
from .ops.multi_tensor import CHUNK, Tables, adam_all, sgd_all, squares_all
from .ops.optimizer import adam_update, descend, sgd_update, sum_of_squares

Schedule = Callable[[int], float]


class Optimizer:
    """What SGD and Adam share: groups of parameters, their state, saving and loading.

    `params` is a list of parameters, or a list of groups `{"params": [...], "lr": ..., "weight_decay": ...}` in which
    each option that is not given has the optimiser's value. `groups` may be changed between steps. The state is made
    where the parameters are at their first step: move the model before that.
    """

    def __init__(self, params: Sequence[Parameter] | Sequence[dict], options: dict):
        params = list(params)
        if not params:
            raise ValueError(f"{type(self).__name__}: got no parameters")
        self.groups = []
        for group in params if isinstance(params[0], dict) else [{"params": params}]:
            unknown = group.keys() - options.keys() - {"params"}
            if unknown:
                raise ValueError(f"{type(self).__name__}: unknown options {sorted(unknown)}; it has {sorted(options)}")
            group = {**options, **group, "params": list(group["params"])}
            for name in ("lr", "weight_decay"):
                if not 0 <= group[name] < math.inf:
                    raise ValueError(f"{type(self).__name__}: {name} is {group[name]}, expected a number >= 0")
            self.groups.append(group)
        self.parameters = [p for group in self.groups for p in group["params"]]
        for i, p in enumerate(self.parameters):
            if not isinstance(p, Parameter):
                raise TypeError(f"{type(self).__name__}: parameter {i} is a {type(p).__name__}, expected nn.Parameter")
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise ValueError(f"{type(self).__name__}: a parameter is given twice")
        self._state: dict[int, dict] = {}  # by the parameter's place; made at its first step
        self._tables: dict[tuple, Tables] = {}
        self.parameters[0].device.prepare()

    def state_names(self, group: dict) -> tuple[str, ...]:
        """The arrays kept beside each parameter of a group."""
        raise NotImplementedError

    def step(self, factor: float = 1.0, gradient_factor: float = 1.0) -> None:
        """Update every parameter that has a gradient, with its group's learning rate times `factor`.

        Gradients count times `gradient_factor`: what is left of a loss's scale, or of clipping. Another one than 1
        may have been multiplied into p.grad afterwards, or not: gradients are used up, `zero_grad` comes next.
        """
        if any(p.device.capturing for p in self.parameters[:1]):
            raise RuntimeError(
                f"{type(self).__name__}.step: inside a graph its learning rate could never change; "
                "cure: capture forward and backward, and call step behind the graph"
            )
        work = []
        for place, (p, group) in enumerate(self._places()):
            if p.grad is not None:
                work.append((p, self._state_of(place, p, group), group))
                p.version += 1
        if work and _together([p for p, _, _ in work], self.kernel_of_all):
            device, sizes = work[0][0].device, tuple(p.size for p, _, _ in work)
            tables = self._tables.get(sizes) or self._tables.setdefault(sizes, Tables(device, sizes))
            rows = [[p.data for p, _, _ in work], [p.grad.data for p, _, _ in work]]
            rows += [[state.get(name) for _, state, _ in work] for name in self.arrays]
            numbers = [(gradient_factor, *self._numbers(s, group, group["lr"] * factor)) for _, s, group in work]
            tables.update(self.kernel_of_all, rows, numbers)
            return
        for p, state, group in work:
            if gradient_factor != 1:
                p.grad.data *= p.dtype.type(gradient_factor)
            self._update(p, state, group, group["lr"] * factor)

    def _places(self) -> list[tuple[Parameter, dict]]:
        return [(p, group) for group in self.groups for p in group["params"]]

    kernel_of_all = None  # what updates all parameters in one launch, where the device has it
    arrays: tuple[str, ...] = ()  # those of the state, at most

    def _numbers(self, state: dict, group: dict, lr: float) -> tuple[float, ...]:
        """What an update of one parameter needs beside arrays."""
        raise NotImplementedError

    def _update(self, p: Parameter, state: dict, group: dict, lr: float) -> None:
        raise NotImplementedError

    def _state_of(self, place: int, p: Parameter, group: dict) -> dict:
        state = self._state.setdefault(place, {"steps": 0})
        for name in self.state_names(group):
            if name not in state:
                state[name] = p.device.zeros(p.shape, p.dtype)
        state["steps"] += 1
        return state

    def grad_norm(self) -> float:
        """The length of all gradients taken as one vector; nan or inf if one of them holds that."""
        return grad_norm(self.parameters)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.parameters:
            p.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """All that a later run needs to go on to the bit, as arrays by name: "0.velocity", "0.steps", ...

        The options of the groups are not in it: they come from the call that builds the optimiser again.
        """
        state, places = {}, self._places()
        for place, own in sorted(self._state.items()):
            p, group = places[place]
            state |= {f"{place}.{name}": p.device.numpy(own[name]) for name in self.state_names(group) if name in own}
            state[f"{place}.steps"] = np.array(own["steps"])
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a `state_dict`. Raises ValueError, before anything is changed, if it is of other parameters."""
        places = {name.split(".")[0] for name in state}
        fitting = {str(place): item for place, item in enumerate(self._places()) if str(place) in places}
        expected = {f"{place}.{name}": p.shape for place, (p, g) in fitting.items() for name in self.state_names(g)}
        expected |= {f"{place}.steps": () for place in fitting}
        found = {name: np.shape(value) for name, value in state.items()}
        if found != expected:
            wrong = sorted(name for name in found.keys() | expected if found.get(name) != expected.get(name))
            name = wrong[0]
            raise ValueError(
                f"load_state_dict: {len(wrong)} entries do not fit {type(self).__name__} and its parameters, such as "
                f"{name}: got {found.get(name, 'nothing')}, expected {expected.get(name, 'nothing')}"
            )
        self._state = {}
        for place, (p, group) in fitting.items():
            arrays = {name: p.device.array(state[f"{place}.{name}"], p.dtype) for name in self.state_names(group)}
            self._state[int(place)] = arrays | {"steps": int(state[f"{place}.steps"])}


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

        v = momentum v + (g + weight_decay w),   w -= lr v;   Nesterov: w -= lr (g + weight_decay w + momentum v)

    (Caffe folds lr into v, which differs when lr changes.) A group without momentum keeps no v.

    Example:
        ts.optim.SGD([{"params": backbone}, {"params": head, "lr": 0.1}], lr=0.01, momentum=0.9)
    """

    def __init__(
        self,
        params: Sequence[Parameter] | Sequence[dict],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov=True needs a momentum above 0")
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, options)

    def state_names(self, group):
        return ("velocity",) if group["momentum"] else ()

    kernel_of_all, arrays = sgd_all, ("velocity",)

    def _numbers(self, state, group, lr):
        return lr, group["momentum"], group["weight_decay"], group["nesterov"]

    def _update(self, p, state, group, lr):
        w, g = p.data.reshape(-1), p.grad.data.reshape(-1)
        lr, momentum, weight_decay = map(p.dtype.type, self._numbers(state, group, lr)[:3])
        if not group["momentum"]:
            p.device.launch(descend, w, g, lr, weight_decay, w.size)
            return
        v = state["velocity"].reshape(-1)
        p.device.launch(sgd_update, w, v, g, lr, momentum, weight_decay, group["nesterov"], w.size)


class Adam(Optimizer):
    """Adam: steps of a size that does not depend on the gradient's scale. Kingma & Ba 2015.

    d = g + weight_decay w,   m = b1 m + (1-b1) d,   v = b2 v + (1-b2) d^2
    w -= lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)
    """

    decoupled = False

    def __init__(
        self,
        params: Sequence[Parameter] | Sequence[dict],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    def state_names(self, group):
        return "m", "v"

    kernel_of_all, arrays = adam_all, ("m", "v")

    def _numbers(self, state, group, lr):
        beta1, beta2 = group["betas"]
        t, decay = state["steps"], group["weight_decay"]
        correction = (1 - beta2**t) ** -0.5
        keep = 1 - lr * decay if self.decoupled else 1
        decay = 0 if self.decoupled else decay
        return lr / (1 - beta1**t), beta1, 1 - beta1, beta2, 1 - beta2, correction, group["eps"], decay, keep

    def _update(self, p, state, group, lr):
        arrays = (a.reshape(-1) for a in (p.data, state["m"], state["v"], p.grad.data))
        p.device.launch(adam_update, *arrays, *map(p.dtype.type, self._numbers(state, group, lr)), p.size)


class AdamW(Adam):
    """Adam whose weight decay does not pass through the running means: w = (1 - lr weight_decay) w first, then Adam's
    step without it. Loshchilov & Hutter 2019.
    """

    decoupled = True

    def __init__(
        self,
        params: Sequence[Parameter] | Sequence[dict],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)


# Gradients


def _together(params: Sequence[Parameter], kernel) -> bool:
    """Whether one launch can take all of these parameters."""
    device = params[0].device
    return device.has(kernel) and all(p.device == device and p.dtype == p.grad.dtype == np.float32 for p in params)


def grad_norm(params: Sequence[Parameter]) -> float:
    """The length of all gradients taken as one vector. The same to the bit for any number of threads."""
    return math.sqrt(sum(_squared_norms([p for p in params if p.grad is not None])))


def clip_grad_norm(params: Sequence[Parameter], max_norm: float, error_if_nonfinite: bool = True) -> float:
    """Scale all gradients by one factor so that their common length is at most `max_norm`; returns the length before.

    Raises FloatingPointError, naming the parameters, if a gradient holds nan or inf. With error_if_nonfinite=False the
    gradients are then left as they are and nan or inf is returned: the caller skips the step. Raises ValueError for a
    max_norm that is not above 0.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm is {max_norm}, expected a length above 0")
    params = [p for p in params if p.grad is not None]
    squares = _squared_norms(params)
    norm = math.sqrt(sum(squares))
    if not math.isfinite(norm):
        if error_if_nonfinite:
            bad = [f"{i} {p.shape}" for i, (p, square) in enumerate(zip(params, squares)) if not math.isfinite(square)]
            raise FloatingPointError(
                f"clip_grad_norm: nan or inf in the gradient of {len(bad)} of {len(params)} parameters "
                f"({', '.join(bad[:4])}{', ...' if len(bad) > 4 else ''}); cure: a smaller learning rate, or look for "
                "nan in the images"
            )
        return norm
    if norm > max_norm:
        for p in params:
            p.grad.data *= p.dtype.type(max_norm / norm)
    return norm


def _squared_norms(params: Sequence[Parameter], length: int = CHUNK) -> list[float]:
    """The squared length of each gradient; the device is waited for once."""
    if not params:
        return []
    device = params[0].device
    ends = np.cumsum([0] + [-(-p.size // length) for p in params]).tolist()
    partial = device.empty((ends[-1],), np.float64)
    if _together(params, squares_all):
        Tables(device, tuple(p.size for p in params)).squares(partial, [p.grad.data for p in params])
    else:
        for p, begin, end in zip(params, ends, ends[1:]):
            device.launch(sum_of_squares, partial[begin:end], p.grad.data.reshape(-1), length, end - begin, p.size)
    return [float(sums.sum()) for sums in np.split(device.numpy(partial), ends[1:-1])]


# Schedules: step number (from 0) -> factor of the learning rate


def constant() -> Schedule:
    return lambda step: 1.0


def poly(total: int, power: float = 0.9) -> Schedule:
    """(1 - step/total)^power, and 0 from `total` on. DeepLab, PSPNet."""
    _positive("poly", total)
    return lambda step: max(0.0, 1 - step / total) ** power


def cosine(total: int, floor: float = 0.0) -> Schedule:
    """From 1 to `floor` along half a cosine over `total` steps. Loshchilov & Hutter 2017."""
    _positive("cosine", total)
    return lambda step: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(step / total, 1)))


def step(milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """Times `gamma` at each milestone."""
    return lambda step: gamma ** sum(step >= milestone for milestone in milestones)


def warm_up(schedule: Schedule, steps: int, start: float = 0.0) -> Schedule:
    """`schedule`, times a factor that rises evenly from `start` to 1 over the first `steps` steps.

    The first step (number 0) has start + (1 - start) / steps, so that it is not lost.
    """
    _positive("warm_up", steps)
    return lambda step: schedule(step) * (start + (1 - start) * min((step + 1) / steps, 1))


def _positive(name, steps):
    if steps <= 0:
        raise ValueError(f"{name}: got {steps} steps, expected at least 1")
