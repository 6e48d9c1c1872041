// Convolution on tensor cores: the kernels; what they do is in gather.cuh and gradient.cuh, how in cuda/matrix.cuh.
//
// T: half or bfloat16, multiplied as they are; float, multiplied in tf32, or with `exact` as it is, off tensor cores.
// Tiles are 128 x 128, or 128 x 64 where the result has few channels (`wide` tells).
//
// Occupancy: a block takes 256 x 128 registers and 78 KB of shared memory (58 KB for 128 x 64), so that two share an SM of
// an A100 (164 KB) or H100 (228 KB), one that of a consumer GPU (100 KB). While one block waits at a barrier or writes
// its result, the other multiplies. A stage of 128 x 128 brings 16 KB for 2 x 128 x 128 x 32 operations on half: 64 a
// byte from the L2 cache, at 128 (64 for tf32) multiplications a clock and byte of shared memory read by ldmatrix.
#include "gather.cuh"
#include "gradient.cuh"

constexpr int NARROW_BYTES = 49152, MORE_IF_WIDE = 18432;  // the ring of 4 stages, or the finished tile as floats

// y of x and w: blocks over tiles of y. See gather.cuh.
template <class T, class Out>
__global__ void __launch_bounds__(256, 2) TYPES(half, float, half float, bfloat16 float)
    GRID(cdiv(OC / groups, 64 + 64 * wide) * splits * groups * cdiv(N * OH * OW, 128))
    SHARED(NARROW_BYTES + MORE_IF_WIDE * wide)
gather_product(Out *out, float *parts, float *mean, float *deviation, const T *a, const T *a_behind, int32 a_first,
               const T *w, const float *b, Index N, int32 AH, int32 AW, int32 AC, int32 OH, int32 OW, int32 OC, int32 R,
               int32 S, int32 groups, int32 num_h, int32 num_w, int32 off_h, int32 off_w, int32 inc_h, int32 inc_w,
               bool relu, bool statistics, int32 splits, bool wide, bool exact) {
  choose<false>(wide, exact, a, out, out, OC, parts, mean, deviation, a, a_behind, a_first, w, b, N, AH, AW, AC, OH, OW,
                OC, R, S, groups, num_h, num_w, 1, 1, off_h, off_w, inc_h, inc_w, relu, statistics, splits);
}

// dx of dy and w: blocks over tiles of the phases of dx. See gather.cuh.
template <class T, class Out>
__global__ void __launch_bounds__(256, 2) TYPES(half, float, half float, bfloat16 float)
    GRID(cdiv(OC / groups, 64 + 64 * wide) * splits * groups * den_h * den_w
         * cdiv(N * cdiv(OH, den_h) * cdiv(OW, den_w), 128)) SHARED(NARROW_BYTES + MORE_IF_WIDE * wide)
turned_product(Out *out, Out *out_behind, int32 out_first, float *parts, float *mean, float *deviation, const T *a,
               const T *w, const float *b, Index N, int32 AH, int32 AW, int32 AC, int32 OH, int32 OW, int32 OC, int32 R,
               int32 S, int32 groups, int32 den_h, int32 den_w, int32 off_h, int32 off_w, int32 inc_h, int32 inc_w,
               bool relu, bool statistics, int32 splits, bool wide, bool exact) {
  choose<true>(wide, exact, a, out, out_behind, out_first, parts, mean, deviation, a, a, AC, w, b, N, AH, AW, AC, OH,
               OW, OC, R, S, groups, 1, 1, den_h, den_w, off_h, off_w, inc_h, inc_w, relu, statistics, splits);
}

// Parts of dw, one for each share of the pixels: blocks over tiles of dw and shares. See gradient.cuh.
template <class T>
__global__ void __launch_bounds__(256, 2) TYPES(half, float, bfloat16)
    GRID(cdiv(K / groups, 64 + 64 * wide) * splits * groups * cdiv(R * S * (C / groups), 128))
    SHARED(NARROW_BYTES + MORE_IF_WIDE * wide)
gradient_product(float *parts, const T *dy, const T *x, const T *x_behind, int32 x_first, Index N, Index H,
                 Index W, int32 C, Index P, Index Q, Index K, int32 R, int32 S, int32 stride_h, int32 stride_w, int32 pad_h,
                 int32 pad_w, int32 dil_h, int32 dil_w, int32 groups, int32 splits, bool wide, bool exact) {
  choose_gradient(wide, exact, parts, dy, x, x_behind, x_first, N, H, W, C, P, Q, K, R, S, stride_h, stride_w, pad_h,
                  pad_w, dil_h, dil_w, groups, splits);
}

// out[i, k] = b[k] + sum over the parts, in their order; with relu not below 0. Parallel over the elements of out.
template <class Out>
__global__ void TYPES(float, half)
add_parts(Out *out, const float *parts, const float *b, Index rows, Index K, int32 splits, bool relu) {
  PARALLEL_FOR(i, rows * K) {
    float total = b[i % K];
    for (int part = 0; part < splits; part++) total += parts[(int64)part * rows * K + i];
    out[i] = Out(relu && total < 0 ? 0.f : total);
  }
}

// out = x, rounded to the type of out. Parallel over elements.
template <class Out, class In>
__global__ void TYPES(half float, bfloat16 float, float half)
convert(Out *out, const In *x, Index n) {
  PARALLEL_FOR(i, n) out[i] = Out(float(x[i]));
}

// out (rows, padded) = x (rows, C) with zeros behind each row. Parallel over the elements of out.
template <class T>
__global__ void TYPES(half, float, bfloat16) pad_channels(T *out, const T *x, Index rows, Index C, Index padded) {
  PARALLEL_FOR(i, rows * padded) {
    Index row = i / padded, c = i % padded;
    out[i] = c < C ? x[row * C + c] : T(0.f);
  }
}
