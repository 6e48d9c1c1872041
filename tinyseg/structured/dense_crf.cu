#include "common.cuh"

constexpr int POINTS = 4;  // of a block: a warp each

// q[n] = softmax(scores[n] + sum_j weight[n J + j] values[vertex[n J + j]]). A warp a point, a lane a class.
template <class T>
__global__ void __launch_bounds__(128) mean_field(T *__restrict__ q, const T *__restrict__ scores,
                                                  const T *__restrict__ values, const int32 *__restrict__ vertex,
                                                  const T *__restrict__ weight, Index N, Index J, Index K) {
  PARALLEL_BLOCKS(i, (N + POINTS - 1) / POINTS) {
    Index n = i * POINTS + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (n >= N) continue;  // the whole warp
    T top = -INFINITY, total = 0;
    for (Index k = lane; k < K; k += 32) {
      T score = scores[n * K + k];
      for (Index e = n * J; e < n * J + J; e++) score += weight[e] * values[vertex[e] * K + k];
      q[n * K + k] = score;
      top = score > top ? score : top;
    }
    for (int bits = 16; bits; bits /= 2) {
      T other = __shfl_xor_sync(~0u, top, bits);
      top = other > top ? other : top;
    }
#pragma unroll 1  // there are seldom more than 32 classes
    for (Index k = lane; k < K; k += 32) total += q[n * K + k] = exp(q[n * K + k] - top);
    T share = 1 / __shfl_sync(~0u, warp_sum(total), 0);
#pragma unroll 1
    for (Index k = lane; k < K; k += 32) q[n * K + k] *= share;
  }
}
