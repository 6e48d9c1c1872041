"""What is learned, apart from how: the data of a run, its loss, and how it is measured.

The loop knows steps, epochs, files and Ctrl-C; a task knows what a batch is and what a good model is. The two meet in
the methods below. A task is chosen by the options of `tinyseg train` in `task_of`, and by nothing else.
"""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..report import Progress


class TrainError(RuntimeError):
    """A run that cannot start or cannot go on; the message says why and what to do."""


@dataclass
class Validation:
    """What one validation found.

    row: numbers for metrics.csv, one column each. score: the larger the better, nan where nothing could be measured.
    metrics: what the checkpoint remembers of it. lines: what to say now. warnings: what to say unless the validation
    before said it too. table: what to say at the end of the run. draw: writes samples.png.
    """

    row: dict[str, float]
    score: float
    metrics: dict[str, float]
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    table: str = ""
    draw: Callable[[Path], None] = lambda path: None


class Task:
    """Base of the tasks. `__init__` opens the data: it sets train_set, val_set and loader.

    score_name: what the score of a validation is called. curves: its columns of metrics.csv that curves.png shows.
    """

    score_name = "score"
    curves: dict[str, str] = {}  # name in the picture -> column

    def make_model(self):
        """The model of the options, on the host, with its `info`."""
        raise NotImplementedError

    def loss(self, model, batch):
        """The loss of a batch: a scalar Tensor on the model's device."""
        raise NotImplementedError

    def uploads(self, batch) -> list[np.ndarray]:
        """The arrays of a batch that `loss` brings to the device as they are."""
        return [batch.images]

    def validate(self, model, progress: Progress) -> Validation:
        """The model against the validation images."""
        raise NotImplementedError

    def begin_epoch(self, model, epoch: int, progress: Progress) -> None:
        """Before the first batch of an epoch (not where a run is resumed inside it)."""

    def state(self) -> dict[str, np.ndarray]:
        """Arrays that the next step depends on besides model and optimiser, for last.npz."""
        return {}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from a `state`."""


def task_of(options: Namespace) -> Task:
    """The task of the options."""
    from .. import models
    from .instance import Instance
    from .semantic import Semantic
    from .weak import WeaklySupervised

    if getattr(models.MODELS.get(options.model), "task", "semantic") == "instance":
        return Instance(options)

    return WeaklySupervised(options) if options.supervision != ["masks"] else Semantic(options)
