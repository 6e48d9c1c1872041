// The definition of convolution on a GPU: one thread for each element of the result. c runs over the channels of k's
// group; sums are in float, of doubles in double.
#include "common.cuh"

// y[n,p,q,k] = b[k] + sum_{r,s,c} w[r,s,c,k] x[n, p*stride + r*dilation - padding, ..., c]. Parallel over y.
template <class T>
__global__ void plain_forward(T *__restrict__ y, const T *__restrict__ x, const T *__restrict__ w,
                              const T *__restrict__ b, Index N, Index H, Index W, Index C, Index P, Index Q, Index K,
                              Index R, Index S, Index stride_h, Index stride_w, Index pad_h, Index pad_w, Index dil_h,
                              Index dil_w, Index groups) {
  Index Cg = C / groups, Kg = K / groups;
  PARALLEL_FOR(i, N * P * Q * K) {
    Index k = i % K, q = i / K % Q, p = i / K / Q % P, n = i / K / Q / P;
    Index first = k / Kg * Cg;
    Sum<T> total = b[k];
    for (Index r = 0; r < R; r++) {
      Index h = p * stride_h + r * dil_h - pad_h;
      if (h < 0 || h >= H) continue;
      for (Index s = 0; s < S; s++) {
        Index v = q * stride_w + s * dil_w - pad_w;
        if (v < 0 || v >= W) continue;
        const T *at = x + ((n * H + h) * W + v) * C + first;
        const T *tap = w + (r * S + s) * Cg * K + k;
        for (Index c = 0; c < Cg; c++) total += Sum<T>(at[c]) * Sum<T>(tap[c * K]);
      }
    }
    y[i] = total;
  }
}

// dx[n,h,w,c] = b[c] + sum_{r,s,k} w[r,s,c,k] dy[n,p,q,k] over the p, q whose tap sees (h, w). Parallel over dx.
template <class T>
__global__ void plain_backward_x(T *__restrict__ dx, const T *__restrict__ dy, const T *__restrict__ w,
                                 const T *__restrict__ b, Index N, Index H, Index W, Index C, Index P, Index Q, Index K,
                                 Index R, Index S, Index stride_h, Index stride_w, Index pad_h, Index pad_w,
                                 Index dil_h, Index dil_w, Index groups) {
  Index Cg = C / groups, Kg = K / groups;
  PARALLEL_FOR(i, N * H * W * C) {
    Index c = i % C, v = i / C % W, h = i / C / W % H, n = i / C / W / H;
    Index g = c / Cg;
    Sum<T> total = b[c];
    for (Index r = 0; r < R; r++) {
      Index p = h + pad_h - r * dil_h;
      if (p < 0 || p % stride_h || p / stride_h >= P) continue;
      for (Index s = 0; s < S; s++) {
        Index q = v + pad_w - s * dil_w;
        if (q < 0 || q % stride_w || q / stride_w >= Q) continue;
        const T *at = dy + ((n * P + p / stride_h) * Q + q / stride_w) * K + g * Kg;
        const T *tap = w + ((r * S + s) * Cg + c - g * Cg) * K + g * Kg;
        for (Index k = 0; k < Kg; k++) total += Sum<T>(tap[k]) * Sum<T>(at[k]);
      }
    }
    dx[i] = total;
  }
}

// dw[r,s,c,k] = sum_{n,p,q} x[n, p*stride + r*dilation - padding, ..., c] dy[n,p,q,k]. Parallel over dw.
template <class T>
__global__ void plain_backward_w(T *__restrict__ dw, const T *__restrict__ dy, const T *__restrict__ x, Index N,
                                 Index H, Index W, Index C, Index P, Index Q, Index K, Index R, Index S,
                                 Index stride_h, Index stride_w, Index pad_h, Index pad_w, Index dil_h, Index dil_w,
                                 Index groups) {
  Index Cg = C / groups, Kg = K / groups;
  PARALLEL_FOR(i, R * S * (C / groups) * K) {
    Index k = i % K, c = i / K % Cg, s = i / K / Cg % S, r = i / K / Cg / S;
    Index first = k / Kg * Cg + c;
    Sum<T> total = 0;
    for (Index n = 0; n < N; n++) {
      for (Index p = 0; p < P; p++) {
        Index h = p * stride_h + r * dil_h - pad_h;
        if (h < 0 || h >= H) continue;
        for (Index q = 0; q < Q; q++) {
          Index v = q * stride_w + s * dil_w - pad_w;
          if (v < 0 || v >= W) continue;
          total += Sum<T>(x[((n * H + h) * W + v) * C + first]) * Sum<T>(dy[((n * P + p) * Q + q) * K + k]);
        }
      }
    }
    dw[i] = total;
  }
}

// total[i, k] = sum of dy over the i-th share of its rows, in double. Parallel over shares and channels.
template <class T>
__global__ void TYPES(float, double, half)
channel_sums(double *__restrict__ total, const T *__restrict__ dy, Index rows, Index K, Index parts) {
  PARALLEL_FOR(j, parts * K) {
    Index i = j / K, k = j % K;
    Index begin = (int64)rows * i / parts, end = (int64)rows * (i + 1) / parts;
    double sum = 0;
    for (Index row = begin; row < end; row++) sum += (Sum<T>)dy[row * K + k];
    total[j] = sum;
  }
}
