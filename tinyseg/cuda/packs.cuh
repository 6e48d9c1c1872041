// Memory in packs of 16 bytes, the most that a thread reads or writes at once; number by number where an address, or
// what is left, does not allow that. For kernels that do little more than move memory.
#pragma once
#include "common.cuh"

// In the place of PARALLEL_FOR: the launcher reads how many elements there are, and gives about 8 to each thread.
#define PARALLEL_PACKS(count) (count)

template <class T, int V> struct alignas(V * sizeof(T)) Pack {
  T number[V];
};

template <int V> struct Width {};  // how many numbers a thread takes

template <class T, int V> struct Numbers {  // in registers
  T at[V];
};

template <class... T> INLINE bool in_packs(const T *...array) { return (((size_t)array % 16 == 0) && ...); }

template <int V, class T> INLINE Numbers<T, V> read(Width<V>, const T *from) {
  constexpr int P = V * sizeof(T) > 16 ? 16 / sizeof(T) : V;
  Numbers<T, V> to;
#pragma unroll
  for (int k = 0; k < V; k += P) {
    Pack<T, P> pack = *reinterpret_cast<const Pack<T, P> *>(from + k);
#pragma unroll
    for (int j = 0; j < P; j++) to.at[k + j] = pack.number[j];
  }
  return to;
}

template <int V, class T> INLINE void write(Width<V>, T *to, const Numbers<T, V> &from) {
  constexpr int P = V * sizeof(T) > 16 ? 16 / sizeof(T) : V;
#pragma unroll
  for (int k = 0; k < V; k += P) {
    Pack<T, P> pack;
#pragma unroll
    for (int j = 0; j < P; j++) pack.number[j] = from.at[k + j];
    *reinterpret_cast<Pack<T, P> *>(to + k) = pack;
  }
}

// f(numbers at k of each) for each k; it may change them.
template <int V, class Function, class... From>
INLINE void each_number(Width<V>, Function f, Numbers<From, V> &...numbers) {
#pragma unroll
  for (int k = 0; k < V; k++) f(numbers.at[k]...);
}

// The values of f, as numbers.
template <class T, int V, class Function, class... From>
INLINE Numbers<T, V> mapped(Width<V>, Function f, const Numbers<From, V> &...from) {
  Numbers<T, V> to;
#pragma unroll
  for (int k = 0; k < V; k++) to.at[k] = f(from.at[k]...);
  return to;
}

// f(Width<V>(), i) for the elements i to i + V - 1 of n, shared by `threads` of which this is number `me`.
template <int V, class Function> INLINE void each_pack(Index me, Index threads, Index n, bool packed, Function f) {
  Index packs = packed ? n / V : 0;
  for (Index j = me; j < packs; j += threads) f(Width<V>(), j * V);
  for (Index i = packs * V + me; i < n; i += threads) f(Width<1>(), i);
}

template <int V, class Function> INLINE void each_pack(Index n, bool packed, Function f) {  // by all threads
  each_pack<V>((Index)blockIdx.x * blockDim.x + threadIdx.x, (Index)gridDim.x * blockDim.x, n, packed, f);
}

constexpr int smallest(int a) { return a; }
template <class... Rest> constexpr int smallest(int a, int b, Rest... rest) {
  return smallest(a < b ? a : b, rest...);
}

// y[i] = f(x[i], ...) for the i below n, by all threads.
template <class Function, class T, class... From> INLINE void map_packs(Index n, Function f, T *y, const From *...x) {
  each_pack<16 / smallest(sizeof(T), sizeof(From)...)>(n, in_packs(y, x...), [&](auto width, Index i) {
    write(width, y + i, mapped<T>(width, f, read(width, x + i)...));
  });
}
