// CUDA C++ for the host's compiler: what NVRTC knows by itself, so that a .cu file compiles unchanged. Included before
// every kernel. Not here: textures, cooperative groups, clusters and what only sm_90a has.
#pragma once
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#include "runtime.h"

#define EMULATED 1

// ---- qualifiers

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __constant__
#define __shared__ static  // the engine finds these in the symbol table and fills them with NaN before each block

// ---- vector types

#define VECTORS(T, NAME)                                                            \
  struct alignas(2 * sizeof(T)) NAME##2 { T x, y; };                                \
  struct NAME##3 { T x, y, z; };                                                    \
  struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) NAME##4 { T x, y, z, w; }; \
  inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                        \
  inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }                \
  inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
VECTORS(float, float)
VECTORS(double, double)
VECTORS(int, int)
VECTORS(unsigned char, uchar)
#undef VECTORS
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

constexpr int warpSize = 32;

// Where a call stands in the .cu file, for error messages.
#define HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

// ---- barriers, fences

inline void __syncthreads(HERE) { emulated::barrier(emulated::PLAIN, 0, file, line); }
inline int __syncthreads_count(int p, HERE) { return emulated::barrier(emulated::COUNT, p != 0, file, line); }
inline int __syncthreads_and(int p, HERE) { return emulated::barrier(emulated::AND, p != 0, file, line); }
inline int __syncthreads_or(int p, HERE) { return emulated::barrier(emulated::OR, p != 0, file, line); }
inline void __syncwarp(unsigned mask = ~0u, HERE) { emulated::meet(mask, emulated::SYNCWARP, nullptr, 0, file, line); }
inline void __threadfence() { emulated::fence(); }
inline void __threadfence_block() { emulated::fence(); }
inline unsigned __activemask() { return emulated::active_mask(); }

// ---- shuffles and votes

namespace emulated {
template <class T> T shuffle(unsigned mask, T value, int source, const char *file, int line) {  // source -1: itself
  static_assert(sizeof(T) <= 16, "a shuffle moves at most 16 bytes");
  uint32_t words[4] = {};
  memcpy(words, &value, sizeof value);
  Lanes lanes = meet(mask, SHUFFLE, words, 4, file, line);
  if (source < 0) return value;
  if (lanes.present >> source & 1) memcpy(words, lanes.word[source], sizeof words);
  else memset(words, 0xff, sizeof words);  // from a lane that is not there: undefined, here NaN
  memcpy(&value, words, sizeof value);
  return value;
}
}  // namespace emulated

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, HERE) {
  int me = emulated::lane();
  return emulated::shuffle(mask, value, (me & ~(width - 1)) | (source & (width - 1)), file, line);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, HERE) {
  int me = emulated::lane();
  return emulated::shuffle(mask, value, (me & (width - 1)) >= (int)delta ? me - (int)delta : -1, file, line);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, HERE) {
  int me = emulated::lane();
  return emulated::shuffle(mask, value, (me & (width - 1)) + (int)delta < width ? me + (int)delta : -1, file, line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, HERE) {
  int me = emulated::lane(), source = me ^ bits;
  return emulated::shuffle(mask, value, source < (me & ~(width - 1)) + width ? source : -1, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, HERE) {
  uint32_t word = predicate != 0;
  emulated::Lanes lanes = emulated::meet(mask, emulated::VOTE, &word, 1, file, line);
  unsigned votes = 0;
  for (int i = 0; i < 32; i++)
    if (lanes.present >> i & 1 && lanes.word[i][0]) votes |= 1u << i;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate, HERE) { return __ballot_sync(mask, predicate, file, line) != 0; }
inline int __all_sync(unsigned mask, int predicate, HERE) { return __ballot_sync(mask, !predicate, file, line) == 0; }

// ---- atomics: one thread of the host runs the kernel, but the thread sanitizer should know them for what they are

namespace emulated {
template <class T> struct identity { using type = T; };
template <class T> using same = typename identity<T>::type;  // a parameter from which T is not deduced

template <class T, class Update> T atomically(T *p, Update update) {  // the value before
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "atomics are of 4 or 8 bytes");
  using Word = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  Word old = __atomic_load_n((Word *)p, __ATOMIC_RELAXED), next;
  T value;
  do {
    memcpy(&value, &old, sizeof value);
    T updated = update(value);
    memcpy(&next, &updated, sizeof next);
  } while (!__atomic_compare_exchange_n((Word *)p, &old, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return value;
}
}  // namespace emulated

#define ATOMIC(NAME, RESULT)                                      \
  template <class T> T NAME(T *p, emulated::same<T> v) {          \
    return emulated::atomically(p, [&](T old) -> T { return RESULT; }); \
  }
ATOMIC(atomicAdd, old + v)
ATOMIC(atomicSub, old - v)
ATOMIC(atomicMax, old < v ? v : old)
ATOMIC(atomicMin, v < old ? v : old)
ATOMIC(atomicAnd, old & v)
ATOMIC(atomicOr, old | v)
ATOMIC(atomicXor, old ^ v)
ATOMIC(atomicExch, v)
#undef ATOMIC
template <class T> T atomicCAS(T *p, emulated::same<T> expected, emulated::same<T> v) {
  T old = emulated::atomically(p, [&](T o) { return o == expected ? v : o; });
  if (!(old == expected)) emulated::yield();  // so that a spinning lock makes progress
  return old;
}

// ---- numbers

namespace emulated {
template <class To, class From> To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
template <class A, class B> using common = std::common_type_t<A, B>;
}  // namespace emulated

inline float __int_as_float(int i) { return emulated::bits<float>(i); }
inline int __float_as_int(float f) { return emulated::bits<int>(f); }
inline float __uint_as_float(unsigned i) { return emulated::bits<float>(i); }
inline unsigned __float_as_uint(float f) { return emulated::bits<unsigned>(f); }
inline double __longlong_as_double(long long i) { return emulated::bits<double>(i); }
inline long long __double_as_longlong(double f) { return emulated::bits<long long>(f); }
template <class A, class B> emulated::common<A, B> min(A a, B b) {
  using C = emulated::common<A, B>;
  return C(b) < C(a) ? C(b) : C(a);
}
template <class A, class B> emulated::common<A, B> max(A a, B b) {
  using C = emulated::common<A, B>;
  return C(a) < C(b) ? C(b) : C(a);
}
template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
template <class T> T __ldcg(const T *p) { return *p; }
template <class T> void __stcs(T *p, T v) { *p = v; }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.f) : 0.f; }
inline int __float2int_rn(float x) { return (int)nearbyintf(x); }
inline int __float2int_rd(float x) { return (int)floorf(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }

#undef assert
#define assert(e) ((e) ? (void)0 : emulated::fail("assertion failed: " #e, __FILE__, __LINE__))
#define __trap() emulated::fail("__trap", __FILE__, __LINE__)

// ---- half and bfloat16: 16 bits in memory, arithmetic in float with one rounding

struct __half {
  _Float16 value;
  __half() = default;
  __half(float f) : value((_Float16)f) {}
  operator float() const { return (float)value; }
};
struct __nv_bfloat16 {
  uint16_t value;
  __nv_bfloat16() = default;
  __nv_bfloat16(float f) {
    uint32_t u = emulated::bits<uint32_t>(f);
    value = (u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
  }
  operator float() const { return emulated::bits<float>((uint32_t)value << 16); }
};
struct alignas(4) __half2 { __half x, y; };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

#define ARITHMETIC(T)                                              \
  inline T operator+(T a, T b) { return T(float(a) + float(b)); }  \
  inline T operator-(T a, T b) { return T(float(a) - float(b)); }  \
  inline T operator*(T a, T b) { return T(float(a) * float(b)); }  \
  inline T operator/(T a, T b) { return T(float(a) / float(b)); }  \
  inline T operator-(T a) { return T(-float(a)); }                 \
  inline T &operator+=(T &a, T b) { return a = a + b; }            \
  inline T &operator-=(T &a, T b) { return a = a - b; }            \
  inline T &operator*=(T &a, T b) { return a = a * b; }            \
  inline bool operator<(T a, T b) { return float(a) < float(b); }  \
  inline bool operator>(T a, T b) { return float(a) > float(b); }  \
  inline bool operator<=(T a, T b) { return float(a) <= float(b); } \
  inline bool operator>=(T a, T b) { return float(a) >= float(b); } \
  inline bool operator==(T a, T b) { return float(a) == float(b); } \
  inline bool operator!=(T a, T b) { return float(a) != float(b); }
ARITHMETIC(__half)
ARITHMETIC(__nv_bfloat16)
#undef ARITHMETIC
inline float __half2float(__half h) { return h; }
inline __half __float2half(float f) { return f; }
inline __half __float2half_rn(float f) { return f; }
inline float __bfloat162float(__nv_bfloat16 h) { return h; }
inline __nv_bfloat16 __float2bfloat16(float f) { return f; }
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return f; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }

// ---- the way in: ENTRY(i, kernel<float>) exports kernel i of a library

namespace emulated {
template <auto kernel> struct Entry;
template <class... A, void (*kernel)(A...)> struct Entry<kernel> {
  template <size_t... i> static void call(void **a, std::index_sequence<i...>) {
    kernel(*(std::remove_cv_t<A> *)a[i]...);
  }
  static void body(void **a) { call(a, std::index_sequence_for<A...>{}); }
};
}  // namespace emulated
#define ENTRY(i, ...)                                                                                             \
  extern "C" EXPORTED int emulated_entry_##i(const emulated::Launch *launch, void **arguments, char *error, int size) { \
    return emulated::run(launch, &emulated::Entry<&__VA_ARGS__>::body, arguments, error, size);                   \
  }
