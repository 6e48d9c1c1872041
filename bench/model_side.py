"""One model of one library in a process of its own: how long it takes, and the most memory it ever had.

    python -m bench.model_side tinyseg|torch NAME SIZE BATCH WIDTH ROUNDS          WIDTH 0: the paper's

Prints a line of JSON: milliseconds of a prediction (one image) and of a training step (the batch, with SGD), the best
of ROUNDS, the bytes that the process had at most after the predictions and after the steps, and whether kernels had to
be compiled, whose memory is in these.
"""

import inspect
import json
import logging
import sys
import time

import numpy as np

from .alone import most_memory
from .example import CLASSES


def main(library: str, name: str, size: int, batch: int, width: int, rounds: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, size, size, 3)).astype(np.float32)
    masks = rng.integers(0, CLASSES, (batch, size, size)).astype(np.int32)
    compiling = Compiling()
    step, predict = {"tinyseg": tinyseg_side, "torch": torch_side}[library](name, images, masks, width)
    result = {"size": size, "batch": batch, "predict": best(predict, rounds), "predict_peak": most_memory()}
    result |= {"step": best(step, rounds), "step_peak": most_memory()}
    print(json.dumps(result | {"compiled": compiling.seen}))


class Compiling(logging.Handler):
    """Whether tinyseg has said that it compiles a kernel."""

    def __init__(self):
        super().__init__()
        self.seen = False
        log = logging.getLogger("tinyseg")
        log.addHandler(self)
        log.setLevel(logging.INFO)

    def emit(self, record):
        self.seen |= record.getMessage().startswith("compiling")


def own_width(name: str) -> int:
    """The width of a model where none is given."""
    import tinyseg as ts

    return inspect.signature(ts.models.MODELS[name]).parameters["width"].default


def best(call, rounds: int) -> float:
    """Milliseconds of the fastest of some calls, after one that is not counted."""
    call()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return 1e3 * min(seconds)


def tinyseg_side(name, images, masks, width):
    import tinyseg as ts

    model = ts.models.create(name, CLASSES, width=width or None)
    optimizer = ts.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step():
        model.train()
        y = model(ts.tensor(images))
        loss = sum(ts.ops.cross_entropy(logits, middle(masks, logits.shape[1:3])) for logits in several(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def predict():
        model.eval()
        with ts.no_grad():
            return model(ts.tensor(images[:1]))

    return step, predict


def torch_side(name, images, masks, width):
    import torch

    from .twins import twin

    model = twin(name, CLASSES, width=width or own_width(name))
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)
    entropy = torch.nn.functional.cross_entropy

    def step():
        model.train()
        y = several(model(x))
        loss = sum(entropy(logits, torch.from_numpy(middle(masks, logits.shape[2:])).long()) for logits in y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def predict():
        model.eval()
        with torch.no_grad():
            return model(x[:1])

    return step, predict


def several(y):
    return y if isinstance(y, tuple) else (y,)


def middle(masks, size):
    """What is left of the masks where the logits lack a margin (U-Net's valid convolutions)."""
    y, x = ((have - want) // 2 for have, want in zip(masks.shape[1:], size))
    return np.ascontiguousarray(masks[:, y : y + size[0], x : x + size[1]])


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
