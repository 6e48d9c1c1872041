#include "common.cuh"

// IoU of boxes a[i] and b[j]; 0 where there is no area at all.
template <class T> INLINE T overlap(const T *a, const T *b, Index i, Index j) {
  a += 4 * i, b += 4 * j;
  T width = (a[2] < b[2] ? a[2] : b[2]) - (a[0] > b[0] ? a[0] : b[0]);
  T height = (a[3] < b[3] ? a[3] : b[3]) - (a[1] > b[1] ? a[1] : b[1]);
  T inter = (width > 0 ? width : T(0)) * (height > 0 ? height : T(0));
  T all = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter;
  return all > 0 ? inter / all : T(0);
}

// iou[i,j]. Parallel over pairs.
template <class T>
__global__ void box_ious(T *__restrict__ iou, const T *__restrict__ a, const T *__restrict__ b, Index A, Index B) {
  PARALLEL_FOR(k, A * B) iou[k] = overlap(a, b, k / B, k % B);
}

// iou[i] = max_j IoU(a[i], b[j]), which[i] the first such j. Parallel over the boxes of a.
template <class T>
__global__ void best_overlaps(T *__restrict__ iou, int64 *__restrict__ which, const T *__restrict__ a,
                              const T *__restrict__ b, Index R, Index G) {
  PARALLEL_FOR(i, R) {
    T best = overlap(a, b, i, Index(0));
    Index at = 0;
    for (Index j = 1; j < G; j++) {
      T value = overlap(a, b, i, j);
      if (value > best) best = value, at = j;
    }
    iou[i] = best, which[i] = at;
  }
}

// most[j] = max_i IoU(a[i], b[j]). A block for each box of b.
template <class T>
__global__ void most_overlaps(T *__restrict__ most, const T *__restrict__ a, const T *__restrict__ b, Index R,
                              Index G) {
  PARALLEL_BLOCKS(j, G) {
    T best = 0;
    for (Index i = threadIdx.x; i < R; i += blockDim.x) {
      T value = overlap(a, b, i, j);
      best = value > best ? value : best;
    }
    best = block_reduce(best, T(0), [](T u, T v) { return u > v ? u : v; });
    if (threadIdx.x == 0) most[j] = best;
  }
}

// best[i] = 1 where IoU(a[i], b[j]) is most[j] for some j, to the last bits. Parallel over the boxes of a.
template <class T>
__global__ void reach_most(uint8 *__restrict__ best, const T *__restrict__ a, const T *__restrict__ b,
                           const T *__restrict__ most, Index R, Index G) {
  const T nearly = T(1 - 2e-7);
  PARALLEL_FOR(i, R) {
    uint8 found = 0;
    for (Index j = 0; j < G; j++) found |= most[j] > 0 && overlap(a, b, i, j) >= nearly * most[j];
    best[i] = found;
  }
}

// keep[i] = 1 for boxes that stay; group g is starts[g]..starts[g+1], best first. A block for each group: the best box
// that is left removes others in all threads at once.
template <class T>
__global__ void suppress(uint8 *keep, const T *__restrict__ boxes, const int32 *__restrict__ starts, T threshold,
                         Index G) {
  PARALLEL_BLOCKS(g, G) {
    Index begin = starts[g], end = starts[g + 1];
    for (Index i = begin + threadIdx.x; i < end; i += blockDim.x) keep[i] = 1;
    __syncthreads();
    for (Index i = begin; i < end; i++) {
      if (keep[i])
        for (Index j = i + 1 + threadIdx.x; j < end; j += blockDim.x)
          if (keep[j] && overlap(boxes, boxes, i, j) > threshold) keep[j] = 0;
      __syncthreads();
    }
  }
}
