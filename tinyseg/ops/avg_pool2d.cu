#include "common.cuh"

// y[n,p,q,c]: the mean of a box of x. Parallel over y.
template <class T>
__global__ void TYPES(float, double, half)
box_mean(T *__restrict__ y, const T *__restrict__ x, const int32 *__restrict__ h0,
         const int32 *__restrict__ h1, const int32 *__restrict__ count_h, const int32 *__restrict__ w0,
         const int32 *__restrict__ w1, const int32 *__restrict__ count_w, Index N, Index H, Index W,
         Index C, Index P, Index Q) {
  PARALLEL_FOR(i, N * P * Q * C) {
    Index c = i % C, q = i / C % Q, p = i / C / Q % P, n = i / C / Q / P;
    Sum<T> total = 0;
    for (Index h = h0[p]; h < h1[p]; h++)
      for (Index w = w0[q]; w < w1[q]; w++) total += (Sum<T>)x[((n * H + h) * W + w) * C + c];
    y[i] = total / ((Sum<T>)count_h[p] * count_w[q]);
  }
}

// dx[n,h,w,c]: dy of every box that holds the pixel, each by its share. Parallel over dx.
template <class T>
__global__ void TYPES(float, double, half)
box_mean_backward(T *__restrict__ dx, const T *__restrict__ dy, const int32 *__restrict__ p_first,
                  const int32 *__restrict__ p_behind, const int32 *__restrict__ count_h,
                  const int32 *__restrict__ q_first, const int32 *__restrict__ q_behind,
                  const int32 *__restrict__ count_w, Index N, Index H, Index W, Index C, Index P,
                  Index Q) {
  PARALLEL_FOR(i, N * H * W * C) {
    Index c = i % C, w = i / C % W, h = i / C / W % H, n = i / C / W / H;
    Sum<T> total = 0;
    for (Index p = p_first[h]; p < p_behind[h]; p++)
      for (Index q = q_first[w]; q < q_behind[w]; q++)
        total += (Sum<T>)dy[((n * P + p) * Q + q) * C + c] / ((Sum<T>)count_h[p] * count_w[q]);
    dx[i] = total;
  }
}
