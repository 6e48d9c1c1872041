// Neighbouring threads take neighbouring channels, so that all loads are contiguous.
// T is the type of images; S that of sums and of numbers for each channel: T, or float where T is half.
#include "packs.cuh"

// y = max(x * scale + shift + z, 0), nan stays nan. Parallel over y.
template <class T, class S>
__global__ void TYPES(float, double, half float)
normalise_add_relu(T *__restrict__ y, const T *__restrict__ x, const T *__restrict__ z,
                   const S *__restrict__ scale, const S *__restrict__ shift, Index M, Index C) {
  constexpr int V = 16 / sizeof(T);
  bool packed = C % V == 0 && in_packs(y, x, z) && in_packs(scale, shift);
  each_pack<V>(PARALLEL_PACKS(M * C), packed, [&](auto width, Index i) {
    Index c = i % C;
    auto f = [](T x, T z, S scale, S shift) {
      S v = S(x) * scale + shift + S(z);
      return T(v < S(0) ? S(0) : v);
    };
    write(width, y + i, mapped<T>(width, f, read(width, x + i), read(width, z + i), read(width, scale + c),
                                  read(width, shift + c)));
  });
}

// dz = dy where y > 0, else 0; of each run of rows the sums of dz and dz (x - mean). Parallel over runs and channels.
template <class T, class S>
__global__ void TYPES(float, double, half float)
clipped_gradient_sums(T *__restrict__ dz, S *__restrict__ sum_dz, S *__restrict__ sum_dzx,
                      const T *__restrict__ dy, const T *__restrict__ y, const T *__restrict__ x,
                      const S *__restrict__ mean, Index M, Index C, Index run) {
  PARALLEL_FOR(j, cdiv(M, run) * C) {
    Index i = j / C, c = j % C;
    Index end = min(M, (i + 1) * run);
    S sum = 0, about_mean = 0;
    for (Index m = i * run; m < end; m++) {
      S g = S(y[m * C + c]) > S(0) ? S(dy[m * C + c]) : S(0);
      dz[m * C + c] = g;
      sum += g;
      about_mean += g * (S(x[m * C + c]) - mean[c]);
    }
    sum_dz[j] = sum;
    sum_dzx[j] = about_mean;
  }
}

// y[i] = max(a[i] + b[i], 0), nan stays nan. Parallel over i.
template <class T>
__global__ void TYPES(float, double, half)
add_relu_flat(T *__restrict__ y, const T *__restrict__ a, const T *__restrict__ b, Index n) {
  auto f = [](T a, T b) {
    Sum<T> v = Sum<T>(a) + Sum<T>(b);
    return T(v < Sum<T>(0) ? Sum<T>(0) : v);
  };
  map_packs(PARALLEL_PACKS(n), f, y, a, b);
}
