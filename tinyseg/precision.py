"""How exactly the convolutions of a thread compute.

    precision("fast")    the default. On the CPU 3x3 filters of stride 1 go by Winograd's F(4x4), whose rounding error
                         is 3 to 5 times that of the plain sum; a GPU rounds operands to tf32 (10 bits of mantissa) for
                         its tensor cores, as PyTorch does for convolutions
    precision("exact")   by F(2x2), whose error is that of the plain sum, in about 1.5 times the time; on a GPU without
                         tensor cores
    autocast()           a GPU rounds operands to 16 bits; see there

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


NARROW = ("float16", "bfloat16")


@contextmanager
def autocast(dtype: str = "float16", enabled: bool = True):
    """Inside this block convolutions multiply numbers of 16 bits, on devices that can; their sums are float32.

    "float16": their results are float16 too, and so is what pooling, batch norm, ReLU, resizing, sums and joining make
    of them: half the memory. Everything else (losses, softmax, means) widens to float32 first. Gradients below
    6e-8 are lost: train with `ts.amp.LossScaler`. "bfloat16": float32's range with 8 bits of mantissa, in the products
    alone; results stay float32, and no scaler is needed. Parameters, their gradients and statistics are float32 in any
    case. The CPU computes as without it. Raises ValueError for another dtype. Micikevicius et al., "Mixed precision
    training", 2018.

    Example:
        with ts.autocast():
            loss = ts.ops.cross_entropy(model(images), masks)
        scaler.scale(loss).backward()
    """
    if dtype not in NARROW:
        raise ValueError(f"autocast: got dtype {dtype!r}, expected 'float16' or 'bfloat16'")
    before, _thread.narrow = narrow_type(), dtype if enabled else None
    try:
        yield
    finally:
        _thread.narrow = before


def narrow_type() -> str | None:
    """The type of 16 bits in which this thread multiplies, if it does."""
    return getattr(_thread, "narrow", None)
