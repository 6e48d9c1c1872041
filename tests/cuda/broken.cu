// Kernels with one mistake each, and some that are right: what the emulated device must find, and must not.
#include "common.cuh"

// ---- races

__global__ void __launch_bounds__(64) GRID(1) no_barrier(float *y, const float *x) {  // before the tile is read
  __shared__ float tile[64];
  int t = threadIdx.x;
  tile[t] = x[t];
  y[t] = tile[63 - t];
}

__global__ void __launch_bounds__(64) GRID(1) no_second_barrier(float *y, const float *x, Index rounds) {
  __shared__ float tile[64];
  int t = threadIdx.x;
  float sum = 0;
  for (Index i = 0; i < rounds; i++) {
    tile[t] = x[i * 64 + t];
    __syncthreads();
    sum += tile[63 - t];  // while others write the next tile
  }
  y[t] = sum;
}

__global__ void __launch_bounds__(32) GRID(1) no_syncwarp(float *y, const float *x) {
  __shared__ float part[32];
  int t = threadIdx.x;
  part[t] = x[t];
  __syncwarp();
  for (int step = 16; step; step /= 2)
    if (t < step) part[t] += part[t + step];
  if (t == 0) y[0] = part[0];
}

__global__ void GRID(2) __launch_bounds__(32) blocks_overlap(float *y) {  // both add to y[16] ... y[31]
  y[blockIdx.x * 16 + threadIdx.x] += 1;
}

__global__ void scatter(float *y, const float *x, const int32 *at, Index n) {  // threads of one place
  PARALLEL_FOR(i, n) y[at[i]] += x[i];
}

// ---- barriers and warps

__global__ void __launch_bounds__(64) GRID(1) divergent_barrier(float *y) {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[threadIdx.x] = 1;
}

__global__ void __launch_bounds__(64) GRID(1) deadlock(float *y) {
  if (threadIdx.x == 0) y[0] = __shfl_sync(0x21u, y[0], 5);  // lane 5 never comes
  __syncthreads();
  y[threadIdx.x] = 1;
}

__global__ void __launch_bounds__(32) GRID(1) returned_lanes(float *y, Index n) {
  if (threadIdx.x >= n) return;
  y[threadIdx.x] = __shfl_down_sync(~0u, (float)threadIdx.x, 16);
}

__global__ void __launch_bounds__(32) GRID(1) divergent_shuffle(float *y) {
  float v = threadIdx.x;
  if (threadIdx.x % 2)
    v += __shfl_xor_sync(~0u, v, 2);
  else
    v -= __shfl_xor_sync(~0u, v, 2);
  y[threadIdx.x] = v;
}

__global__ void GRID(1) __launch_bounds__(32) failed_assert(float *y, Index n) {
  assert(threadIdx.x != 7 || n > 5);
  y[threadIdx.x] = 0;
}

// ---- memory

__global__ void __launch_bounds__(64) GRID(1) beyond_the_end(float *y, const float *x) { y[threadIdx.x] = x[threadIdx.x]; }

__global__ void __launch_bounds__(32) GRID(1) beyond_shared(float *y) {
  __shared__ float part[32];
  part[threadIdx.x + 1] = 1;
  __syncthreads();
  y[threadIdx.x] = part[threadIdx.x];
}

__global__ void __launch_bounds__(64) GRID(1) SHARED(128) beyond_dynamic_shared(float *y) {
  DYNAMIC_SHARED(float, tile);
  tile[threadIdx.x] = 1;
  y[threadIdx.x] = tile[threadIdx.x];
}

__global__ void __launch_bounds__(1) GRID(1) misaligned(float *y, const float *x) {
  y[0] = reinterpret_cast<const float4 *>(x + 1)->x;
}

__global__ void __launch_bounds__(1) GRID(1) overflow(int32 *y, int32 a) { y[0] = a * 65536; }

__global__ void __launch_bounds__(32) GRID(1) uninitialised(float *y) {
  __shared__ float part[32];
  if (threadIdx.x != 7) part[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = part[threadIdx.x];
}

// ---- asynchronous copies: of 128 floats, turned round

template <int WAIT, int BARRIER> INLINE void turn(float *y, const float *x) {
  __shared__ __align__(16) float tile[128];
  int t = threadIdx.x * 4;
  cp_async16(&tile[t], x + t);
  cp_commit();
  if (WAIT == 1) cp_wait<0>();
  if (BARRIER) __syncthreads();
  for (int i = 0; i < 4; i++) y[t + i] = tile[127 - (t + i)];
  if (WAIT == 2) cp_wait<0>();
}

__global__ void __launch_bounds__(32) GRID(1) copy_not_awaited(float *y, const float *x) { turn<2, 1>(y, x); }
__global__ void __launch_bounds__(32) GRID(1) copy_left_behind(float *y, const float *x) { turn<0, 1>(y, x); }
__global__ void __launch_bounds__(32) GRID(1) copy_no_barrier(float *y, const float *x) { turn<1, 0>(y, x); }
__global__ void __launch_bounds__(32) GRID(1) copy_right(float *y, const float *x) { turn<1, 1>(y, x); }

// ---- launches

__global__ void __launch_bounds__(2048) GRID(1) too_many_threads(float *y) { y[0] = 0; }
__global__ void __launch_bounds__(32) GRID(1, n) grid_too_large(float *y, Index n) { y[0] = 0; }
__global__ void __launch_bounds__(32) GRID(1) SHARED(n) too_much_shared(float *y, Index n) { y[0] = 0; }

// ---- right: every collective operation once, in a block of two dimensions of work

__global__ void __launch_bounds__(96) GRID(3) collectives(int32 *y, float *z) {
  int t = threadIdx.x, lane = t % 32;
  int32 *out = y + (blockIdx.x * 96 + t) * 8;
  out[0] = __ballot_sync(~0u, lane % 3 == 0);
  out[1] = __any_sync(~0u, lane == 31) + 2 * __all_sync(~0u, lane < 31);
  out[2] = __syncthreads_count(t % 2) + 1000 * __syncthreads_or(t == 95) + 2000 * __syncthreads_and(t < 95);
  out[3] = __shfl_up_sync(~0u, lane, 1) + 100 * __shfl_sync(~0u, lane, 5, 8);
  out[4] = __popc(__activemask());
  out[5] = lane < 20 ? __shfl_down_sync((1u << 20) - 1, lane, 4) : 0;
  out[6] = (int32)block_sum((double)t) + 10000 * (int32)block_sum((double)(t % 2));
  out[7] = block_min(100 - t);
  z[blockIdx.x * 96 + t] = __shfl_xor_sync(~0u, (float)lane, 16);
}

__global__ void __launch_bounds__(128) GRID(4) counters(int32 *y, uint32 *lock) {  // atomics, and a lock that spins
  atomicAdd(&y[0], 2);
  atomicMax(&y[1], (int32)(blockIdx.x * 128 + threadIdx.x));
  atomicMin(&y[2], -(int32)threadIdx.x);
  atomicOr(&y[3], 1 << threadIdx.x % 16);
  if (threadIdx.x % 32) return;
  while (atomicCAS(lock, 0u, 1u)) {
  }
  __threadfence();
  y[4] = y[4] + 1;
  __threadfence();
  atomicExch(lock, 0u);
}

// ---- right: tensor cores. d = a b: a (16,K) row-major, b (K,8) row-major.
template <class Number> INLINE unsigned pack(const float *x, int stride) {
  Number two[2] = {Number(x[0]), Number(x[stride])};
  unsigned u;
  memcpy(&u, two, 4);
  return u;
}

__global__ void __launch_bounds__(32) GRID(1) matrix_tf32(float *d, const float *a, const float *b) {
  int g = threadIdx.x / 4, t = threadIdx.x % 4;
  unsigned x[4] = {to_tf32(a[g * 8 + t]), to_tf32(a[(g + 8) * 8 + t]), to_tf32(a[g * 8 + t + 4]),
                   to_tf32(a[(g + 8) * 8 + t + 4])};
  unsigned y[2] = {to_tf32(b[t * 8 + g]), to_tf32(b[(t + 4) * 8 + g])};
  float sum[4] = {0, 0, 0, 0};
  mma_m16n8k8_tf32(sum, x, y);
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

template <class Number> INLINE void matrix_half(float *d, const float *a, const float *b) {
  int g = threadIdx.x / 4, t = threadIdx.x % 4 * 2;
  unsigned x[4] = {pack<Number>(a + g * 16 + t, 1), pack<Number>(a + (g + 8) * 16 + t, 1),
                   pack<Number>(a + g * 16 + t + 8, 1), pack<Number>(a + (g + 8) * 16 + t + 8, 1)};
  unsigned y[2] = {pack<Number>(b + t * 8 + g, 8), pack<Number>(b + (t + 8) * 8 + g, 8)};
  float sum[4] = {0, 0, 0, 0};
  mma_m16n8k16<Number>(sum, x, y);
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + t + i % 2] = sum[i];
}

__global__ void __launch_bounds__(32) GRID(1) matrix_fp16(float *d, const float *a, const float *b) {
  matrix_half<half>(d, a, b);
}

__global__ void __launch_bounds__(32) GRID(1) matrix_bf16(float *d, const float *a, const float *b) {
  matrix_half<bfloat16>(d, a, b);
}
