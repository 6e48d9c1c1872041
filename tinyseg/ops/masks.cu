#include "roi_align.cuh"

// y[r,h,w]: the bordered mask at the pixel, 0 outside of its box. Parallel over pixels.
template <class T>
__global__ void paste(T *__restrict__ y, const T *__restrict__ masks, const int32 *__restrict__ where, Index R,
                      Index M, Index H, Index W) {
  PARALLEL_FOR(i, R * H * W) {
    Index w = i % W, h = i / W % H, r = i / W / H;
    int32 x1 = where[4 * r], y1 = where[4 * r + 1], x2 = where[4 * r + 2], y2 = where[4 * r + 3];
    T total = 0;  // the border, index 0 and M + 1, is zero
    bool inside = h >= y1 && h <= y2 && w >= x1 && w <= x2;
    if (inside) {
      int32 rows = y2 - y1 + 1, columns = x2 - x1 + 1;
      double u = (h - y1 + 0.5) * ((M + 2) / (double)rows) - 0.5, v = (w - x1 + 0.5) * ((M + 2) / (double)columns) - 0.5;
      u = u > 0 ? u : 0, v = v > 0 ? v : 0;
      Index i0 = (Index)u < M + 1 ? (Index)u : M + 1, j0 = (Index)v < M + 1 ? (Index)v : M + 1;
      T down = u - i0, right = v - j0;
      for (int32 k = 0; k < 4; k++) {
        Index a = k > 1 ? (i0 + 1 < M + 1 ? i0 + 1 : M + 1) : i0, b = k % 2 ? (j0 + 1 < M + 1 ? j0 + 1 : M + 1) : j0;
        if (a < 1 || a > M || b < 1 || b > M) continue;
        total += (k > 1 ? down : 1 - down) * (k % 2 ? right : 1 - right) * masks[(r * M + a - 1) * M + b - 1];
      }
    }
    y[i] = total;
  }
}

// y[r,p,q]: the mean of the points of a bin in a mask that is 0 outside its place. Parallel over bins.
template <class T>
__global__ void crop(T *__restrict__ y, const uint8 *__restrict__ bits, const int64 *__restrict__ starts,
                     const int32 *__restrict__ places, const int32 *__restrict__ which, const T *__restrict__ start,
                     const T *__restrict__ step, const int32 *__restrict__ points, Index R, Index H, Index W, Index P,
                     Index Q) {
  PARALLEL_FOR(o, R * P * Q) {
    Index q = o % Q, p = o / Q % P, r = o / Q / P, m = which[r];
    int32 top = places[4 * m], left = places[4 * m + 1], rows = places[4 * m + 2], columns = places[4 * m + 3];
    int32 S = points[2 * r], U = points[2 * r + 1];
    T total = 0;
    for (int32 s = 0; s < S; s++) {
      Neighbours h = neighbours(position(start[2 * r], step[2 * r], p, s, S), H);
      if (h.low < 0) continue;  // saves work
      for (int32 t = 0; t < U; t++) {
        Neighbours w = neighbours(position(start[2 * r + 1], step[2 * r + 1], q, t, U), W);
        if (w.low < 0) continue;  // saves work
        T lower = h.weight, right = w.weight;
        for (int32 k = 0; k < 4; k++) {
          int32 i = (k > 1 ? h.high : h.low) - top, j = (k % 2 ? w.high : w.low) - left;
          if (i >= 0 && i < rows && j >= 0 && j < columns && bits[starts[m] + (int64)i * columns + j])
            total += (k > 1 ? lower : 1 - lower) * (k % 2 ? right : 1 - right);
        }
      }
    }
    y[o] = total / T(S * U > 1 ? S * U : 1);
  }
}
