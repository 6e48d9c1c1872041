// Every instruction that CUDA C++ has no name for: inline PTX on a GPU, and beside it what the emulator does instead.
// All inline assembly of tinyseg is in this file. Fragments are those of the PTX manual, section "Matrix multiply".
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define INLINE __device__ __forceinline__

// ---- asynchronous copies from global to shared memory (sm_80)

// 16 bytes; beyond `source_bytes` the target gets zeros, and with 0 `from` is not read.
INLINE void cp_async16(void *to, const void *from, int source_bytes = 16) {
#ifdef EMULATED
  emulated::copy_async(to, from, 16, source_bytes, __FILE__, __LINE__);
#else
  unsigned target = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(from), "r"(source_bytes) : "memory");
#endif
}

// The same for 4 or 8 bytes.
template <int BYTES> INLINE void cp_async(void *to, const void *from, int source_bytes = BYTES) {
#ifdef EMULATED
  emulated::copy_async(to, from, BYTES, source_bytes, __FILE__, __LINE__);
#else
  unsigned target = (unsigned)__cvta_generic_to_shared(to);
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(target), "l"(from), "n"(BYTES), "r"(source_bytes)
               : "memory");
#endif
}

// Closes a group of copies.
INLINE void cp_commit() {
#ifdef EMULATED
  emulated::copy_commit(__FILE__, __LINE__);
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most GROUPS_LEFT of this thread's groups are under way. Other threads see the data after a barrier.
template <int GROUPS_LEFT> INLINE void cp_wait() {
#ifdef EMULATED
  emulated::copy_wait(GROUPS_LEFT);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS_LEFT) : "memory");
#endif
}

// ---- products of small matrices on tensor cores (sm_80), all 32 lanes together

// x rounded to tf32: 10 bits of mantissa, to nearest, ties away from zero.
INLINE unsigned to_tf32(float x) {
#ifdef EMULATED
  unsigned u = __float_as_uint(x);
  return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & 0xffffe000u;
#else
  unsigned r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
  return r;
#endif
}

#ifdef EMULATED
namespace emulated {
// D += A B for fragments of 16xK and Kx8 in which each register holds PACKED numbers along k.
template <int K, int PACKED, class Number>
void multiply(float (&d)[4], const unsigned *a, const unsigned *b, Number number, const char *file, int line) {
  constexpr int A = K / (4 * PACKED) * 2, B = A / 2;
  unsigned words[A + B];
  for (int i = 0; i < A; i++) words[i] = a[i];
  for (int i = 0; i < B; i++) words[A + i] = b[i];
  Lanes lanes = meet(~0u, MATRIX, words, A + B, file, line);
  if (lanes.present != ~0u) fail("mma needs all 32 lanes", file, line);
  int row = lane() / 4, column = lane() % 4 * 2;
  for (int i = 0; i < 4; i++) {
    float sum = 0;
    for (int k = 0; k < K; k++) {
      int from = k / PACKED % 4, half_of_k = k / (4 * PACKED), part = k % PACKED;
      unsigned x = lanes.word[row * 4 + from][i / 2 + 2 * half_of_k];
      unsigned y = lanes.word[(column + i % 2) * 4 + from][A + half_of_k];
      sum += number(x, part) * number(y, part);
    }
    d[i] += sum;
  }
}
}  // namespace emulated
#endif

// D (16x8, float) += A (16x8) B (8x8), numbers from to_tf32.
INLINE void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef EMULATED
  emulated::multiply<8, 1>(
      d, a, b, [](unsigned u, int) { return __uint_as_float(u & 0xffffe000u); }, __FILE__, __LINE__);
#else
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// D (16x8, float) += A (16x16) B (16x8), two numbers of type T (half or __nv_bfloat16) in a register.
template <class T> INLINE void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);

template <> INLINE void mma_m16n8k16<__half>(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef EMULATED
  auto number = [](unsigned u, int part) { return (float)emulated::bits<_Float16>((uint16_t)(u >> 16 * part)); };
  emulated::multiply<16, 2>(d, a, b, number, __FILE__, __LINE__);
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

template <> INLINE void mma_m16n8k16<__nv_bfloat16>(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef EMULATED
  auto number = [](unsigned u, int part) { return __uint_as_float(u >> 16 * part << 16); };
  emulated::multiply<16, 2>(d, a, b, number, __FILE__, __LINE__);
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// ---- fragments from shared memory (sm_75), all 32 lanes together

// Four matrices of 8 rows of 16 bytes each; lane l gives the address of row l % 8 of matrix l / 8. Of matrix i it gets
// word l % 4 of row l / 4: what the fragments above take.
INLINE void ldmatrix(unsigned (&d)[4], const void *row) {
#ifdef EMULATED
  unsigned address[2];
  memcpy(address, &row, 8);
  emulated::Lanes lanes = emulated::meet(~0u, emulated::MATRIX, address, 2, __FILE__, __LINE__);
  const unsigned *rows[4];
  for (int i = 0; i < 4; i++) memcpy(&rows[i], lanes.word[8 * i + emulated::lane() / 4], 8);
  for (int i = 0; i < 4; i++) d[i] = rows[i][emulated::lane() % 4];
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"((unsigned)__cvta_generic_to_shared(row)));
#endif
}

// The same with each matrix, 8x8 numbers of 16 bits, transposed: lane l gets column l / 4 of rows 2 (l % 4) and + 1.
INLINE void ldmatrix_transposed(unsigned (&d)[4], const void *row) {
#ifdef EMULATED
  unsigned address[2];
  memcpy(address, &row, 8);
  emulated::Lanes lanes = emulated::meet(~0u, emulated::MATRIX, address, 2, __FILE__, __LINE__);
  const unsigned short *rows[4][2];
  int column = emulated::lane() / 4, first = emulated::lane() % 4 * 2;
  for (int i = 0; i < 8; i++) memcpy(&rows[i / 2][i % 2], lanes.word[8 * (i / 2) + first + i % 2], 8);
  for (int i = 0; i < 4; i++) d[i] = rows[i][0][column] | (unsigned)rows[i][1][column] << 16;
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"((unsigned)__cvta_generic_to_shared(row)));
#endif
}
