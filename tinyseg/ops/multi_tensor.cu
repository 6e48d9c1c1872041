// One launch for all parameters: a block takes a piece of one of them. See multi_tensor.py for the tables.
#include "packs.cuh"

constexpr int CHUNK = 4096;

// The arrays of a piece and its elements; `row` counts the rows of addresses.
struct Piece {
  const int64 *addresses;
  int64 tensor, tensors, begin, end;
  INLINE float *row(int i) const { return (float *)addresses[i * tensors + tensor]; }
  // f(Width, i) for the elements i of a piece, by all threads of the block
  template <class Function> INLINE void each(bool packed, Function f) const {
    each_pack<4>(threadIdx.x, blockDim.x, end - begin, packed, [&](auto width, Index i) { f(width, begin + i); });
  }
};

INLINE Piece piece(const int64 *addresses, const int64 *sizes, const int32 *chunks, Index tensors, Index j) {
  int64 tensor = chunks[2 * j], begin = (int64)chunks[2 * j + 1] * CHUNK;
  return {addresses, tensor, tensors, begin, min(begin + CHUNK, sizes[tensor])};
}

// v = momentum v + d, d = factor g + weight_decay w;  w -= lr v, with Nesterov w -= lr (d + momentum v). Parallel over
// pieces, a block each.
__global__ void sgd_all(const int64 *addresses, const int64 *sizes, const float *numbers, const int32 *chunks,
                        Index tensors, Index blocks) {
  PARALLEL_BLOCKS(j, blocks) {
    Piece at = piece(addresses, sizes, chunks, tensors, j);
    const float *n = numbers + 5 * at.tensor, *g = at.row(1);
    float *w = at.row(0), *v = at.row(2), factor = n[0], lr = n[1], momentum = n[2], weight_decay = n[3];
    bool nesterov = n[4] != 0;
    at.each(in_packs(w, g, v), [&](auto width, int64 i) {
      auto gs = read(width, g + i), ws = read(width, w + i), vs = v ? read(width, v + i) : gs;
      auto update = [&](float g, float &w, float &velocity) {
        float d = factor * g + weight_decay * w;
        velocity = v ? momentum * velocity + d : d;
        w -= lr * (nesterov ? d + momentum * velocity : velocity);
      };
      each_number(width, update, gs, ws, vs);
      write(width, w + i, ws);
      if (v) write(width, v + i, vs);
    });
  }
}

// m, v: running means of d = factor g + weight_decay w and of d^2;
// w = keep w - step_size m / (sqrt(v) correction + eps). Parallel over pieces, a block each.
__global__ void adam_all(const int64 *addresses, const int64 *sizes, const float *numbers, const int32 *chunks,
                         Index tensors, Index blocks) {
  PARALLEL_BLOCKS(j, blocks) {
    Piece at = piece(addresses, sizes, chunks, tensors, j);
    const float *n = numbers + 10 * at.tensor, *g = at.row(1);
    float *w = at.row(0), *m = at.row(2), *v = at.row(3);
    float factor = n[0], step_size = n[1], beta1 = n[2], rest1 = n[3], beta2 = n[4], rest2 = n[5], correction = n[6];
    float eps = n[7], weight_decay = n[8], keep = n[9];
    at.each(in_packs(w, g, m, v), [&](auto width, int64 i) {
      auto gs = read(width, g + i), ws = read(width, w + i), ms = read(width, m + i), vs = read(width, v + i);
      auto update = [&](float g, float &w, float &mean, float &square) {
        float d = factor * g + weight_decay * w;
        mean = beta1 * mean + rest1 * d;
        square = beta2 * square + rest2 * d * d;
        w = keep * w - step_size * mean / (sqrtf(square) * correction + eps);
      };
      each_number(width, update, gs, ws, ms, vs);
      write(width, w + i, ws);
      write(width, m + i, ms);
      write(width, v + i, vs);
    });
  }
}

// partial[j] = the sum of squares of piece j, in double. Parallel over pieces, a block each.
__global__ void squares_all(double *partial, const int64 *addresses, const int64 *sizes, const int32 *chunks,
                            Index tensors, Index blocks) {
  PARALLEL_BLOCKS(j, blocks) {
    Piece at = piece(addresses, sizes, chunks, tensors, j);
    const float *x = at.row(0);
    double total = 0;
    for (int64 i = at.begin + threadIdx.x; i < at.end; i += blockDim.x) total += (double)x[i] * x[i];
    total = block_sum(total);
    if (threadIdx.x == 0) partial[j] = total;
  }
}
