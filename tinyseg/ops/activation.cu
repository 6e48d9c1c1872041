#include "common.cuh"

// y[i] = max(x[i], 0), nan stays nan
template <class T>
__global__ void relu_flat(T *__restrict__ y, const T *__restrict__ x, Index n) {
  PARALLEL_FOR(i, n) y[i] = x[i] < T(0) ? T(0) : x[i];
}

// dx[i] = dy[i] where y[i] > 0, else 0
template <class T>
__global__ void relu_backward_flat(T *__restrict__ dx, const T *__restrict__ dy, const T *__restrict__ y, Index n) {
  PARALLEL_FOR(i, n) dx[i] = y[i] > T(0) ? dy[i] : T(0);
}
