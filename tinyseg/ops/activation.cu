#include "packs.cuh"

// y[i] = max(x[i], 0), nan stays nan
template <class T>
__global__ void TYPES(float, double, half)
relu_flat(T *__restrict__ y, const T *__restrict__ x, Index n) {
  map_packs(PARALLEL_PACKS(n), [](T x) { return x < T(0) ? T(0) : x; }, y, x);
}

// dx[i] = dy[i] where y[i] > 0, else 0
template <class T>
__global__ void TYPES(float, double, half)
relu_backward_flat(T *__restrict__ dx, const T *__restrict__ dy, const T *__restrict__ y, Index n) {
  map_packs(PARALLEL_PACKS(n), [](T dy, T y) { return y > T(0) ? dy : T(0); }, dx, dy, y);
}
