// One filter a channel: neighbouring threads take neighbouring channels, so that all loads are contiguous.
#include "common.cuh"

// y[n,p,q,c] = b[c] + sum_{r,s} w[r,s,0,c] x[n, p*stride + r*dilation - padding, ..., c]. Parallel over y.
template <class T>
__global__ void depthwise_forward(T *__restrict__ y, const T *__restrict__ x, const T *__restrict__ w,
                                  const T *__restrict__ b, Index N, Index H, Index W, Index C, Index P, Index Q,
                                  Index R, Index S, Index stride_h, Index stride_w, Index pad_h, Index pad_w,
                                  Index dil_h, Index dil_w) {
  PARALLEL_FOR(i, N * P * Q * C) {
    Index c = i % C, q = i / C % Q, p = i / C / Q % P, n = i / C / Q / P;
    Sum<T> total = b[c];
    for (Index r = 0; r < R; r++) {
      Index h = p * stride_h + r * dil_h - pad_h;
      if (h < 0 || h >= H) continue;
      for (Index s = 0; s < S; s++) {
        Index v = q * stride_w + s * dil_w - pad_w;
        if (v < 0 || v >= W) continue;
        total += Sum<T>(w[(r * S + s) * C + c]) * Sum<T>(x[((n * H + h) * W + v) * C + c]);
      }
    }
    y[i] = total;
  }
}

// dx[n,h,w,c] = b[c] + sum_{r,s} w[r,s,0,c] dy[n,p,q,c] over the p, q that see (h, w). Parallel over dx.
template <class T>
__global__ void depthwise_backward_x(T *__restrict__ dx, const T *__restrict__ dy, const T *__restrict__ w,
                                     const T *__restrict__ b, Index N, Index H, Index W, Index C, Index P, Index Q,
                                     Index R, Index S, Index stride_h, Index stride_w, Index pad_h, Index pad_w,
                                     Index dil_h, Index dil_w) {
  PARALLEL_FOR(i, N * H * W * C) {
    Index c = i % C, v = i / C % W, h = i / C / W % H, n = i / C / W / H;
    Sum<T> total = b[c];
    for (Index r = 0; r < R; r++) {
      Index p = h + pad_h - r * dil_h;
      if (p < 0 || p % stride_h || p / stride_h >= P) continue;
      for (Index s = 0; s < S; s++) {
        Index q = v + pad_w - s * dil_w;
        if (q < 0 || q % stride_w || q / stride_w >= Q) continue;
        total += Sum<T>(w[(r * S + s) * C + c]) * Sum<T>(dy[((n * P + p / stride_h) * Q + q / stride_w) * C + c]);
      }
    }
    dx[i] = total;
  }
}

// parts[i, (r,s,c)] = the filters' gradient over the i-th share of the rows (n, p) of dy. Parallel over parts.
template <class T>
__global__ void depthwise_backward_w(T *__restrict__ parts, const T *__restrict__ dy, const T *__restrict__ x, Index N,
                                     Index H, Index W, Index C, Index P, Index Q, Index R, Index S, Index stride_h,
                                     Index stride_w, Index pad_h, Index pad_w, Index dil_h, Index dil_w,
                                     Index splits) {
  PARALLEL_FOR(j, splits * R * S * C) {
    Index c = j % C, s = j / C % S, r = j / C / S % R, i = j / C / S / R;
    Index begin = (int64)N * P * i / splits, end = (int64)N * P * (i + 1) / splits;
    Sum<T> total = 0;
    for (Index row = begin; row < end; row++) {
      Index n = row / P, h = row % P * stride_h + r * dil_h - pad_h;
      if (h < 0 || h >= H) continue;
      for (Index q = 0; q < Q; q++) {
        Index v = q * stride_w + s * dil_w - pad_w;
        if (v < 0 || v >= W) continue;
        total += Sum<T>(x[((n * H + h) * W + v) * C + c]) * Sum<T>(dy[(row * Q + q) * C + c]);
      }
    }
    parts[j] = total;
  }
}
