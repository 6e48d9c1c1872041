// The two pixels of n that a position lies between, and the weight of the second; low = -1: it is outside.
#pragma once
#include "common.cuh"

struct Neighbours {
  int32 low, high;
  double weight;
};

INLINE Neighbours neighbours(double at, int32 n) {
  if (at < -1 || at > n) return {-1, -1, 0};
  at = at > 0 ? at : 0;
  int32 low = (int32)at;
  if (low >= n - 1) return {n - 1, n - 1, 0};
  return {low, low + 1, at - low};
}

// Where point s of S of bin p lies on an axis.
template <class T> INLINE double position(T start, T step, int32 p, int32 s, int32 S) {
  return start + (p + (s + 0.5) / S) * step;
}
