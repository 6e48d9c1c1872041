"""A kernel is one name with two bodies: a Numba function in `foo.py` and CUDA C++ in `foo.cu` beside it.

Both take the same arguments in the same order: outputs, then inputs, then numbers. The Numba body is the definition
that readers and tests go by. A kernel allocates nothing and checks nothing; the `Function` that launches it does both.
"""

from functools import cached_property
from pathlib import Path


class Kernel:
    """One kernel. Made by `@kernel` on its Numba body; run by `Device.launch(kernel, *args)`, never called directly.

    The body is written with `numba.prange` over the elements of its output, each of which one thread computes whole
    (gather, do not scatter), so that results do not depend on the number of threads. The exception: sums over all
    pixels (the gradients of filters) are cut into as many shares as there are threads, and so differ by rounding
    between numbers of threads; for one number they repeat to the bit.
    """

    def __init__(self, body, on_cpu=True):
        self.body, self.on_cpu = body, on_cpu
        self.name = body.__name__
        self.__doc__ = body.__doc__

    @property
    def cuda_source(self) -> Path:
        """The CUDA C++ twin: the same file name, ending in .cu."""
        return Path(self.body.__code__.co_filename).with_suffix(".cu")

    @cached_property
    def compiled(self):
        """The Numba body, compiled at its first launch for each combination of argument types."""
        from .native import Native

        return Native(self.body)

    def __repr__(self):
        return f"<kernel {self.name}>"


def device_function(body):
    """Decorator: a function that kernels call. Compiled as a part of them; Python itself cannot call it."""
    from . import native  # with it comes Numba, which `import tinyseg` alone does not need

    return native.device_function(body)


def kernel(body) -> Kernel:
    """Decorator: make a `Kernel` of a Numba body."""
    return Kernel(body)


def cuda_kernel(declaration) -> Kernel:
    """Decorator: a kernel that only CUDA has. The function gives its name, its arguments and what it does; no body."""
    return Kernel(declaration, on_cpu=False)
