#include "common.cuh"

// y: softmax of each row of x, or its logarithm; highest[m]: the row's maximum. Parallel over rows.
template <class T>
__global__ void softmax_forward(T *__restrict__ y, T *__restrict__ highest, const T *__restrict__ x, bool log, Index M,
                                Index K, Index run) {
  PARALLEL_FOR(m, M) {
    const T *in = x + m * K;
    T *out = y + m * K;
    T top = in[0];
    for (Index k = 1; k < K; k++) top = in[k] > top ? in[k] : top;
    T total = 0;
    for (Index k = 0; k < K; k++) total += out[k] = exp(in[k] - top);
    highest[m] = top;
    if (log) {
      T offset = top + ::log(total);
      for (Index k = 0; k < K; k++) out[k] = in[k] - offset;
    } else {
      T share = 1 / total;
      for (Index k = 0; k < K; k++) out[k] *= share;
    }
  }
}

// dx = y (dy - sum dy y), or for the logarithm dy - exp(y) sum dy. Parallel over rows.
template <class T>
__global__ void softmax_backward(T *__restrict__ dx, const T *__restrict__ dy, const T *__restrict__ y, bool log,
                                 Index M, Index K) {
  PARALLEL_FOR(m, M) {
    const T *g = dy + m * K, *out = y + m * K;
    T total = 0;
    for (Index k = 0; k < K; k++) total += log ? g[k] : g[k] * out[k];
    for (Index k = 0; k < K; k++) dx[m * K + k] = log ? g[k] - exp(out[k]) * total : out[k] * (g[k] - total);
  }
}
