"""What every operator on images asks of its input, said once and in the same words."""

import numpy as np


def floats(op: str, device, x, name: str = "x"):
    """x, C-contiguous. Raises TypeError unless it is float32 or float64, or float16, which only autocast makes."""
    if x.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"{op}: {name} has dtype {x.dtype}, expected float32 or float64; cure: x.astype(np.float32)")
    return device.xp.ascontiguousarray(x).reshape(x.shape)  # which alone would give a number an axis


def image(op: str, device, x, name: str = "x"):
    """x, C-contiguous. Raises ValueError unless it is (N,H,W,C), TypeError unless it holds floats."""
    if x.ndim != 4:
        raise ValueError(f"{op}: {name} has shape {x.shape}, expected (N,H,W,C)")
    return floats(op, device, x, name)


def wide(dtype) -> np.dtype:
    """The type in which numbers of a type are added up and kept beside them: float32 for float16, else itself."""
    return np.dtype(np.float32) if dtype == np.float16 else np.dtype(dtype)


def pair(op: str, name: str, value, least: int) -> tuple[int, int]:
    """(vertical, horizontal) from one integer or two. Raises ValueError for anything else or for less than `least`."""
    two = tuple(value) if isinstance(value, tuple | list) else (value, value)
    whole = all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in two)
    if len(two) != 2 or not whole or min(two) < least:
        raise ValueError(f"{op}: {name} is {value!r}, expected an integer >= {least} or two of them")
    return int(two[0]), int(two[1])


def pooled_size(op: str, size: int, window: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows a pool has along one axis.

        floor((size + 2 padding - dilation (window - 1) - 1) / stride) + 1

    With ceil_mode it rounds up, but no window may begin in the padding behind the image. Raises ValueError where not
    one window fits or the padding exceeds half a window.
    """
    span = dilation * (window - 1) + 1
    if padding > span // 2:
        raise ValueError(f"{op}: padding {padding} is more than half of the window, which spans {span} pixels")
    room = size + 2 * padding - span
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    if size < 1 or count < 1:
        raise ValueError(
            f"{op}: the window spans {span} pixels but the padded image has only {size + 2 * padding}; "
            "cure: a smaller window or a larger image"
        )
    return count
