// Shared memory, dynamic and static: it holds NaN until a block writes it.
#pragma once
#include "sanitizers.h"

namespace emulated {

struct Range {
  unsigned long begin, bytes;
};

static char *dynamic_memory;
static size_t dynamic_capacity, dynamic_bytes;
static Range *static_shared;  // the __shared__ variables
static int static_shared_count;

void *dynamic_shared() { return dynamic_memory; }

static void reserve_dynamic(size_t bytes) {
  dynamic_bytes = bytes;
  if (bytes <= dynamic_capacity) return;
  free(dynamic_memory);
  dynamic_capacity = bytes;  // to the byte, so that the address sanitizer sees its end
  if (posix_memalign((void **)&dynamic_memory, 128, dynamic_capacity)) abort();
}

static void fill_with_nan(void *from, size_t bytes) {  // what is read before it is written shows
  auto p = (volatile unsigned char *)from;
  if (!under_tsan()) memset(from, 0xff, bytes);
  else
    for (size_t i = 0; i < bytes; i++) p[i] = 0xff;  // memset is intercepted, and would count as an access
}

template <class Visit> static void each_shared(Visit visit) {  // visit(begin, bytes)
  visit(dynamic_memory, dynamic_bytes);
  for (int i = 0; i < static_shared_count; i++) visit((void *)static_shared[i].begin, static_shared[i].bytes);
}

extern "C" EXPORTED void emulated_static_shared(int count, const unsigned long *begin_and_bytes) {
  static_shared = (Range *)malloc(sizeof(Range) * (count + 1));
  static_shared_count = count;
  for (int i = 0; i < count; i++) static_shared[i] = {begin_and_bytes[2 * i], begin_and_bytes[2 * i + 1]};
}

}  // namespace emulated
