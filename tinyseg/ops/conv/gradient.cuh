// The gradient of a convolution's filters as a matrix product: a sum over all pixels of the result, in shares.
//
//     dw[r, s, c, k] = sum over n, p, q of x[n, p stride + r dilation - padding, ..., c] dy[n, p, q, k]
//
//     matrix   rows             columns          in device memory
//     A        (tap, channel)   pixels of dy     nowhere: a column is gathered from R S places of x
//     B        pixels of dy     channels of dy   dy as it lies there
//     dw       (tap, channel)   channels of dy
//
// The result is small and the sum is long, so the sum is cut into `splits` shares, a block for each tile and share
// (split-K). Each share writes its part for itself, and add_parts adds them up in their order: no atomics, so a run
// repeats to the bit. Both tiles run along the result, as NHWC has it; ldmatrix turns them. x may come in two parts: the
// channels from x_first on lie in an array of their own.
#pragma once
#include "matrix.cuh"

template <class Unit, int BN, class T = typename Unit::T>
INLINE void gradient_tile(float *parts, const T *dy, const T *x, const T *x_behind, int x_first, Index N, Index H,
                          Index W, int C, Index P, Index Q, Index K, int R, int S, int stride_h, int stride_w,
                          int pad_h, int pad_w, int dil_h, int dil_w, int groups, int splits) {
  constexpr int DEPTH = Unit::DEPTH;
  DYNAMIC_SHARED(T, ring);
  int Cg = C / groups, Kg = K / groups, depth = R * S * Cg;
  Index block = blockIdx.x;
  int columns = cdiv(Kg, BN), n0 = block % columns * BN;
  block /= columns;
  int m0 = block % cdiv(depth, BM) * BM;
  block /= cdiv(depth, BM);
  int group = block % groups, split = block / groups;

  // Its share of the pixels, and for this thread the tap and channel of the column of A that it copies at every stage.
  Index pixels = N * P * Q, steps = cdiv(pixels, Index(DEPTH));
  Index first = int64(steps) * split / splits, last = int64(steps) * (split + 1) / splits;
  bool a_chunks = in_chunks(x, Cg) && in_chunks(x_behind, C - x_first), b_chunks = in_chunks(dy, Kg);
  int mine = m0 + tile_column<BM, T>(a_chunks), tap = mine / Cg;
  int move_h = tap / S * dil_h - pad_h, move_w = tap % S * dil_w - pad_w;
  bool real = mine < depth;
  int channel = group * Cg + mine % Cg, pixel_apart = channel < x_first ? x_first : C - x_first;
  x = channel < x_first ? x + channel : x_behind + (channel - x_first);

  // Its rows are pixels i, i + apart, i + 2 apart, ... through all stages: counted on, not divided.
  int threads_a_row = a_chunks ? BM / Unit::CHUNK : BM, apart = THREADS / threads_a_row;
  Index i = first * DEPTH + threadIdx.x / threads_a_row;
  int q = i % Q, p = i / Q % P, n = i / Q / P;
  Index b_row = first * DEPTH;
  dy += group * Kg + n0;

  auto copy = [&](T *a_tile, T *b_tile) {
    copy_tile<DEPTH, BM>(a_tile, a_chunks, [&](int, int, bool &inside) {
      int h = p * stride_h + move_h, v = q * stride_w + move_w;
      inside = real && n < N && (unsigned)h < (unsigned)H && (unsigned)v < (unsigned)W;
      Index at = inside ? ((n * H + h) * W + v) * pixel_apart : 0;
      q += apart;
      if (q >= Q) {
        p += q / int(Q), q %= int(Q);
        if (p >= P) n += p / int(P), p %= int(P);
      }
      return x + at;
    });
    copy_tile<DEPTH, BN>(b_tile, b_chunks, [&](int row, int column, bool &inside) {
      inside = b_row + row < pixels && n0 + column < Kg;
      return dy + (inside ? (b_row + row) * K + column : 0);
    });
    b_row += DEPTH;
  };
  Product<Unit, BN> product;
  product.template run<RESULT, RESULT>(ring, int(last - first), copy);

  parts += split * (int64(depth) * K) + group * Kg + n0;
  product.each([&](int row, int column, float v) {
    if (m0 + row < depth && n0 + column < Kg) parts[(m0 + row) * K + column] = v;
  });
}

// The unit and the width of the tile.
template <class T, class... Rest>
INLINE void choose_gradient(bool wide, bool exact, float *parts, const T *dy, Rest... rest) {
  if (wide) return gradient_tile<TensorCore<T>, 128>(parts, dy, rest...);
  if constexpr (sizeof(T) == 4)
    if (exact) return gradient_tile<PlainFloat, 64>(parts, dy, rest...);
  gradient_tile<TensorCore<T>, 64>(parts, dy, rest...);
}
