#include "common.cuh"

constexpr int MOST = 16;  // features and one more

// The d + 1 vertices of each point's simplex and its barycentric weights there. Parallel over points.
template <class T>
__global__ void embed(int64 *__restrict__ key, T *__restrict__ weight, const double *__restrict__ features,
                      const double *__restrict__ scale, const int64 *__restrict__ low,
                      const int64 *__restrict__ stride, Index N, Index d) {
  PARALLEL_FOR(n, N) {
    double y[MOST], ordered[MOST];
    int64 step[MOST], place = 0;
    int rank[MOST], excess = 0;
    double above = 0, part = 1.0 / (d + 1);
    for (int i = d; i > 0; i--) {
      double lifted = features[n * d + i - 1] * scale[i - 1];
      y[i] = (above - i * lifted) * part;
      above += lifted;
    }
    y[0] = above * part;
    for (int i = 0; i <= d; i++) {
      int64 cell = (int64)floor(y[i] + 0.5);
      excess += (int)cell;
      y[i] -= cell;
      rank[i] = 0;
      if (i < d) place += (cell - low[i]) * stride[i];
    }
    for (int i = 0; i < d; i++)
      for (int j = i + 1; j <= d; j++) {
        int less = y[i] < y[j];
        rank[i] += less;
        rank[j] += 1 - less;
      }
    for (int i = 0; i <= d; i++) {
      int r = rank[i] + excess, wrong = (r < 0) - (r > d);
      int64 own = i < d ? stride[i] : 0;
      r += wrong * (d + 1);
      place += wrong * own;
      ordered[r] = y[i] - wrong;
      step[r] = own;
    }
    for (int j = 0; j <= d; j++) {
      key[n * (d + 1) + j] = place * (d + 1) + j;
      place -= step[d - j];
      weight[n * (d + 1) + j] = j ? ordered[d - j] - ordered[d - j + 1] : 1 + ordered[d] - ordered[0];
    }
  }
}

constexpr int64 EMPTY = -1;
constexpr int LONGEST = 256;

// A place in a table of 2^bits.
INLINE Index hash_of(int64 key, int32 bits) {
  unsigned long long h = key;
  h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9ull;
  h = (h ^ (h >> 27)) * 0x94D049BB133111EBull;
  return (Index)(h >> (64 - bits));
}

// slot[e]: the place of key e; table_first: the first entry that has this key. Parallel over entries, with atomics on
// integers: which place a key gets depends on the order of the threads, which entry is its first does not.
__global__ void insert(int32 *__restrict__ slot, int64 *table_key, int32 *table_first, int32 *filled,
                       const int64 *__restrict__ key, Index N, Index J, int32 bits) {
  PARALLEL_FOR(e, N * J) {
    int64 wanted = key[e];
    Index at = hash_of(wanted, bits), last = ((Index)1 << bits) - 1;
    int steps = 0;
    for (; steps < LONGEST; steps++, at = (at + 1) & last) {
      int64 found = atomicCAS((unsigned long long *)&table_key[at], (unsigned long long)EMPTY, (unsigned long long)wanted);
      if (found == EMPTY) atomicAdd(&filled[0], 1);
      if (found == EMPTY || found == wanted) break;
    }
    if (steps == LONGEST) {
      atomicExch(&filled[1], 1);
    } else {
      atomicMin(&table_first[at], (int32)e);
      slot[e] = at;
    }
  }
}

// mark[e]: 1 where e is the first entry of its vertex, else 0. Parallel over entries.
__global__ void mark_first(int32 *__restrict__ mark, const int32 *__restrict__ slot,
                           const int32 *__restrict__ table_first, Index E) {
  PARALLEL_FOR(e, E) mark[e] = table_first[slot[e]] == e;
}

// vertex[e], counted from 0 where `number` counts first entries from 1; the key of each. Parallel over entries.
__global__ void name_vertices(int32 *__restrict__ vertex, int64 *__restrict__ vertex_key,
                              const int32 *__restrict__ number, const int32 *__restrict__ slot,
                              const int32 *__restrict__ table_first, const int64 *__restrict__ key, Index E) {
  PARALLEL_FOR(e, E) {
    int32 first = table_first[slot[e]], v = number[first] - 1;
    vertex[e] = v;
    if (first == e) vertex_key[v] = key[e];
  }
}

INLINE int32 find(int64 wanted, const int64 *table_key, const int32 *table_first, const int32 *number, Index M,
                  int32 bits) {
  Index at = hash_of(wanted, bits), last = ((Index)1 << bits) - 1;
  for (; table_key[at] != EMPTY; at = (at + 1) & last)
    if (table_key[at] == wanted) return number[table_first[at]] - 1;
  return M;
}

// The vertices one step up and down along each axis, M where there is none. Parallel over vertices.
__global__ void find_neighbours(int32 *__restrict__ neighbours, const int64 *__restrict__ vertex_key,
                                const int64 *__restrict__ table_key, const int32 *__restrict__ table_first,
                                const int32 *__restrict__ number, const int64 *__restrict__ stride, Index M, Index d,
                                int32 bits) {
  PARALLEL_FOR(v, M) {
    int64 key = vertex_key[v], every = 0;
    int r = key % (d + 1);
    for (int i = 0; i < d; i++) every += stride[i];
    for (int j = 0; j <= d; j++) {
      int64 own = j < d ? stride[j] : 0;
      int64 up = r > 0 ? own * (d + 1) - 1 : (own - every) * (d + 1) + d;
      int64 down = r < d ? -own * (d + 1) + 1 : (every - own) * (d + 1) - d;
      neighbours[(j * M + v) * 2] = find(key + up, table_key, table_first, number, M, bits);
      neighbours[(j * M + v) * 2 + 1] = find(key + down, table_key, table_first, number, M, bits);
    }
  }
}

// values[v] = sum of weight x[point] over the entries of v; values[M] = 0. Parallel over vertices and channels.
template <class T>
__global__ void splat(T *__restrict__ values, const T *__restrict__ x, const int32 *__restrict__ start,
                      const int32 *__restrict__ entry, const T *__restrict__ weight, Index M, Index K) {
  PARALLEL_FOR(i, (M + 1) * K) {
    Index v = i / K, k = i % K;
    T total = 0;
    if (v < M)
      for (Index e = start[v]; e < start[v + 1]; e++) total += weight[e] * x[entry[e] * K + k];
    values[i] = total;
  }
}

// out[v] = values[v] + (values[up] + values[down]) / 2 along an axis. Parallel over vertices and channels.
template <class T>
__global__ void blur(T *__restrict__ out, const T *__restrict__ values, const int32 *__restrict__ neighbours,
                     int32 axis, Index M, Index K) {
  PARALLEL_FOR(i, M * K) {
    const int32 *beside = neighbours + (axis * M + i / K) * 2;
    out[i] = values[i] + T(0.5) * (values[beside[0] * K + i % K] + values[beside[1] * K + i % K]);
  }
}

// y[n] = sum_j weight[n J + j] values[vertex[n J + j]]. Parallel over points and channels.
template <class T>
__global__ void slice_values(T *__restrict__ y, const T *__restrict__ values, const int32 *__restrict__ vertex,
                             const T *__restrict__ weight, Index N, Index J, Index K) {
  PARALLEL_FOR(i, N * K) {
    Index n = i / K, k = i % K;
    T total = 0;
    for (Index e = n * J; e < n * J + J; e++) total += weight[e] * values[vertex[e] * K + k];
    y[i] = total;
  }
}
