#include "roi_align.cuh"

// y[r,p,q,c]: the mean of the points of a bin. Parallel over the elements of y of the boxes in `which`.
template <class T>
__global__ void roi_align_forward(T *__restrict__ y, const T *__restrict__ x, const T *__restrict__ start,
                                  const T *__restrict__ step, const int32 *__restrict__ points,
                                  const int32 *__restrict__ which, const int32 *__restrict__ first, Index M, Index N,
                                  Index H, Index W, Index C, Index P, Index Q) {
  PARALLEL_FOR(i, M * P * Q * C) {
    Index c = i % C, q = i / C % Q, p = i / C / Q % P, m = i / C / Q / P;
    Index r = which[m], n = 0;
    while (first[n + 1] <= m) n++;
    int32 S = points[2 * r], R = points[2 * r + 1];
    T total = 0, share = T(1) / T(S * R > 1 ? S * R : 1);
    for (int32 s = 0; s < S; s++) {
      Neighbours h = neighbours(position(start[2 * r], step[2 * r], p, s, S), H);
      if (h.low < 0) continue;
      for (int32 t = 0; t < R; t++) {
        Neighbours w = neighbours(position(start[2 * r + 1], step[2 * r + 1], q, t, R), W);
        if (w.low < 0) continue;
        T lower = h.weight, right = w.weight;
        const T *above = x + (n * H + h.low) * W * C + c, *below = x + (n * H + h.high) * W * C + c;
        total += share * (1 - lower) * (1 - right) * above[w.low * C] + share * (1 - lower) * right * above[w.high * C] +
                 share * lower * (1 - right) * below[w.low * C] + share * lower * right * below[w.high * C];
      }
    }
    y[((r * P + p) * Q + q) * C + c] = total;
  }
}

// dx[n,h,w,c]: dy of every point that touches the pixel, by its weight. Parallel over the elements of dx.
template <class T>
__global__ void roi_align_backward(T *__restrict__ dx, const T *__restrict__ dy, const T *__restrict__ start,
                                   const T *__restrict__ step, const int32 *__restrict__ points,
                                   const int32 *__restrict__ which, const int32 *__restrict__ first, Index N, Index H,
                                   Index W, Index C, Index P, Index Q) {
  PARALLEL_FOR(i, N * H * W * C) {
    Index c = i % C, w = i / C % W, h = i / C / W % H, n = i / C / W / H;
    T total = 0;
    for (Index m = first[n]; m < first[n + 1]; m++) {
      Index r = which[m];
      T top = start[2 * r], left = start[2 * r + 1];
      T bottom = top + P * step[2 * r], end = left + Q * step[2 * r + 1];
      // pixels that no point of this box can touch
      if ((h < top - 1 && h < H - 2) || (h > bottom + 1 && h > 1)) continue;  // saves work
      if ((w < left - 1 && w < W - 2) || (w > end + 1 && w > 1)) continue;  // saves work
      int32 S = points[2 * r], R = points[2 * r + 1];
      T share = T(1) / T(S * R > 1 ? S * R : 1);
      for (Index p = 0; p < P; p++) {
        T down = 0;  // the weight of row h in the row of bins p
        for (int32 s = 0; s < S; s++) {
          Neighbours at = neighbours(position(top, step[2 * r], p, s, S), H);
          if (at.low == h) down += T(1) - T(at.weight);
          if (at.high == h && at.high != at.low) down += T(at.weight);
        }
        if (down == 0) continue;  // saves work
        for (Index q = 0; q < Q; q++) {
          T across = 0;
          for (int32 t = 0; t < R; t++) {
            Neighbours at = neighbours(position(left, step[2 * r + 1], q, t, R), W);
            if (at.low == w) across += T(1) - T(at.weight);
            if (at.high == w && at.high != at.low) across += T(at.weight);
          }
          if (across != 0) total += share * down * across * dy[((r * P + p) * Q + q) * C + c];
        }
      }
    }
    dx[i] = total;
  }
}
