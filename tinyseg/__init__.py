"""tinyseg: image segmentation from the gradient up, on NumPy, Numba and CuPy alone.

The names below are the reading order of the package. Rooms that need Numba (`ts.ops` and all that stands on it) are
loaded when first used, so that `import tinyseg` is quick; CuPy comes with the first GPU device.
"""

from importlib import import_module

from .checkpoint import load, save
from .detect import detect
from .device import get_device
from .gradcheck import adjoint_check, gradcheck
from .graph import graph
from .precision import autocast, precision
from .predict import predict  # the function; the file of that name is seen by importlib alone
from .tensor import Function, Tensor, no_grad, tensor

__version__ = "0.1.0"

_ROOMS = ("ops", "nn", "models", "losses", "optim", "amp", "metrics", "data", "structured", "interop")

__all__ = [
    "Function",
    "Tensor",
    "adjoint_check",
    "detect",
    "autocast",
    "get_device",
    "gradcheck",
    "graph",
    "load",
    "no_grad",
    "precision",
    "predict",
    "save",
    "tensor",
    *_ROOMS,
]


def __getattr__(name):
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'tinyseg' has no attribute {name!r}; it has: {', '.join(__all__)}")


def __dir__():
    return __all__
