"""One line of the table: what is measured, against what, and how it turned out."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

from .timing import interleaved

try:
    import torch
except ImportError:  # ours and the roofline only
    torch = None


class Disagreement(Exception):
    """Two libraries, or a kernel and its definition, do not compute the same: there is nothing to time."""


@dataclass(frozen=True)
class Settings:
    blocks: int = 5  # rounds of the interleaved timing
    compile: bool = False  # torch.compile as one more contender
    summary: Callable = median  # of the times of all calls


@dataclass(frozen=True)
class Result:
    """Ours and PyTorch's best figure. `work` is what one call must do at least, in FLOP or in bytes of `roof`."""

    ours: float
    torch: float | None = None
    unit: str = "ms"
    peer: str = ""  # which of PyTorch's ways was its best
    work: float = 0
    roof: str = ""  # "GFLOP/s": bound by arithmetic; "GB/s": bound by memory


@dataclass(frozen=True)
class Case:
    """A name, a way to measure it, and what is wanted: at most `target` of PyTorch's figure, at most `limit` itself."""

    name: str
    measure: Callable[[Settings], Result]
    target: float | None = None
    limit: float | None = None


def contest(settings: Settings, ours: Callable, theirs: dict[str, Callable], work: float, roof: str) -> Result:
    """Time ours and each of PyTorch's ways; the best of those counts."""
    seconds = interleaved({"ours": ours, **theirs}, settings.blocks, summary=settings.summary)
    mine = seconds.pop("ours")
    peer = min(seconds, key=seconds.get) if seconds else ""
    return Result(1e3 * mine, 1e3 * seconds[peer] if peer else None, "ms", peer, work, roof)


def agree(what: str, got, expected, tolerance: float, largest: float | None = None) -> None:
    """Raise Disagreement unless got = expected within `tolerance` of the largest value (of `expected`, or as given)."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        raise Disagreement(f"{what}: shape {got.shape}, expected {expected.shape}")
    largest = np.abs(expected).max() if largest is None else largest
    error = np.abs(got - expected).max() / max(largest, 1e-30)
    if not error <= tolerance:
        raise Disagreement(f"{what}: differs by {error:.1e} of the largest value, allowed are {tolerance:.0e}")


# ------------------------------------------------------------------------------ arrays on the other side

LAYOUTS = ("contiguous", "channels_last")


def layout(name: str):
    return {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[name]


def to_torch(array, name: str = "contiguous"):
    """(N,H,W,C) -> PyTorch's (N,C,H,W) in one of its two layouts in memory."""
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2))).contiguous(memory_format=layout(name))


def filters_to_torch(w, name: str = "contiguous"):
    """(R,S,C,K) -> (K,C,R,S), which is (in,out,R,S) for a transposed convolution."""
    return torch.from_numpy(np.ascontiguousarray(w.transpose(3, 2, 0, 1))).contiguous(memory_format=layout(name))


def from_torch(tensor):
    """(N,C,H,W) -> (N,H,W,C); anything else as it is."""
    array = tensor.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def filters_from_torch(w):
    return w.detach().numpy().transpose(2, 3, 1, 0)
