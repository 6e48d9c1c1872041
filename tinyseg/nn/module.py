"""A model is a Python object; its parameters are found by looking at its attributes.

    class Tiny(ts.nn.Module):
        def __init__(self, num_classes):
            self.conv = ts.nn.Conv2d(3, 16, 3, padding=1)
            self.head = ts.nn.Conv2d(16, num_classes, 1)
        def forward(self, x):
            return self.head(ts.ops.relu(self.conv(x)))

There is nothing to register and no base constructor to call. An attribute counts if it is a `Parameter` (trained), a
`Buffer` (kept with the parameters but not trained: running statistics) or a `Module`, alone or in lists, tuples and
dicts. Names are the path of attributes: `conv.weight`, `blocks.0.conv.weight`.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ..device import Device, get_device
from ..tensor import Tensor, grad_enabled
from .init import home
from .recompute import recomputed


class _State(Tensor):
    """A tensor that belongs to a module and is saved with it."""

    __slots__ = ()
    trained: bool

    def __init__(self, data, device: str | Device | None = None):
        if home() is None:
            device = get_device(device or "cpu")
            super().__init__(device.array(data, np.float32), device, self.trained)
        else:
            device = get_device(device or home())
            super().__init__(device.empty(np.shape(data)), device, self.trained)

    def assign(self, values) -> None:
        """Take new values of the same shape, converted to this dtype and device. Inside `no_init` nothing is taken.

        On the host into the same memory: a graph that was built before cannot be walked any more.
        """
        values = np.asarray(values)
        if values.shape != self.shape:
            raise ValueError(f"assign: got shape {values.shape}, expected {self.shape}")
        if home() is not None:
            return
        self.version += 1
        if self.device.xp is np:  # into the same memory: there may not be room for a second of a large one
            self.data[...] = values
        else:
            self.data = self.device.array(values, self.dtype)

    def move(self, device: Device, dtype) -> None:
        """Go to another device or dtype, staying the same object; a gradient is dropped."""
        if (device, np.dtype(dtype)) != (self.device, self.dtype):
            self.data, self.device, self.grad = device.array(self.numpy(), dtype), device, None


class Parameter(_State):
    """A leaf that an optimiser changes. float32; `Module.to(device, dtype)` changes that."""

    __slots__ = ()
    trained = True


class Buffer(_State):
    """State that is saved and moved with a module but not trained, such as the running mean of a batch norm."""

    __slots__ = ()
    trained = False


class Module:
    """Base of layers and models: write `__init__` and `forward`, call the object. See the head of this file."""

    training = True
    recompute = False  # whether calls keep their inputs alone, and backward computes the rest again: `recompute.py`

    def forward(self, *inputs: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def __call__(self, *inputs: Tensor) -> Tensor:
        return recomputed(self, *inputs) if self.recompute and grad_enabled() else self.forward(*inputs)

    # What is inside

    def members(self) -> Iterator[tuple[str, "Module | Parameter | Buffer"]]:
        """The modules, parameters and buffers directly inside, by name, in the order they were assigned."""
        for name, value in vars(self).items():
            yield from _look_through(name, value)

    def _walk(self, prefix: str = "", seen: set[int] | None = None):
        """Everything inside and this module itself, each once under its first name, depth first."""
        seen = set() if seen is None else seen
        seen.add(id(self))
        yield prefix, self
        for name, member in self.members():
            name = f"{prefix}.{name}" if prefix else name
            if id(member) in seen:
                continue
            if isinstance(member, Module):
                yield from member._walk(name, seen)
            else:
                seen.add(id(member))
                yield name, member

    def named_modules(self) -> list[tuple[str, "Module"]]:
        """This module (named "") and all modules inside it."""
        return [(name, m) for name, m in self._walk() if isinstance(m, Module)]

    def modules(self) -> list["Module"]:
        return [m for _, m in self.named_modules()]

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        return [(name, p) for name, p in self._walk() if isinstance(p, Parameter)]

    def parameters(self) -> list[Parameter]:
        return [p for _, p in self.named_parameters()]

    def named_buffers(self) -> list[tuple[str, Buffer]]:
        return [(name, b) for name, b in self._walk() if isinstance(b, Buffer)]

    def buffers(self) -> list[Buffer]:
        return [b for _, b in self.named_buffers()]

    def parameter_count(self) -> int:
        """How many numbers the parameters hold."""
        return sum(p.size for p in self.parameters())

    # State

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter and buffer, by name."""
        return {name: t.numpy() for name, t in self._walk() if isinstance(t, _State)}

    def load_state_dict(self, state: Mapping[str, np.ndarray], strict: bool = True) -> list[str]:
        """Take the values of a `state_dict`, converted to this model's dtype and device.

        With strict=False whatever fits by name and shape is loaded and the rest is left as it is (another number of
        classes: all but the head). Returns a line for each entry that was not loaded.

        Raises ValueError with all missing, unexpected and misshapen entries, before anything is changed.
        """
        own = {name: t for name, t in self._walk() if isinstance(t, _State)}
        problems = [f"missing: {name} {own[name].shape}" for name in own if name not in state]
        problems += [f"unexpected: {name} {np.shape(state[name])}" for name in state if name not in own]
        fits = [name for name in own if name in state and np.shape(state[name]) == own[name].shape]
        problems += [
            f"shape: {name} is {np.shape(state[name])}, expected {own[name].shape}"
            for name in own
            if name in state and name not in fits
        ]
        if problems and strict:
            raise ValueError(
                f"load_state_dict: the state does not fit {type(self).__name__}; "
                "cure: build the model with the arguments it was saved with, or load what fits with strict=False\n  "
                + "\n  ".join(problems)
            )
        for name in fits:
            own[name].assign(state[name])
        return problems

    def reset_parameters(self, seed: int | np.random.Generator = 0) -> None:
        """Draw all parameters (and the generators of dropout) anew, layer after layer, from one generator.

        Layers say here how they are initialised; a model whose paper asks for something else says so in its own.
        """
        generator = np.random.default_rng(seed)
        for _, member in self.members():
            if isinstance(member, Module):
                member.reset_parameters(generator)

    def random_state(self) -> dict[str, dict]:
        """State of the generator of each module that draws numbers while it runs (dropout); fit for JSON."""
        return {name: m.generator.bit_generator.state for name, m in self.named_modules() if hasattr(m, "generator")}

    def set_random_state(self, states: Mapping[str, dict]) -> None:
        """Continue from a `random_state`. Raises ValueError if it is of another model."""
        own = {name: m for name, m in self.named_modules() if hasattr(m, "generator")}
        if own.keys() != states.keys():
            raise ValueError(f"set_random_state: got states of {sorted(states)}, expected those of {sorted(own)}")
        for name, module in own.items():
            module.generator.bit_generator.state = states[name]

    # Modes and places

    def train(self, mode: bool = True) -> "Module":
        """Training mode: batch statistics, dropout on."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> "Module":
        """Evaluation mode: running statistics, dropout off."""
        return self.train(False)

    def to(self, device: str | Device, dtype=None) -> "Module":
        """Move parameters and buffers to a device; dtype=np.float64 for gradient checks. Drops gradients that move."""
        device = get_device(device)
        for _, t in self._walk():
            if isinstance(t, _State):
                t.move(device, dtype or t.dtype)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def __repr__(self):
        inside = [(name, m) for name, m in self.members() if isinstance(m, Module)]
        if not inside:
            return f"{type(self).__name__}({self._options()})"
        lines = [f"{name}: {m!r}".replace("\n", "\n  ") for name, m in inside]
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"

    def _options(self) -> str:
        """What a layer shows of itself between the brackets of its repr."""
        return ""


def _look_through(name: str, value):
    """The modules, parameters and buffers in an attribute; lists, tuples and dicts are looked through."""
    if isinstance(value, Module | _State):
        yield name, value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _look_through(f"{name}.{i}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _look_through(f"{name}.{key}", item)
    elif isinstance(value, Tensor) and value.requires_grad and value.function is None:
        raise TypeError(f"attribute {name!r} requires a gradient but is no Parameter; cure: nn.Parameter(array)")
