// What every kernel file includes: short names of types, the two loops that say what a kernel is parallel over, and
// sums over a warp and over a block. The convention is told in __init__.py.
#pragma once
#include "ptx.cuh"

using uint8 = unsigned char;
using int32 = int;
using uint32 = unsigned;
using int64 = long long;
using bfloat16 = __nv_bfloat16;

#ifdef WIDE  // some array of this launch has 2^30 elements or more
using Index = int64;
#else
using Index = int32;
#endif

// Each thread takes some of the i in [0, count). The launcher reads `count` from here and chooses the grid.
#define PARALLEL_FOR(i, count)                                                                          \
  for (Index i = (Index)blockIdx.x * blockDim.x + threadIdx.x, i##_end = (count); i < i##_end; \
       i += (Index)gridDim.x * blockDim.x)

// Each block takes some of the i in [0, count), all its threads together: shared memory and barriers may be used, and
// a barrier must stand between the last read of shared memory in one round and the first write in the next.
#define PARALLEL_BLOCKS(i, count) \
  for (Index i = blockIdx.x, i##_end = (count); i < i##_end; i += gridDim.x)

// Between a kernel's `void` and its name, for those that need another grid than the loops above give.
#define GRID(...)
#define SHARED(bytes)
#define TYPES(...)  // what the template parameters may stand for, where not float and double

#ifdef EMULATED
#define DYNAMIC_SHARED(T, name) T *name = (T *)emulated::dynamic_shared()
#else
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#define DYNAMIC_SHARED(T, name)                             \
  extern __shared__ __align__(16) unsigned char name##_[]; \
  T *name = (T *)name##_
#endif

// The type in which numbers of type T are added up.
template <class T> struct Sum_ { using type = float; };
template <> struct Sum_<double> { using type = double; };
template <class T> using Sum = typename Sum_<T>::type;

template <class T> INLINE T cdiv(T a, T b) { return (a + b - 1) / b; }

// floor(a / b), b > 0, as Python's //; C rounds towards zero.
template <class T> INLINE T floor_div(T a, T b) { return a / b - (a % b < 0); }

// The sum over the lanes of a warp, in lane 0.
template <class T> INLINE T warp_sum(T v) {
  for (int step = 16; step; step /= 2) v += __shfl_down_sync(~0u, v, step);
  return v;
}

// f(f(v of thread 0, v of thread 1), ...) over a block of whole warps, in all threads, always in the same order.
// `nothing` leaves what it meets as it is.
template <class T, class Function> INLINE T block_reduce(T v, T nothing, Function f) {
  __shared__ T part[32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (int step = 16; step; step /= 2) v = f(v, __shfl_down_sync(~0u, v, step));
  if (lane == 0) part[warp] = v;
  __syncthreads();
  if (warp == 0) {
    v = lane < warps ? part[lane] : nothing;
    for (int step = 16; step; step /= 2) v = f(v, __shfl_down_sync(~0u, v, step));
    if (lane == 0) part[0] = v;
  }
  __syncthreads();
  v = part[0];
  __syncthreads();  // before the next use of part
  return v;
}

template <class T> INLINE T block_sum(T v) {
  return block_reduce(v, T(0), [](T a, T b) { return a + b; });
}

template <class T> INLINE T block_min(T v) {
  return block_reduce(v, v, [](T a, T b) { return b < a ? b : a; });
}
