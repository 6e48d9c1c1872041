// A tile of a matrix product, computed by a block of threads; on tensor cores, if it likes.
//
//     out (128 x BN)  =  sum over steps of  A (128 x DEPTH) B (DEPTH x BN)
//
//     device memory --cp.async--> ring of STAGES tiles in shared memory --ldmatrix--> registers --mma--> registers
//
// While the warps multiply the tiles of one stage, the copies for the next STAGES - 1 are under way; no thread holds
// what travels. A block is 8 warps. A warp owns 16 ROWS x 32 of the result: ROWS x 4 fragments of mma, 16 x 8 numbers
// each, which stay in its registers to the end. With BN = 128 that is 64 numbers a thread: a fragment of A is used 4
// times and one of B 4 times for each time it is read from shared memory.
//
// Where A and B come from is not said here: who wants a product gives a function that starts the copies of one stage.
// A tile lies in shared memory in rows of 16-byte chunks, and a row runs either along the sum or along the result,
// whichever device memory does. A tensor core wants pairs along the sum in a register; ldmatrix turns them if need be.
#pragma once
#include "common.cuh"

constexpr int BM = 128;       // rows of the result in a block
constexpr int THREADS = 256;  // 8 warps
constexpr int STAGES = 4;

enum Along { SUM, RESULT };

// Where element (row, column) of a tile in rows of COLUMNS numbers lies. The chunks of a row are permuted by an
// exclusive or with the row's number, so that what a warp reads at a time (8 rows of a chunk; or, of 32-bit numbers
// along the result, 4 rows of two chunks) lies in different banks.
template <int COLUMNS, class T> INLINE int tile_at(int row, int column) {
  constexpr int CHUNK = 16 / sizeof(T), CHUNKS = COLUMNS / CHUNK;
  int turn = CHUNKS == 4 ? row / 2 % 4 : sizeof(T) == 4 ? row % 4 * 2 : row % 8;
  return row * COLUMNS + (column ^ turn * CHUNK);
}

// From there to where the element `across` further along the result and `k` further along the sum lies: with an
// exclusive or along a row, which the permutation is too (column and step have no common bits), and by whole rows
// across. So each thread computes one place before the loop; all others are a constant away.
template <Along ALONG, int SIZE, int DEPTH> INLINE int moved(int place, int across, int k) {
  return ALONG == SUM ? (place ^ k) + across * DEPTH : (place ^ across) + k * SIZE;
}

// ---- units: ways to multiply
//
// T are the numbers in memory, CHUNK of them 16 bytes, DEPTH of them along the sum in a stage (64 bytes), STEP of them
// in one multiplication. A is a fragment of 16 rows of a tile of SIZE rows, B one of 16 columns; results lie as mma
// leaves them.

// Numbers of 16 bits as they are, floats rounded to tf32; sums in float.
template <class Number> struct TensorCore {
  using T = Number;
  static constexpr int CHUNK = 16 / sizeof(T), DEPTH = 4 * CHUNK, STEP = 2 * CHUNK;
  struct A {
    unsigned word[4];
  };
  struct B {  // two of mma's
    unsigned word[4];
  };

  // where this lane's part of the fragment of rows m to m + 15 begins
  template <Along ALONG, int SIZE> static INLINE int place_a(int m) {
    int lane = threadIdx.x % 32;
    if (ALONG == SUM) return tile_at<DEPTH, T>(m + lane % 16, lane / 16 * CHUNK);
    if (sizeof(T) == 2) return tile_at<SIZE, T>(lane / 16 * 8 + lane % 8, m + lane / 8 % 2 * 8);
    return tile_at<SIZE, T>(lane % 4, m + lane / 4);
  }
  // of columns n to n + 15
  template <Along ALONG, int SIZE> static INLINE int place_b(int n) {
    int lane = threadIdx.x % 32;
    if (ALONG == SUM) return tile_at<DEPTH, T>(n + lane / 16 * 8 + lane % 8, lane / 8 % 2 * CHUNK);
    if (sizeof(T) == 2) return tile_at<SIZE, T>(lane % 16, n + lane / 16 * 8);
    return tile_at<SIZE, T>(lane % 4, n + lane / 4);
  }

  template <Along ALONG, int SIZE> static INLINE void load(A &a, const T *tile, int place) {
    load_words<ALONG, SIZE, true>(a.word, tile, place);
  }
  template <Along ALONG, int SIZE> static INLINE void load(B &b, const T *tile, int place) {
    load_words<ALONG, SIZE, false>(b.word, tile, place);
  }

  // Of 32-bit numbers along the result, which ldmatrix cannot turn, word 1 lies 8 across from word 0 (A) or 4 steps
  // along the sum (B), and word 2 the other way.
  template <Along ALONG, int SIZE, bool ACROSS_FIRST>
  static INLINE void load_words(unsigned (&word)[4], const T *tile, int place) {
    if constexpr (ALONG == SUM) {
      ldmatrix(word, tile + place);
    } else if constexpr (sizeof(T) == 2) {
      ldmatrix_transposed(word, tile + place);
    } else {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int across = 8 * (ACROSS_FIRST ? i % 2 : i / 2), k = 4 * (ACROSS_FIRST ? i / 2 : i % 2);
        word[i] = __float_as_uint(tile[moved<RESULT, SIZE, DEPTH>(place, across, k)]);
      }
    }
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (int i = 0; i < 4; i++) word[i] = to_tf32(__uint_as_float(word[i]));
    }
  }

  static INLINE void multiply(float (&left)[4], float (&right)[4], const A &a, const B &b) {
    unsigned first[2] = {b.word[0], b.word[1]}, second[2] = {b.word[2], b.word[3]};
    if constexpr (sizeof(T) == 4) {
      mma_m16n8k8_tf32(left, a.word, first);
      mma_m16n8k8_tf32(right, a.word, second);
    } else {
      mma_m16n8k16<T>(left, a.word, first);
      mma_m16n8k16<T>(right, a.word, second);
    }
  }
};

// float32 to the last bit of its own arithmetic: the lanes multiply what mma's layout gives them.
struct PlainFloat {
  using T = float;
  static constexpr int CHUNK = 4, DEPTH = 16, STEP = 4;
  struct A {
    float4 row[2];
  };
  struct B {
    float4 column[4];
  };

  template <Along ALONG, int SIZE> static INLINE int place_a(int m) {
    int g = threadIdx.x % 32 / 4;
    return ALONG == SUM ? tile_at<DEPTH, T>(m + g, 0) : tile_at<SIZE, T>(0, m + g);
  }
  template <Along ALONG, int SIZE> static INLINE int place_b(int n) {
    int t = threadIdx.x % 4;
    return ALONG == SUM ? tile_at<DEPTH, T>(n + 2 * t, 0) : tile_at<SIZE, T>(0, n + 2 * t);
  }

  template <Along ALONG, int SIZE> static INLINE float4 along_sum(const float *tile, int place) {  // 4 steps
    if (ALONG == SUM) return *reinterpret_cast<const float4 *>(tile + place);
    return {tile[place], tile[(place ^ 8) + SIZE], tile[(place ^ 16) + 2 * SIZE], tile[(place ^ 24) + 3 * SIZE]};
  }
  template <Along ALONG, int SIZE> static INLINE void load(A &a, const float *tile, int place) {
#pragma unroll
    for (int i = 0; i < 2; i++) a.row[i] = along_sum<ALONG, SIZE>(tile, moved<ALONG, SIZE, DEPTH>(place, 8 * i, 0));
  }
  template <Along ALONG, int SIZE> static INLINE void load(B &b, const float *tile, int place) {
#pragma unroll
    for (int i = 0; i < 4; i++)
      b.column[i] = along_sum<ALONG, SIZE>(tile, moved<ALONG, SIZE, DEPTH>(place, i / 2 * 8 + i % 2, 0));
  }

  static INLINE void multiply(float (&left)[4], float (&right)[4], const A &a, const B &b) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      dot(left[i], a.row[i / 2], b.column[i % 2]);
      dot(right[i], a.row[i / 2], b.column[2 + i % 2]);
    }
  }
  static INLINE void dot(float &sum, float4 a, float4 b) {
    sum += a.x * b.x, sum += a.y * b.y, sum += a.z * b.z, sum += a.w * b.w;
  }
};

// ---- the product

template <class Unit, int BN> struct Product {
  using T = typename Unit::T;
  static constexpr int ACROSS = BN / 32;                         // warps side by side
  static constexpr int ROWS = BM / 16 * ACROSS / (THREADS / 32);  // fragments of A in a warp
  static constexpr int DEPTH = Unit::DEPTH, STAGE = (BM + BN) * DEPTH;

  float sum[ROWS][4][4];

  // where in the tile number e of fragment (i, j) of this thread belongs
  static INLINE int row(int i, int e) {
    return (threadIdx.x / 32 / ACROSS * ROWS + i) * 16 + threadIdx.x % 32 / 4 + e / 2 * 8;
  }
  static INLINE int column(int j, int e) {
    return threadIdx.x / 32 % ACROSS * 32 + 8 * j + threadIdx.x % 4 * 2 + e % 2;
  }

  // f(row, column, number) for each of this thread's numbers, row by row: fewer addresses are held at a time
  template <class F> INLINE void each(F f) {
#pragma unroll
    for (int i = 0; i < 2 * ROWS; i++)
#pragma unroll
      for (int j = 0; j < 8; j++)
        f(row(i / 2, i % 2 * 2), column(j / 2, j % 2), sum[i / 2][j / 2][i % 2 * 2 + j % 2]);
  }

  // Writes the first `columns` of each row to place(row), unless that is null: row by row, so that one address is held.
  template <class Place> INLINE void write(int columns, Place place) const {
#pragma unroll
    for (int i = 0; i < 2 * ROWS; i++)
      if (float *to = place(row(i / 2, i % 2 * 2)))
#pragma unroll
        for (int j = 0; j < 8; j++)
          if (int at = column(j / 2, j % 2); at < columns) to[at] = sum[i / 2][j / 2][i % 2 * 2 + j % 2];
  }

  // The sum of `steps` stages; copy(a_tile, b_tile) starts the copies of the next one and is called once for each.
  // `ring` is shared memory of STAGES * STAGE numbers, free to be used for something else afterwards.
  template <Along A_ALONG, Along B_ALONG, class Copy> INLINE void run(T *ring, int steps, Copy copy) {
    each([](int, int, float &v) { v = 0; });
    int a_place = Unit::template place_a<A_ALONG, BM>(row(0, 0) / 16 * 16);
    int b_place = Unit::template place_b<B_ALONG, BN>(column(0, 0) / 32 * 32);
    auto stage = [&](int step) { return ring + step % STAGES * STAGE; };
#pragma unroll 1
    for (int step = 1 - STAGES; step < steps; step++) {  // the first rounds only fill the ring
      cp_wait<STAGES - 2>();  // this thread's copies for `step` have arrived,
      __syncthreads();        // now everybody's; and the stage multiplied last is free
      int next = step + STAGES - 1;
      if (next < steps) copy(stage(next), stage(next) + BM * DEPTH);
      cp_commit();
      if (step >= 0) multiply<A_ALONG, B_ALONG>(stage(step), stage(step) + BM * DEPTH, a_place, b_place);
    }
    __syncthreads();
  }

  template <Along A_ALONG, Along B_ALONG>
  INLINE void multiply(const T *a_tile, const T *b_tile, int a_place, int b_place) {
#pragma unroll
    for (int k = 0; k < DEPTH; k += Unit::STEP) {
      typename Unit::B b[2];
#pragma unroll
      for (int j = 0; j < 2; j++)
        Unit::template load<B_ALONG, BN>(b[j], b_tile, moved<B_ALONG, BN, DEPTH>(b_place, 16 * j, k));
#pragma unroll
      for (int i = 0; i < ROWS; i++) {
        typename Unit::A a;
        Unit::template load<A_ALONG, BM>(a, a_tile, moved<A_ALONG, BM, DEPTH>(a_place, 16 * i, k));
#pragma unroll
        for (int j = 0; j < 2; j++) Unit::multiply(sum[i][2 * j], sum[i][2 * j + 1], a, b[j]);
      }
    }
  }
};

// ---- copies into a tile, for all 256 threads together
//
// copy_tile<ROWS, COLUMNS>(tile, chunks, source): source(row, column, inside) is the address of an element and says
// whether there is one (zero if not). In chunks of 16 bytes where their addresses allow that, else number by number;
// a thread always copies the same column: `tile_column` says which, so that `source` may have prepared it.

template <class T> INLINE bool in_chunks(const T *array, int run) {  // of `run` numbers each
  return run % (16 / sizeof(T)) == 0 && (size_t)array % 16 == 0;
}

template <int COLUMNS, class T> INLINE int tile_column(bool chunks) {
  constexpr int CHUNK = 16 / sizeof(T);
  return chunks ? threadIdx.x % (COLUMNS / CHUNK) * CHUNK : threadIdx.x % COLUMNS;
}

template <int ROWS, int COLUMNS, class T, class Source> INLINE void copy_tile(T *tile, bool chunks, Source source) {
  constexpr int CHUNK = 16 / sizeof(T), THREADS_A_ROW = COLUMNS / CHUNK;
  int column = tile_column<COLUMNS, T>(chunks);
  bool inside;
  if (chunks) {
#pragma unroll
    for (int row = threadIdx.x / THREADS_A_ROW; row < ROWS; row += THREADS / THREADS_A_ROW) {
      const T *from = source(row, column, inside);
      cp_async16(tile + tile_at<COLUMNS, T>(row, column), from, inside ? 16 : 0);
    }
  } else {
#pragma unroll 1  // more at a time spill
    for (int row = threadIdx.x / COLUMNS; row < ROWS; row += THREADS / COLUMNS) {
      const T *from = source(row, column, inside);
      tile[tile_at<COLUMNS, T>(row, column)] = inside ? *from : T(0.f);
    }
  }
}
