"""An image in parts: arrays that count as one, the channels of each behind those of the one before."""

import numpy as np


def whole(device, xs):
    """The parts of x in one array: a copy, where there are several."""
    if len(xs) == 1:
        return xs[0]
    x = device.empty((*xs[0].shape[:3], sum(x.shape[3] for x in xs)), xs[0].dtype)
    for target, part in zip(split(x, [x.shape[3] for x in xs]), xs):
        target[...] = part
    return x


def split(x, channels) -> list:
    """Parts of x with so many channels each, as views."""
    if len(channels) == 1:
        return [x]
    ends = np.cumsum([0, *channels]).tolist()
    return [x[..., i:j] for i, j in zip(ends, ends[1:])]
