#include "common.cuh"

// The larger of two, the first of equals; NaN wins.
template <class T> INLINE bool beats(T a, T best) { return a > best || a != a; }

// y: the maximum of each window; tap: r*S + s where it stood. Parallel over y.
template <class T, class Tap = uint8>
__global__ void TYPES(float, double, half, float int32, double int32, half int32)
max_pool2d_forward(T *__restrict__ y, Tap *__restrict__ tap, const T *__restrict__ x, Index N, Index H,
                   Index W, Index C, Index P, Index Q, Index R, Index S, Index stride_h,
                   Index stride_w, Index padding_h, Index padding_w, Index dilation_h,
                   Index dilation_w) {
  PARALLEL_FOR(i, N * P * Q * C) {
    Index c = i % C, q = i / C % Q, p = i / C / Q % P, n = i / C / Q / P;
    T best = -INFINITY;
    Index at = -1;
    for (Index r = 0; r < R; r++) {
      Index h = p * stride_h - padding_h + r * dilation_h;
      if (h < 0 || h >= H) continue;
      for (Index s = 0; s < S; s++) {
        Index w = q * stride_w - padding_w + s * dilation_w;
        if (w < 0 || w >= W) continue;
        T a = x[((n * H + h) * W + w) * C + c];
        if (at < 0 || beats(a, best)) best = a, at = r * S + s;
      }
    }
    y[i] = best;
    tap[i] = (Tap)at;
  }
}

// dx: the sum of dy over the windows whose maximum stood here. Parallel over dx.
template <class T, class Tap = uint8>
__global__ void TYPES(float, double, half, float int32, double int32, half int32)
max_pool2d_backward(T *__restrict__ dx, const T *__restrict__ dy, const Tap *__restrict__ tap, Index N,
                    Index H, Index W, Index C, Index P, Index Q, Index R, Index S, Index stride_h,
                    Index stride_w, Index padding_h, Index padding_w, Index dilation_h,
                    Index dilation_w) {
  PARALLEL_FOR(i, N * H * W * C) {
    Index c = i % C, w = i / C % W + padding_w, h = i / C / W % H + padding_h, n = i / C / W / H;
    // the windows p in which this row is tap r: p * stride + r * dilation = h
    Index p_first = max((h - dilation_h * (R - 1) + stride_h - 1) / stride_h, (Index)0);
    Index q_first = max((w - dilation_w * (S - 1) + stride_w - 1) / stride_w, (Index)0);
    Sum<T> total = 0;
    for (Index p = p_first; p < P && p * stride_h <= h; p++) {
      Index r = (h - p * stride_h) / dilation_h;
      if (p * stride_h + r * dilation_h != h) continue;
      for (Index q = q_first; q < Q && q * stride_w <= w; q++) {
        Index s = (w - q * stride_w) / dilation_w;
        Index at = ((n * P + p) * Q + q) * C + c;
        if (q * stride_w + s * dilation_w == w && tap[at] == r * S + s) total += (Sum<T>)dy[at];
      }
    }
    dx[i] = total;
  }
}

// max_pool2d_forward for windows of 2x2 that tile the image. Parallel over y.
template <class T, class Tap = uint8>
__global__ void TYPES(float, double, half)
max_pool2x2_forward(T *__restrict__ y, Tap *__restrict__ tap, const T *__restrict__ x, Index N, Index C,
                    Index P, Index Q) {
  PARALLEL_FOR(i, N * P * Q * C) {
    Index c = i % C, q = i / C % Q, row = i / C / Q;
    const T *at = x + ((2 * row) * 2 * Q + 2 * q) * C + c;
    T value[4] = {at[0], at[C], at[2 * Q * C], at[2 * Q * C + C]};
    T best = value[0];
    int t = 0;
    for (int k = 1; k < 4; k++)
      if (beats(value[k], best)) best = value[k], t = k;
    y[i] = best;
    tap[i] = (Tap)t;
  }
}

// max_pool2d_backward for windows of 2x2 that tile the image. Parallel over dy.
template <class T, class Tap = uint8>
__global__ void TYPES(float, double, half)
max_pool2x2_backward(T *__restrict__ dx, const T *__restrict__ dy, const Tap *__restrict__ tap, Index N,
                     Index C, Index P, Index Q) {
  PARALLEL_FOR(i, N * P * Q * C) {
    Index c = i % C, q = i / C % Q, row = i / C / Q;
    T *at = dx + ((2 * row) * 2 * Q + 2 * q) * C + c;
    for (int k = 0; k < 4; k++) at[(k / 2 * 2 * Q + k % 2) * C] = tap[i] == k ? dy[i] : T(0);
  }
}

// last[n, at[n,i,c], c] = the largest such i; elsewhere it keeps its -1. Parallel over positions.
// The maximum of integers does not depend on the order of threads.
__global__ void unpool_last(int32 *last, const int32 *__restrict__ at, Index N, Index HW, Index PQ, Index C) {
  PARALLEL_FOR(j, N * PQ * C) {
    Index c = j % C, i = j / C % PQ, n = j / C / PQ;
    if (0 <= at[j] && at[j] < HW) atomicMax(&last[(n * HW + at[j]) * C + c], (int32)i);  // else an error is on its way
  }
}

// y = x at the position that came last, 0 where none came. Parallel over y.
template <class T>
__global__ void TYPES(float, double, half)
unpool_gather(T *__restrict__ y, const T *__restrict__ x, const int32 *__restrict__ last, Index N,
              Index HW, Index PQ, Index C) {
  PARALLEL_FOR(j, N * HW * C) {
    Index c = j % C, n = j / C / HW;
    y[j] = last[j] < 0 ? T(0) : x[(n * PQ + last[j]) * C + c];
  }
}

// dx[n,i,c] = dy[n, at[n,i,c], c]. Parallel over dx.
template <class T>
__global__ void TYPES(float, double, half)
max_unpool2d_backward(T *__restrict__ dx, const T *__restrict__ dy, const int32 *__restrict__ at,
                      Index N, Index HW, Index PQ, Index C) {
  PARALLEL_FOR(j, N * PQ * C) {
    Index c = j % C, n = j / C / PQ;
    dx[j] = 0 <= at[j] && at[j] < HW ? dy[(n * HW + at[j]) * C + c] : T(0);
  }
}
