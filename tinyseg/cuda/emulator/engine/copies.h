// cp.async: a thread's copies happen when it waits for them; until then their targets hold NaN.
#pragma once
#include "threads.h"

namespace emulated {

constexpr int MOST_COPIES = 64, MOST_GROUPS = 8;

struct Copy {
  void *to;
  const void *from;
  int bytes, source_bytes;
};

struct Copies {  // of a thread; those of a group end at group_end
  int count, groups, group_end[MOST_GROUPS];
  Copy copy[MOST_COPIES];
};

static Copies copies[MOST_THREADS];

void copy_async(void *to, const void *from, int bytes, int source_bytes, const char *file, int line) {
  Copies &t = copies[current];
  if (t.count == MOST_COPIES) fail("more cp.async in flight than the emulator keeps (64)", file, line);
  if ((uintptr_t)to % bytes || (source_bytes && (uintptr_t)from % bytes)) fail("cp.async is misaligned", file, line);
  memset(to, 0xff, bytes);
  t.copy[t.count++] = {to, from, bytes, source_bytes};
}

void copy_commit(const char *file, int line) {
  Copies &t = copies[current];
  if (t.groups == MOST_GROUPS) fail("more cp.async groups than the emulator keeps (8)", file, line);
  t.group_end[t.groups++] = t.count;
}

void copy_wait(int groups_left) {
  Copies &t = copies[current];
  int groups = t.groups - groups_left;
  if (groups <= 0) return;
  int end = t.group_end[groups - 1];
  for (int i = 0; i < end; i++) {
    Copy &c = t.copy[i];
    memcpy(c.to, c.from, c.source_bytes);
    memset((char *)c.to + c.source_bytes, 0, c.bytes - c.source_bytes);
  }
  memmove(t.copy, t.copy + end, (t.count - end) * sizeof(Copy));
  t.count -= end;
  for (int i = groups; i < t.groups; i++) t.group_end[i - groups] = t.group_end[i] - end;
  t.groups = groups_left;
}

}  // namespace emulated
