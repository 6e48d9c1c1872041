// Neighbouring threads take neighbouring channels, so that all loads are contiguous.
// T is the type of images; S that of sums and of numbers for each channel: T, or float where T is half.
#include "packs.cuh"

// Of each run of rows the mean and the sum of squared deviations from it, summed about the run's first row, so that a
// large mean costs no digits. Parallel over runs and channels.
template <class T, class S>
__global__ void TYPES(float, double, half float)
run_statistics(S *__restrict__ mean, S *__restrict__ deviation, const T *__restrict__ x, Index M,
               Index C, Index run) {
  PARALLEL_FOR(j, cdiv(M, run) * C) {
    Index i = j / C, c = j % C;
    Index begin = i * run, end = min(M, begin + run);
    S first = x[begin * C + c], sum = 0, squares = 0;
    for (Index m = begin; m < end; m++) {
      S d = S(x[m * C + c]) - first;
      sum += d;
      squares += d * d;
    }
    S d = sum / S(end - begin), rest = squares - sum * d;
    mean[j] = first + d;
    deviation[j] = rest < S(0) ? S(0) : rest;
  }
}

// y = max(x * scale + shift, lowest), nan stays nan. Parallel over y.
template <class T, class S>
__global__ void TYPES(float, double, half float)
scale_and_shift(T *__restrict__ y, const T *__restrict__ x, const S *__restrict__ scale,
                const S *__restrict__ shift, S lowest, Index M, Index C) {
  constexpr int V = 16 / sizeof(T);
  bool packed = C % V == 0 && in_packs(y, x) && in_packs(scale, shift);
  each_pack<V>(PARALLEL_PACKS(M * C), packed, [&](auto width, Index i) {
    Index c = i % C;
    auto f = [&](T x, S scale, S shift) {
      S v = S(x) * scale + shift;
      return T(v < lowest ? lowest : v);
    };
    write(width, y + i, mapped<T>(width, f, read(width, x + i), read(width, scale + c), read(width, shift + c)));
  });
}

// Of each run of rows the sums of dy and dy (x - mean), where x * scale + shift > 0. Parallel over runs and channels.
template <class T, class S>
__global__ void TYPES(float, double, half float)
gradient_sums(S *__restrict__ sum_dy, S *__restrict__ sum_dyx, const T *__restrict__ dy,
              const T *__restrict__ x, const S *__restrict__ mean, const S *__restrict__ scale,
              const S *__restrict__ shift, Index M, Index C, Index run) {
  PARALLEL_FOR(j, cdiv(M, run) * C) {
    Index i = j / C, c = j % C;
    Index end = min(M, (i + 1) * run);
    S sum = 0, about_mean = 0;
    for (Index m = i * run; m < end; m++) {
      S v = x[m * C + c];
      S g = v * scale[c] + shift[c] <= S(0) ? S(0) : S(dy[m * C + c]);
      sum += g;
      about_mean += g * (v - mean[c]);
    }
    sum_dy[j] = sum;
    sum_dyx[j] = about_mean;
  }
}

// dx = factor dy + slope (x - mean) + level, dy only where x * scale + shift > 0. Parallel over dx.
template <class T, class S>
__global__ void TYPES(float, double, half float)
gradient_of_rows(T *__restrict__ dx, const T *__restrict__ dy, const T *__restrict__ x,
                 const S *__restrict__ mean, const S *__restrict__ scale, const S *__restrict__ shift,
                 const S *__restrict__ factor, const S *__restrict__ slope,
                 const S *__restrict__ level, Index M, Index C) {
  constexpr int V = 16 / sizeof(T);
  bool packed = C % V == 0 && in_packs(dx, dy, x) && in_packs(mean, scale, shift, factor, slope, level);
  each_pack<V>(PARALLEL_PACKS(M * C), packed, [&](auto width, Index i) {
    Index c = i % C;
    auto f = [](T dy, T x, S mean, S scale, S shift, S factor, S slope, S level) {
      S v = x, g = v * scale + shift <= S(0) ? S(0) : S(dy);
      return T(factor * g + slope * (v - mean) + level);
    };
    write(width, dx + i, mapped<T>(width, f, read(width, dy + i), read(width, x + i), read(width, mean + c),
                                   read(width, scale + c), read(width, shift + c), read(width, factor + c),
                                   read(width, slope + c), read(width, level + c)));
  });
}
