#include "common.cuh"

// y[n] = sum_m exp(-|f_n - f_m|^2 / 2) x[m]. Parallel over points and channels.
template <class T>
__global__ void gaussian_sums(T *__restrict__ y, const T *__restrict__ x, const double *__restrict__ features, Index N,
                              Index d, Index K) {
  PARALLEL_FOR(i, N * K) {
    const double *here = features + i / K * d;
    T total = 0;
    for (Index m = 0; m < N; m++) {
      double squared = 0;
      for (Index j = 0; j < d; j++) squared += (here[j] - features[m * d + j]) * (here[j] - features[m * d + j]);
      total += T(exp(-squared / 2)) * x[m * K + i % K];
    }
    y[i] = total;
  }
}
