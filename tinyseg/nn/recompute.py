"""Memory for time: a block that keeps its input alone, and in backward computes the rest again.

    for block in (*model.down, *model.merge):
        block.recompute = True                    # or recompute_blocks(model), for every block there is

What lies between a block's input and its result is then needed for one block at a time, for a third more time a step.
Gradients are equal to the bit: the second pass draws the same dropout, computes as exactly, and leaves running
statistics as it found them. Chen, Xu, Zhang & Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016.
"""

from ..precision import autocast, is_exact, narrow_type, precision
from ..tensor import Function, Tensor, recording


def recompute_blocks(model) -> int:
    """Let every block of a model compute itself again in backward; returns how many there are.

    Blocks are the modules that hold a convolution and something behind it themselves, and at most one such module
    inside (a shortcut): a Sequential of convolution, batch norm and ReLU, a residual block. A module that runs other
    pieces than its members names them in `pieces`.

    Example:
        ts.nn.recompute_blocks(model)
    """
    found = [block for _, member in model.members() if hasattr(member, "members") for block in _blocks(member)]
    for block in found:
        block.recompute = True
    return len(found)


def _blocks(module) -> list:
    from .layers import Conv2d, ConvTranspose2d

    if hasattr(module, "pieces"):
        return module.pieces
    layers = [m for _, m in module.members() if hasattr(m, "members")]
    inside = [block for layer in layers for block in _blocks(layer)]
    whole = len(layers) > 1 and any(isinstance(m, Conv2d | ConvTranspose2d) for m in layers)
    return [module] if whole and len(inside) <= 1 else inside


class Recompute(Function):
    """y = module(x ...); dx and the gradients of the parameters, by a second forward pass."""

    takes_half = "mixed"

    def __init__(self, module, shape: list[int | None]):
        self.module, self.shape = module, shape  # of its inputs: None for a tensor, a number for a list of so many

    def forward(self, *arrays):
        self.xs = arrays[: sum(n or 1 for n in self.shape)]
        self.exact, self.narrow = is_exact(), narrow_type()
        self.drawn = self.module.random_state()
        return self._run()[1].data

    def backward(self, dy):
        module, parameters = self.module, self.module.parameters()
        buffers = [(buffer, buffer.data.copy()) for buffer in module.buffers()]
        now, gathered = module.random_state(), [p.grad for p in parameters]
        module.set_random_state(self.drawn)
        try:
            for p in parameters:
                p.grad = None
            leaves, y = self._run()
            y.backward(Tensor(dy, self.device))
            gradients = tuple(None if t.grad is None else t.grad.data for t in (*leaves, *parameters))
        finally:
            module.set_random_state(now)
            for p, grad in zip(parameters, gathered):
                p.grad = grad
            for buffer, values in buffers:
                buffer.data[...] = values
        return gradients

    def _run(self):
        """The module's inputs as leaves, and its result with the graph that leads to them."""
        leaves = [Tensor(x, self.device, need) for x, need in zip(self.xs, self.needs)]
        rest = iter(leaves)
        inputs = [next(rest) if n is None else [next(rest) for _ in range(n)] for n in self.shape]
        level, narrow = "exact" if self.exact else "fast", self.narrow or "float16"
        with precision(level), autocast(narrow, enabled=self.narrow is not None), recording(True):
            y = self.module.forward(*inputs)
        if not isinstance(y, Tensor):
            raise TypeError(
                f"recompute: {type(self.module).__name__} returns {type(y).__name__}, expected one tensor; "
                "cure: set it on the blocks inside"
            )
        return leaves, y


def recomputed(module, *inputs: Tensor | list[Tensor]) -> Tensor:
    """module.forward(*inputs), keeping nothing but the inputs for backward."""
    shape = [len(x) if isinstance(x, list | tuple) else None for x in inputs]
    flat = [t for x, n in zip(inputs, shape) for t in (x if n is not None else [x])]
    return Recompute(module, shape)(*flat, *module.parameters())
