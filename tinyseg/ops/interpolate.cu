#include "common.cuh"

// y[a,p,i] = sum_j weight[start[p] + j] x[a, first[p] + j, i]. Parallel over y.
template <class T>
__global__ void TYPES(float, double, half)
resample(T *__restrict__ y, const T *__restrict__ x, const int32 *__restrict__ first,
         const int32 *__restrict__ start, const T *__restrict__ weight, Index A, Index X, Index I,
         Index P, Index stripe) {
  PARALLEL_FOR(k, A * P * I) {
    Index i = k % I, p = k / I % P, a = k / I / P;
    const T *from = x + (a * X + first[p]) * I + i;
    Sum<T> total = 0;
    for (Index j = start[p]; j < start[p + 1]; j++, from += I) total += Sum<T>(weight[j]) * Sum<T>(*from);
    y[k] = total;
  }
}
