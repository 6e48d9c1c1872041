"""Training: the loop that `tinyseg train` runs, and the tasks that it can be given.

    loop.py           steps, epochs, saving, resuming, Ctrl-C          task.py      what a task must do; which one it is
    optimisation.py   the optimiser and its learning rate              semantic.py  a class for every pixel
    average.py        the running average of the weights               instance.py  objects: class, box and mask
    run_folder.py     last.npz, metrics.csv, curves.png                weak.py      from scribbles, points, boxes, tags
"""

from .loop import train
from .task import Task, TrainError, Validation, task_of

__all__ = ["Task", "TrainError", "Validation", "task_of", "train"]
