// Convolution in both directions as one matrix product whose left matrix is made while it is read (implicit GEMM).
//
//     out[n, o, k] = b[k] + sum over taps (r, s) and channels c of a[n, (o num + off + r inc) / den, c] w[r, s, c, k]
//
//     y of x:    num = stride, den = 1, off = -padding, inc = dilation
//     dx of dy:  num = 1, den = stride, off = padding, inc = -dilation, and w[r, s, k, c] for w[r, s, c, k]: TURNED
//
// Outputs with the same remainder modulo den form a phase; in it only some of the taps meet a pixel of a, and the pixel
// moves by whole steps. So a transposed convolution is den^2 products that multiply no zeros.
//
//     matrix   rows                  columns          in device memory
//     A        pixels of out         (tap, channel)   nowhere: each row is gathered from R S places of a
//     B        (tap, channel)        channels of out  w as it lies there, or turned
//     out      pixels of out         channels of out
//
// A row of A is R S runs of channels, and in NHWC a run is contiguous: 16 bytes a copy. Where 16 bytes do not divide a
// run (3 channels, 21 classes) the same tile is filled number by number. What lies outside is zero in shared memory.
//
// a, and TURNED out, may be in two parts: channels from a_first and out_first on lie in arrays of their own.
#pragma once
#include "matrix.cuh"

struct Pixel {  // a row of the tile
  Index image;  // the first pixel of its image in a
  Index out;    // the pixel of out
  int h, w;     // the pixel of a that the phase's first tap meets, maybe outside
};

struct Taps {              // those of a phase, along one axis
  int count, first, step;  // r = first, first + step, ...
  int place, move;         // pixel i of the phase meets pixel i num + place of a at the first, + move at each next
};

INLINE Taps taps_of_phase(int phase, int taps, int num, int den, int off, int inc) {
  Taps t = {0, 0, 0, 0, 0};
#pragma unroll 1
  for (int r = 0; r < taps; r++) {
    int at = phase * num + off + r * inc;
    if (at % den) continue;
    if (t.count == 0) t.first = r, t.place = at / den;
    if (t.count == 1) t.step = r - t.first, t.move = at / den - t.place;
    t.count++;
  }
  return t;
}

struct Tile {         // the block's part of the result
  int rows, columns;  // how many of its 128 x BN are real
  int channel;        // its first channel, counted over all groups
  int run, first;     // the channels of a that it sums over; here, where they take no registers
  Index statistics;   // where those of its channels go
  int64 part;         // where its share of the sum goes
  Index tap;          // TURNED: from one tap of w to the next
  Index filters;      // where its filters begin in w
};

// ---- the epilogue: what becomes of a finished tile, rows of BN + CHUNK numbers in shared memory

template <int BN, class Out>
INLINE void copy_out(Out *out, Out *out_behind, int out_first, int OC, const Out *staged, const Pixel *pixels, const Tile &tile,
                     bool chunks) {
  constexpr int CHUNK = 16 / sizeof(Out), STRIDE = BN + CHUNK, THREADS_A_ROW = BN / CHUNK;
  int column = chunks ? threadIdx.x % THREADS_A_ROW * CHUNK : threadIdx.x % BN, channel = tile.channel + column;
  Out *to = channel < out_first ? out + channel : out_behind + (channel - out_first);
  int apart = channel < out_first ? out_first : OC - out_first;
  if (column >= tile.columns) return;
  if (chunks) {
    for (int row = threadIdx.x / THREADS_A_ROW; row < tile.rows; row += THREADS / THREADS_A_ROW)
      *reinterpret_cast<uint4 *>(to + pixels[row].out * apart) =
          *reinterpret_cast<const uint4 *>(staged + row * STRIDE + column);
  } else {
    for (int row = threadIdx.x / BN; row < tile.rows; row += THREADS / BN)
      to[pixels[row].out * apart] = staged[row * STRIDE + column];
  }
}

// Of each column of the tile its mean and the sum of squared deviations from it: what batch_norm's run_statistics finds
// for runs of 128 pixels, here without reading them again. The rows are shared by THREADS / BN threads.
template <int BN, class Out>
INLINE void tile_statistics(float *mean, float *deviation, const Out *staged, const Tile &tile) {
  constexpr int STRIDE = BN + 16 / sizeof(Out), SHARES = THREADS / BN;
  __shared__ float sums[2][SHARES][BN];
  int column = threadIdx.x % BN, share = threadIdx.x / BN;
  float centre = 0, total = 0;
  for (int row = share; row < tile.rows; row += SHARES) total += float(staged[row * STRIDE + column]);
  sums[0][share][column] = total;
  __syncthreads();
  for (int i = 0; i < SHARES; i++) centre += sums[0][i][column];
  centre /= tile.rows;
  total = 0;
  for (int row = share; row < tile.rows; row += SHARES) {
    float d = float(staged[row * STRIDE + column]) - centre;
    total += d * d;
  }
  sums[1][share][column] = total;
  __syncthreads();
  if (share || column >= tile.columns) return;
  total = 0;
  for (int i = 0; i < SHARES; i++) total += sums[1][i][column];
  mean[column] = centre;
  deviation[column] = total;
}

// ---- one tile of 128 x BN

template <class Unit, int BN, bool TURNED, class Out, class T = typename Unit::T>
INLINE void gather_tile(Out *out, Out *out_behind, int out_first, float *parts, float *mean, float *deviation,
                        const T *a, const T *a_behind, int a_first, const T *w, const float *b, Index N, int AH, int AW,
                        int AC, int OH, int OW, int OC, int R, int S, int groups, int num_h, int num_w, int den_h,
                        int den_w, int off_h, int off_w, int inc_h, int inc_w, bool relu, bool statistics, int splits) {
  constexpr int DEPTH = Unit::DEPTH;
  DYNAMIC_SHARED(T, ring);
  __shared__ Pixel pixels[BM];
  __shared__ Taps taps[2];
  __shared__ Tile tile;
  const Taps &tap_h = taps[0], &tap_w = taps[1];

  // Which tile. Columns vary fastest: blocks that run at the same time read the same rows of A from the L2 cache.
  int Ag = AC / groups, Og = OC / groups;
  int block = blockIdx.x;
  int columns = cdiv(Og, BN), n0 = block % columns * BN;
  block /= columns;
  int split = block % splits;
  block /= splits;
  int group = block % groups;
  block /= groups;
  {
    int phase = block % (den_h * den_w), py = phase / den_w, px = phase % den_w;
    Index m0 = Index(block / (den_h * den_w)) * BM;
    Index height = cdiv<Index>(OH - py, den_h), width = cdiv<Index>(OW - px, den_w), rows = N * height * width;
    if (m0 >= rows) return;  // this phase is smaller than the largest
    if (threadIdx.x == 0) {
      taps[0] = taps_of_phase(py, R, num_h, den_h, off_h, inc_h);
      tile = {int(min(Index(BM), rows - m0)), min(BN, Og - n0), group * Og + n0, Ag, group * Ag,
              m0 / BM * OC + group * Og + n0, (int64)split * N * OH * OW * OC, Index(Og) * AC,
              TURNED ? Index(n0) * AC + group * Ag : group * Og + n0};
    }
    if (threadIdx.x == 32) taps[1] = taps_of_phase(px, S, num_w, den_w, off_w, inc_w);
    __syncthreads();
    if (threadIdx.x < BM) {
      Index m = m0 + threadIdx.x, x = m % width, y = m / width % height, n = m / (width * height);
      Pixel nowhere = {0, 0, -(1 << 30), 0};
      Pixel real = {n * AH * AW, (n * OH + py + y * den_h) * OW + px + x * den_w,
                    int(y * (den_h > 1 ? 1 : num_h)) + tap_h.place, int(x * (den_w > 1 ? 1 : num_w)) + tap_w.place};
      pixels[threadIdx.x] = m < rows ? real : nowhere;
    }
    __syncthreads();  // redundant while Product::run begins with one
  }

  // The sum runs over (tap, channel) as one index k. This thread copies one column of the tile of A at every stage.
  int depth = tap_h.count * tap_w.count * Ag, steps = cdiv(depth, DEPTH);
  int begin = int((int64)steps * split / splits), end = int((int64)steps * (split + 1) / splits);
  bool a_chunks = in_chunks(a, Ag) && in_chunks(a_behind, AC - a_first), b_chunks = in_chunks(w, TURNED ? Ag : Og);
  int k = begin * DEPTH;
  int mine = k + tile_column<DEPTH, T>(a_chunks), c = mine % Ag, j = mine / Ag, i = 0;
  if (depth) i = j / tap_w.count, j %= tap_w.count;

  auto copy = [&](T *a_tile, T *b_tile) {
    bool real = i < tap_h.count;
    int move_h = i * tap_h.move, move_w = j * tap_w.move, channel = tile.first + c;
    bool in_a = TURNED || channel < a_first;
    const T *from_channel = in_a ? a + channel : a_behind + (channel - a_first);
    int apart = TURNED ? AC : in_a ? a_first : AC - a_first;
    copy_tile<BM, DEPTH>(a_tile, a_chunks, [&](int row, int, bool &inside) {
      Pixel p = pixels[row];
      int h = p.h + move_h, v = p.w + move_w;
      inside = real && (unsigned)h < (unsigned)AH && (unsigned)v < (unsigned)AW;
      return from_channel + (inside ? (p.image + Index(h) * AW + v) * apart : 0);
    });
    if constexpr (TURNED) {  // columns of B are w's c, its rows run along w's k
      Index from = ((tap_h.first + i * tap_h.step) * S + tap_w.first + j * tap_w.step) * tile.tap + tile.filters + c;
      copy_tile<BN, DEPTH>(b_tile, b_chunks, [&](int row, int, bool &inside) {
        inside = real && row < tile.columns;
        return w + (inside ? from + Index(row) * AC : 0);
      });
    } else {  // all taps in order: row k of B is row k of w
      Index from = tile.filters;
      copy_tile<DEPTH, BN>(b_tile, b_chunks, [&](int row, int column, bool &inside) {
        inside = k + row < depth && column < tile.columns;
        return w + (inside ? from + Index(k + row) * OC + column : 0);
      });
      k += DEPTH;
    }
    for (c += DEPTH; c >= tile.run; c -= tile.run)
      if (++j == tap_w.count) j = 0, i++;
  };
  Product<Unit, BN> product;
  product.template run<SUM, TURNED ? SUM : RESULT>(ring, end - begin, copy);

  if (splits > 1) {  // add_parts adds up the parts, in order
    parts += tile.part + tile.channel;
    return product.write(tile.columns, [&](int row) {
      return row < tile.rows ? parts + pixels[row].out * OC : nullptr;
    });
  }

  // Bias and ReLU; then through shared memory, so that neighbouring threads write neighbouring chunks.
  constexpr int CHUNK = 16 / sizeof(Out), STRIDE = BN + CHUNK;
  Out *staged = reinterpret_cast<Out *>(ring);
  b += tile.channel;
  product.each([&](int row, int column, float v) {
    v += column < tile.columns ? b[column] : 0.f;
    staged[row * STRIDE + column] = Out(relu && v < 0 ? 0.f : v);
  });
  __syncthreads();
  bool chunks = in_chunks(out, Og) && in_chunks(out_behind, OC - out_first);
  copy_out<BN>(out, out_behind, out_first, OC, staged, pixels, tile, chunks);
  if (statistics) tile_statistics<BN>(mean + tile.statistics, deviation + tile.statistics, staged, tile);
}

// The unit and the width of the tile.
template <bool TURNED, class T, class Out, class... Rest>
INLINE void choose(bool wide, bool exact, const T *a, Out *out, Rest... rest) {
  if (wide) return gather_tile<TensorCore<T>, 128, TURNED>(out, rest...);
  if constexpr (sizeof(T) == 4)
    if (exact) return gather_tile<PlainFloat, 64, TURNED>(out, rest...);
  gather_tile<TensorCore<T>, 64, TURNED>(out, rest...);
}
