"""The CUDA side of tinyseg: how a kernel's twin is written, found, compiled and launched. No other file needs reading.

A kernel `foo` of `ops/bar.py` has its twin in `ops/bar.cu`: a `__global__` function of the same name, with the same
argument names in the same order (a test compares them):

    #include "common.cuh"

    // y[m, k] = factor * x[m, k]. Parallel over the elements of y.
    template <class T>
    __global__ void foo(T *__restrict__ y, const T *__restrict__ x, T factor, Index M, Index K) {
      PARALLEL_FOR(i, M * K) y[i] = factor * x[i];
    }

and `device.launch(foo, y, x, 0.5, M, K)` runs it on `cuda` and on `emulated`. The rules:

- Arrays arrive as pointers to C-contiguous numbers, so sizes are arguments: a kernel never asks for `x.shape`.
- Template parameters are deduced from the dtypes of the arrays; a parameter without a default is like the first. They
  may be float or double, or what `TYPES(float, half float, bfloat16 float)` before the kernel's name says, choices of
  which each names the parameters in order: what autocast hands over as half must stand there. Another choice is a
  TypeError, so all that is ever launched is in the table of resources (tests/cuda). Every kernel of the file with a
  choice is compiled at the first launch of one of them.
- Sizes, strides and counts are `Index`: 32 bits, and 64 where an array of the launch has 2^30 elements or more. A
  number may also be T, float, double, bool, int32, uint32, int64. What does not fit is a TypeError.
- The grid: `PARALLEL_FOR(i, count)` gives each i to a thread, `PARALLEL_BLOCKS(i, count)` gives each i to a block,
  whose threads work together (`block_sum`, shared memory, barriers). `count` is an expression of the arguments and of
  constants of the file (`constexpr int TILE = 16;` at the margin, `cdiv`): the launcher reads it. Nothing may rely on
  how many blocks there are. `__launch_bounds__(128)` before the name sets the threads of a block, otherwise 256 for
  blocks, and for PARALLEL_FOR whatever the device likes.
- What does little more than move memory moves 16 bytes at a time, by `packs.cuh`:
  `map_packs(PARALLEL_PACKS(n), f, y, x)`.
- A kernel that needs more control writes `GRID(x, y, z)` and `SHARED(bytes)` between `__launch_bounds__` and its name,
  and takes dynamic shared memory with `DYNAMIC_SHARED(float, tile);`.
- A header may lie beside the .cu file: `ops/conv/gather.cuh`. `matrix.cuh` is a matrix product on tensor cores for any
  operands that a block can copy into shared memory.
- Gather, do not scatter; no float atomics: results repeat to the bit, in any order of threads.
- `common.cuh` has the types and block sums, `ptx.cuh` all inline PTX. NVRTC has no standard library; both compilers
  must take the file (`INFINITY` and the functions of math.h are there).
- A kernel without a twin is a kernel that the device does not have: `device.has(kernel)` tells, and what chooses
  between several algorithms asks it (`ALGORITHMS` in ops/conv/conv2d.py). A kernel that only CUDA has is declared with
  `@cuda_kernel` (see kernel.py).

To try one: `ts.tensor(x, device="emulated")`; it needs a C++ compiler, g++ or clang. Errors name block, thread and line
of the .cu file. `python -m pytest --device emulated tests/ops/test_bar.py` runs a test on it.

    source.py    reads .cu files: the twins, their arguments, their grids
    emulator/    compiles them with the host's C++ compiler and runs them on the CPU, one fiber for each CUDA thread
    nvrtc.py     compiles them for a GPU, with or without one
"""
