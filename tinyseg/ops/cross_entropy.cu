#include "common.cuh"

// For each run of pixels the sum of its targets' weights, and the first target that is no class (M if none).
// Parallel over runs, a block each.
template <class T>
__global__ void count_targets(double *__restrict__ sums, int64 *__restrict__ bad, const int32 *__restrict__ target,
                              const T *__restrict__ weight, int32 ignore_index, Index M, Index K, Index run) {
  PARALLEL_BLOCKS(i, cdiv(M, run)) {
    Index end = min(M, (i + 1) * run);
    double total = 0;
    int64 first_bad = M;
    for (Index m = i * run + threadIdx.x; m < end; m += blockDim.x) {
      int32 t = target[m];
      if (t == ignore_index) continue;
      if (t < 0 || t >= K) first_bad = min(first_bad, (int64)m);
      else total += weight[t];
    }
    total = block_sum(total);
    first_bad = block_min(first_bad);
    if (threadIdx.x == 0) sums[i] = total, bad[i] = first_bad;
  }
}

// loss[m] = sharp w[t] (log sum exp x[m] - x[m,t]) + blur log sum exp x[m]; dx[m] = scale * its gradient - lean.
// scale_blur holds scale and blur. A target that is no class gives NaN. Parallel over pixels.
template <class T>
__global__ void cross_entropy_with_gradient(T *__restrict__ loss, T *__restrict__ dx, const T *__restrict__ x,
                                            const int32 *__restrict__ target, const T *__restrict__ weight,
                                            const T *__restrict__ lean, const T *__restrict__ scale_blur, T sharp,
                                            int32 ignore_index, Index M, Index K, Index run) {
  PARALLEL_FOR(m, M) {
    const T *in = x + m * K;
    T *out = dx + m * K;
    int32 t = target[m];
    if (t == ignore_index) {
      loss[m] = 0;
      for (Index k = 0; k < K; k++) out[k] = 0;
      continue;
    }
    bool known = 0 <= t && t < K;
    T top = in[0];
    for (Index k = 1; k < K; k++) top = in[k] > top ? in[k] : top;
    T total = 0;
    for (Index k = 0; k < K; k++) total += out[k] = exp(in[k] - top);
    T scale = scale_blur[0], blur = scale_blur[1];
    T hard = known ? sharp * weight[t] : T(NAN);
    T share = scale * (hard + blur) / total, log_total = top + log(total);
    for (Index k = 0; k < K; k++) out[k] = out[k] * share - lean[k] - (k == t ? scale * hard : T(0));
    loss[m] = hard * (log_total - (known ? in[t] : T(0))) + blur * log_total;
  }
}

// dx[m] *= dy[m * step], in place; nothing is touched where dy is one 1. Parallel over dx.
template <class T>
__global__ void scale_rows(T *__restrict__ dx, const T *__restrict__ dy, Index step, Index M, Index K) {
  if (step != 1 && dy[0] == T(1)) return;
  PARALLEL_FOR(i, M * K) dx[i] *= dy[i / K * step];
}
