// One filter a channel. A thread takes a pack of neighbouring channels, 16 bytes where C and the addresses allow that, and
// neighbouring threads neighbouring packs, so that all loads are contiguous. Memory is the limit, then the loads
// themselves: so with 3 taps in a row and no stride a thread slides along the row, and reads each pixel once for all three.
// T is the type of images and filters; B that of sums, biases and parts: T, or float where T has 16 bits.
#include "packs.cuh"

constexpr int PIXELS = 4;  // that a thread computes where it slides

template <int V, class T, class B> INLINE void load(B (&to)[V], const T *from) {
  Pack<T, V> pack = *reinterpret_cast<const Pack<T, V> *>(from);
#pragma unroll
  for (int k = 0; k < V; k++) to[k] = B(pack.number[k]);
}

template <int V, class T, class B> INLINE void store(T *to, const B (&from)[V]) {
  Pack<T, V> pack;
#pragma unroll
  for (int k = 0; k < V; k++) pack.number[k] = T(from[k]);
  *reinterpret_cast<Pack<T, V> *>(to) = pack;
}

template <int V, class B> INLINE void add_product(B (&total)[V], const B (&a)[V], const B (&b)[V]) {
#pragma unroll
  for (int k = 0; k < V; k++) total[k] += a[k] * b[k];
}

// ---- forward

template <int V, class T, class B>
INLINE void forward_pixels(T *y, const T *x, const T *w, const B *b, Index N, Index H, Index W, Index C, Index P,
                           Index Q, Index R, Index S, Index stride_h, Index stride_w, Index pad_h, Index pad_w,
                           Index dil_h, Index dil_w) {
  Index packs = C / V;
  PARALLEL_FOR(i, N * P * Q * packs) {
    Index c = i % packs * V, q = i / packs % Q, p = i / packs / Q % P, n = i / packs / Q / P;
    B total[V], tap[V], number[V];
#pragma unroll
    for (int k = 0; k < V; k++) total[k] = b[c + k];
    for (Index r = 0; r < R; r++) {
      Index h = p * stride_h + r * dil_h - pad_h;
      if (h < 0 || h >= H) continue;
      for (Index s = 0; s < S; s++) {
        Index v = q * stride_w + s * dil_w - pad_w;
        if (v < 0 || v >= W) continue;
        load(tap, w + (r * S + s) * C + c);
        load(number, x + ((n * H + h) * W + v) * C + c);
        add_product(total, tap, number);
      }
    }
    store(y + ((n * P + p) * Q + q) * C + c, total);
  }
}

// 3 taps in a row, no stride: pixels q, q + dilation, ... of a thread meet the same pixels of x.
template <int V, class T, class B>
INLINE void forward_sliding(T *y, const T *x, const T *w, const B *b, Index N, Index H, Index W, Index C, Index P,
                            Index Q, Index R, Index stride_h, Index pad_h, Index pad_w, Index dil_h, Index dil_w) {
  Index packs = C / V, runs = cdiv(Q, PIXELS * dil_w) * dil_w;
  PARALLEL_FOR(i, N * P * runs * packs) {
    Index c = i % packs * V, run = i / packs % runs, p = i / packs / runs % P, n = i / packs / runs / P;
    Index q = run / dil_w * PIXELS * dil_w + run % dil_w;
    B total[PIXELS][V], tap[3][V], number[V];
#pragma unroll
    for (int j = 0; j < PIXELS; j++)
#pragma unroll
      for (int k = 0; k < V; k++) total[j][k] = b[c + k];
    for (Index r = 0; r < R; r++) {
      Index h = p * stride_h + r * dil_h - pad_h;
      if (h < 0 || h >= H) continue;
#pragma unroll
      for (int s = 0; s < 3; s++) load(tap[s], w + (r * 3 + s) * C + c);
#pragma unroll
      for (int j = 0; j < PIXELS + 2; j++) {
        Index v = q + j * dil_w - pad_w;
        if (v < 0 || v >= W) continue;
        load(number, x + ((n * H + h) * W + v) * C + c);
#pragma unroll
        for (int s = 0; s < 3; s++)
          if (0 <= j - s && j - s < PIXELS) add_product(total[j - s], tap[s], number);
      }
    }
#pragma unroll
    for (int j = 0; j < PIXELS; j++)
      if (q + j * dil_w < Q) store(y + ((n * P + p) * Q + q + j * dil_w) * C + c, total[j]);
  }
}

// y[n,p,q,c] = b[c] + sum_{r,s} w[r,s,0,c] x[n, p*stride + r*dilation - padding, ..., c]. Parallel over y.
template <class T, class B>
__global__ void __launch_bounds__(128, 4) TYPES(float, double, half float) GRID(cdiv(N * P * Q * C, 2048))
depthwise_forward(T *__restrict__ y, const T *__restrict__ x, const T *__restrict__ w, const B *__restrict__ b, Index N,
                  Index H, Index W, Index C, Index P, Index Q, Index R, Index S, Index stride_h, Index stride_w,
                  Index pad_h, Index pad_w, Index dil_h, Index dil_w) {
  constexpr int V = 16 / sizeof(T);
  if (C % V || !in_packs(x) || !in_packs(w) || !in_packs(y))
    forward_pixels<1>(y, x, w, b, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w);
  else if (S == 3 && stride_w == 1)
    forward_sliding<V>(y, x, w, b, N, H, W, C, P, Q, R, stride_h, pad_h, pad_w, dil_h, dil_w);
  else
    forward_pixels<V>(y, x, w, b, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w);
}

// ---- the adjoint of x -> y, for strides; without one it is a forward pass, with the filters turned round

template <int V, class T, class B>
INLINE void backward_pixels(T *dx, const T *dy, const T *w, const B *b, Index N, Index H, Index W, Index C, Index P,
                            Index Q, Index R, Index S, Index stride_h, Index stride_w, Index pad_h, Index pad_w,
                            Index dil_h, Index dil_w) {
  Index packs = C / V;
  PARALLEL_FOR(i, N * H * W * packs) {
    Index c = i % packs * V, v = i / packs % W, h = i / packs / W % H, n = i / packs / W / H;
    B total[V], tap[V], number[V];
#pragma unroll
    for (int k = 0; k < V; k++) total[k] = b[c + k];
    for (Index r = 0; r < R; r++) {
      Index p = h + pad_h - r * dil_h;
      if (p < 0 || p % stride_h || p / stride_h >= P) continue;
      for (Index s = 0; s < S; s++) {
        Index q = v + pad_w - s * dil_w;
        if (q < 0 || q % stride_w || q / stride_w >= Q) continue;
        load(tap, w + (r * S + s) * C + c);
        load(number, dy + ((n * P + p / stride_h) * Q + q / stride_w) * C + c);
        add_product(total, tap, number);
      }
    }
    store(dx + ((n * H + h) * W + v) * C + c, total);
  }
}

// dx[n,h,w,c] = b[c] + sum_{r,s} w[r,s,0,c] dy[n,p,q,c] over the p, q that see (h, w). Parallel over dx.
template <class T, class B>
__global__ void __launch_bounds__(128, 4) TYPES(float, double, half float) GRID(cdiv(N * H * W * C, 1024))
depthwise_backward_x(T *__restrict__ dx, const T *__restrict__ dy, const T *__restrict__ w, const B *__restrict__ b,
                     Index N, Index H, Index W, Index C, Index P, Index Q, Index R, Index S, Index stride_h,
                     Index stride_w, Index pad_h, Index pad_w, Index dil_h, Index dil_w) {
  constexpr int V = 16 / sizeof(T);
  if (C % V || !in_packs(dx) || !in_packs(w) || !in_packs(dy))
    backward_pixels<1>(dx, dy, w, b, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w);
  else
    backward_pixels<V>(dx, dy, w, b, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w);
}

// ---- the adjoint of w -> y

template <int V, class T, class B>
INLINE void filter_taps(B *parts, const T *dy, const T *x, Index N, Index H, Index W, Index C, Index P, Index Q,
                        Index R, Index S, Index stride_h, Index stride_w, Index pad_h, Index pad_w, Index dil_h,
                        Index dil_w, Index splits) {
  Index packs = C / V;
  PARALLEL_FOR(j, splits * R * S * packs) {
    Index c = j % packs * V, s = j / packs % S, r = j / packs / S % R, i = j / packs / S / R;
    Index begin = (int64)N * P * i / splits, end = (int64)N * P * (i + 1) / splits;
    B total[V] = {}, a[V], b[V];
    for (Index row = begin; row < end; row++) {
      Index n = row / P, h = row % P * stride_h + r * dil_h - pad_h;
      if (h < 0 || h >= H) continue;
      for (Index q = 0; q < Q; q++) {
        Index v = q * stride_w + s * dil_w - pad_w;
        if (v < 0 || v >= W) continue;
        load(a, x + ((n * H + h) * W + v) * C + c);
        load(b, dy + (row * Q + q) * C + c);
        add_product(total, a, b);
      }
    }
#pragma unroll
    for (int k = 0; k < V; k++) parts[((i * R + r) * S + s) * C + c + k] = total[k];
  }
}

// 3 taps in a row, no stride: from pixel to pixel, a dilation apart, the window of 3 pixels of x moves by one.
template <int V, class T, class B>
INLINE void filter_rows(B *parts, const T *dy, const T *x, Index N, Index H, Index W, Index C, Index P, Index Q,
                        Index R, Index stride_h, Index pad_h, Index pad_w, Index dil_h, Index dil_w, Index splits) {
  Index packs = C / V;
  PARALLEL_FOR(j, splits * R * packs) {
    Index c = j % packs * V, r = j / packs % R, i = j / packs / R;
    Index begin = (int64)N * P * i / splits, end = (int64)N * P * (i + 1) / splits;
    B total[3][V] = {}, window[3][V], number[V];
    for (Index row = begin; row < end; row++) {
      Index n = row / P, h = row % P * stride_h + r * dil_h - pad_h;
      if (h < 0 || h >= H) continue;
      const T *pixels = x + (n * H + h) * W * C + c;
      auto pixel = [&](B (&to)[V], Index v) {
        if (0 <= v && v < W) load(to, pixels + v * C);
        else
#pragma unroll
          for (int k = 0; k < V; k++) to[k] = 0;
      };
      for (Index first = 0; first < dil_w && first < Q; first++) {
        pixel(window[0], first - pad_w);
        pixel(window[1], first + dil_w - pad_w);
        for (Index q = first; q < Q; q += dil_w) {
          pixel(window[2], q + 2 * dil_w - pad_w);
          load(number, dy + (row * Q + q) * C + c);
#pragma unroll
          for (int s = 0; s < 3; s++) add_product(total[s], window[s], number);
#pragma unroll
          for (int k = 0; k < V; k++) window[0][k] = window[1][k], window[1][k] = window[2][k];
        }
      }
    }
#pragma unroll
    for (int s = 0; s < 3; s++)
#pragma unroll
      for (int k = 0; k < V; k++) parts[((i * R + r) * 3 + s) * C + c + k] = total[s][k];
  }
}

// parts[i, (r,s,c)] = the filters' gradient over the i-th share of the rows (n, p) of dy. Parallel over parts.
template <class T, class B>
__global__ void __launch_bounds__(128, 4) TYPES(float, double, half float) GRID(cdiv(splits * R * S * C, 128))
depthwise_backward_w(B *__restrict__ parts, const T *__restrict__ dy, const T *__restrict__ x, Index N, Index H,
                     Index W, Index C, Index P, Index Q, Index R, Index S, Index stride_h, Index stride_w, Index pad_h,
                     Index pad_w, Index dil_h, Index dil_w, Index splits) {
  constexpr int V = 16 / sizeof(T);
  if (C % V || !in_packs(x) || !in_packs(dy))
    filter_taps<1>(parts, dy, x, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, splits);
  else if (S == 3 && stride_w == 1)
    filter_rows<V>(parts, dy, x, N, H, W, C, P, Q, R, stride_h, pad_h, pad_w, dil_h, dil_w, splits);
  else
    filter_taps<V>(parts, dy, x, N, H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, splits);
}
