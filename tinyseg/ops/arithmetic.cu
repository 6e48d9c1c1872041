#include "common.cuh"

// y[i] = a[i] + b[i]
template <class T>
__global__ void add_flat(T *__restrict__ y, const T *__restrict__ a, const T *__restrict__ b, Index n) {
  PARALLEL_FOR(i, n) y[i] = a[i] + b[i];
}
