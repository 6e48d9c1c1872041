#include "common.cuh"

// The sum of each row of x (M,K), a block for a row: each warp sums some of the columns by shuffles, shared memory
// brings the warps together. Parallel over rows.
template <class T>
__global__ void __launch_bounds__(64) row_sums(T *__restrict__ y, const T *__restrict__ x, Index M, Index K) {
  __shared__ T part[2];
  PARALLEL_BLOCKS(m, M) {
    T sum = 0;
    for (Index k = threadIdx.x; k < K; k += blockDim.x) sum += x[m * K + k];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) y[m] = part[0] + part[1];
    __syncthreads();  // before the next row's part
  }
}

// The same without its first barrier: thread 0 reads what the other warp may not have written yet.
template <class T>
__global__ void __launch_bounds__(64) row_sums_broken(T *__restrict__ y, const T *__restrict__ x, Index M, Index K) {
  __shared__ T part[2];
  PARALLEL_BLOCKS(m, M) {
    T sum = 0;
    for (Index k = threadIdx.x; k < K; k += blockDim.x) sum += x[m * K + k];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
    if (threadIdx.x == 0) y[m] = part[0] + part[1];
    __syncthreads();
  }
}
