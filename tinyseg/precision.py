"""How exactly the convolutions of a thread compute: `with ts.precision("exact"): ...`

    "fast"     3x3 filters of stride 1 by Winograd's F(4x4), whose rounding error is 3 to 5 times that of the plain sum
    "exact"    by F(2x2), whose error is that of the plain sum; about 1.5 times the time

float64 is always computed by the definition, and everything else by sums that do not depend on this.
"""

import threading
from contextlib import contextmanager

LEVELS = ("fast", "exact")
_thread = threading.local()


@contextmanager
def precision(level: str):
    """Inside this block convolutions are "exact" or "fast" (the default); their gradients are as exact as they were.

    Raises ValueError for another word.

    Example:
        with ts.precision("exact"):
            loss = ts.ops.cross_entropy(model(images), masks)
        loss.backward()
    """
    if level not in LEVELS:
        raise ValueError(f"precision: got {level!r}, expected 'fast' or 'exact'")
    before, _thread.exact = is_exact(), level == "exact"
    try:
        yield
    finally:
        _thread.exact = before


def is_exact() -> bool:
    """Whether this thread computes exactly."""
    return getattr(_thread, "exact", False)
