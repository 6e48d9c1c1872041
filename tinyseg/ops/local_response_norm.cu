#include "common.cuh"

// s = k + scale * sum of x^2 over the channels around c.
template <class T> INLINE T energy(const T *row, T k, T scale, Index size, Index c, Index C) {
  Sum<T> s = 0;
  for (Index j = max(Index(0), c - size / 2); j < min(C, c + (size + 1) / 2); j++) s += Sum<T>(row[j]) * Sum<T>(row[j]);
  return k + scale * T(s);
}

// y = x s^power. Parallel over y.
template <class T>
__global__ void lrn_forward(T *__restrict__ y, const T *__restrict__ x, T k, T scale, T power, Index M, Index C,
                            Index size) {
  PARALLEL_FOR(i, M * C) {
    Index c = i % C;
    y[i] = x[i] * pow(energy(x + i - c, k, scale, size, c, C), power);
  }
}

// r = dy x s^(power-1). Parallel over r.
template <class T>
__global__ void lrn_ratio(T *__restrict__ r, const T *__restrict__ dy, const T *__restrict__ x, T k, T scale, T power,
                          Index M, Index C, Index size) {
  PARALLEL_FOR(i, M * C) {
    Index c = i % C;
    T s = energy(x + i - c, k, scale, size, c, C);
    r[i] = dy[i] * x[i] * pow(s, power) / s;
  }
}

// dx = dy s^power + 2 power scale x (sum of r over the windows that x is in). Parallel over dx.
template <class T>
__global__ void lrn_backward(T *__restrict__ dx, const T *__restrict__ dy, const T *__restrict__ x,
                             const T *__restrict__ r, T k, T scale, T power, Index M, Index C, Index size) {
  PARALLEL_FOR(i, M * C) {
    Index c = i % C;
    T s = energy(x + i - c, k, scale, size, c, C);
    Sum<T> around = 0;
    for (Index j = max(Index(0), c - (size - 1) / 2); j < min(C, c + size / 2 + 1); j++) around += r[i - c + j];
    dx[i] = dy[i] * pow(s, power) + 2 * power * scale * x[i] * T(around);
  }
}
