// What a GPU takes of direct.py: the sum of partial results. Its implicit GEMM is another one, on tensor cores.
#include "common.cuh"

// total[j] = sum_i parts[i, j], in the order of i. Parallel over j.
template <class T>
__global__ void sum_parts(T *__restrict__ total, const T *__restrict__ parts, Index count, Index n) {
  PARALLEL_FOR(j, n) {
    Sum<T> sum = parts[j];
    for (Index i = 1; i < count; i++) sum += parts[i * n + j];
    total[j] = sum;
  }
}
