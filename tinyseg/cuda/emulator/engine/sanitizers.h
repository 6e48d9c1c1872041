// What the engine tells the sanitizers, where the program runs under one; it is itself compiled without.
//
// The thread sanitizer sees each CUDA thread as one of its fibers. Barriers and __syncwarp order memory for it;
// shuffles do not, as on a GPU, and the blocks of a launch are not ordered among themselves.
#pragma once
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

#include "../runtime.h"

extern "C" {  // null without a sanitizer
#define WEAK __attribute__((weak))
WEAK void __tsan_acquire(void *);
WEAK void __tsan_release(void *);
WEAK void *__tsan_create_fiber(unsigned);
WEAK void *__tsan_get_current_fiber();
WEAK void __tsan_switch_to_fiber(void *, unsigned);
WEAK void __tsan_destroy_fiber(void *);
WEAK void __tsan_java_init(unsigned long, unsigned long);
WEAK void __tsan_java_alloc(unsigned long, unsigned long);
WEAK void __sanitizer_start_switch_fiber(void **, const void *, size_t);
WEAK void __sanitizer_finish_switch_fiber(void *, const void **, size_t *);
WEAK void __asan_unpoison_memory_region(const volatile void *, size_t);
}

namespace emulated {

static bool under_tsan() { return __tsan_create_fiber; }
static bool under_asan() { return __sanitizer_start_switch_fiber && !under_tsan(); }
static void ordered_after(void *place) { if (__tsan_acquire) __tsan_acquire(place); }
static void ordered_before(void *place) { if (__tsan_release) __tsan_release(place); }
static void forget_accesses(void *from, size_t bytes) {  // as if this memory had just been allocated
  unsigned long begin = (unsigned long)from & ~7ul, end = ((unsigned long)from + bytes + 7) & ~7ul;
  if (under_tsan() && end > begin) __tsan_java_alloc(begin, end - begin);
}

static void tell_tsan_of_this_process() {
  static bool told;
  if (told || !__tsan_java_init) return;
  told = true;
  const char *variable = "TINYSEG_TSAN_PROCESS", *before = getenv(variable);  // several libraries of kernels, one process
  char me[16];
  snprintf(me, sizeof me, "%d", (int)getpid());
  if (before && !strcmp(before, me)) return;
  setenv(variable, me, 1);
  __tsan_java_init(0x1000, 0x7ffffffff000ul);
}

}  // namespace emulated
