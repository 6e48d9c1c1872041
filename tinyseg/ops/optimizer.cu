#include "common.cuh"

// w -= lr (g + weight_decay w)
template <class T>
__global__ void descend(T *__restrict__ w, const T *__restrict__ g, T lr, T weight_decay, Index n) {
  PARALLEL_FOR(i, n) w[i] -= lr * (g[i] + weight_decay * w[i]);
}

// v = momentum v + (g + weight_decay w);  w -= lr v,  with Nesterov  w -= lr (g + weight_decay w + momentum v)
template <class T>
__global__ void sgd_update(T *__restrict__ w, T *__restrict__ v, const T *__restrict__ g, T lr, T momentum,
                           T weight_decay, bool nesterov, Index n) {
  PARALLEL_FOR(i, n) {
    T d = g[i] + weight_decay * w[i];
    T velocity = v[i] = momentum * v[i] + d;
    w[i] -= lr * (nesterov ? d + momentum * velocity : velocity);
  }
}

// m, v: running means of d = g + weight_decay w and of d^2;  w = keep w - step_size m / (sqrt(v) correction + eps)
template <class T>
__global__ void adam_update(T *__restrict__ w, T *__restrict__ m, T *__restrict__ v, const T *__restrict__ g,
                            T step_size, T beta1, T rest1, T beta2, T rest2, T correction, T eps, T weight_decay,
                            T keep, Index n) {
  PARALLEL_FOR(i, n) {
    T d = g[i] + weight_decay * w[i];
    T mean = m[i] = beta1 * m[i] + rest1 * d;
    T square = v[i] = beta2 * v[i] + rest2 * d * d;
    w[i] = keep * w[i] - step_size * mean / (sqrt(square) * correction + eps);
  }
}

// partial[j] = sum of x[i]^2 over the j-th piece of `length` elements, in double. Parallel over pieces, a block each.
template <class T>
__global__ void sum_of_squares(double *__restrict__ partial, const T *__restrict__ x, Index length, Index pieces,
                               Index n) {
  PARALLEL_BLOCKS(j, pieces) {
    Index end = min(n, (j + 1) * length);
    double total = 0;
    for (Index i = j * length + threadIdx.x; i < end; i += blockDim.x) total += (double)x[i] * x[i];
    total = block_sum(total);
    if (threadIdx.x == 0) partial[j] = total;
  }
}
