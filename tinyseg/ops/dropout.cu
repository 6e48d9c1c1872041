#include "common.cuh"

// y = factor * x where hash(key, counter) >= threshold, else 0: the hash of dropout.py. Parallel over y.
template <class T>
__global__ void drop(T *__restrict__ y, const T *__restrict__ x, T factor, uint32 threshold, uint32 key0, uint32 key1,
                     Index repeat, Index M, Index C) {
  PARALLEL_FOR(i, M * C) {
    Index c = i % C, m = i / C;
    uint32 h = (uint32)(m / repeat) * (uint32)C + key0 + (uint32)c;
    for (int round = 0; round < 2; round++) {
      h = (h ^ h >> 16) * 0x85EBCA6Bu;
      h = (h ^ h >> 13) * 0xC2B2AE35u;
      h ^= h >> 16;
      if (round == 0) h ^= key1;
    }
    y[i] = h >= threshold ? factor * x[i] : T(0);
  }
}
