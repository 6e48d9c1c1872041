// Warp operations: the lanes of a mask meet, and each sees what the others brought.
#pragma once
#include "threads.h"

namespace emulated {

constexpr int WARP = 32, MOST_WARPS = MOST_THREADS / WARP, MOST_MEETINGS = 6;

struct Meeting {  // of the lanes of a mask, at one warp operation
  bool used, done;
  unsigned mask, arrived, present, readers;
  int operation, line;
  const char *file;
  uint32_t word[WARP][MOST_WORDS];
};

struct Warp {
  unsigned lanes, returned;
  Meeting meeting[MOST_MEETINGS];
};

static Warp warp[MOST_WARPS];
static char warp_order[MOST_WARPS][2];  // names for TSan

static bool complete(const Warp &w, const Meeting &m) { return ((m.arrived | w.returned) & m.mask) == m.mask; }

static void finish(int w, Meeting &m, int but) {  // wakes all lanes but one
  if (unsigned gone = m.mask & warp[w].returned) {
    begin_error();
    say("the mask %08x of the warp operation at %s:%d names lanes that have returned (%08x)", m.mask, m.file, m.line,
        gone);
  }
  m.done = true;
  m.present = m.readers = m.arrived;
  for (int l = 0; l < WARP; l++)
    if (m.arrived >> l & 1 && w * WARP + l != but) wake(w * WARP + l);
}

Lanes meet(unsigned mask, WarpOperation operation, const void *value, int words, const char *file, int line) {
  int w = current / WARP, me = current % WARP;
  mask &= warp[w].lanes;
  if (!(mask >> me & 1)) fail("the calling lane is not in its mask", file, line);
  Meeting *m = nullptr, *unused = nullptr;
  for (auto &other : warp[w].meeting) {
    if (!other.used) {
      if (!unused) unused = &other;
    } else if (!other.done && other.mask == mask) {
      if (other.operation != operation || other.line != line) {
        begin_error();
        say("divergent warp operation: lane %d is at %s:%d, the lanes %08x of its mask are at line %d", me, file, line,
            other.arrived, other.line);
        leave();
      }
      m = &other;
    }
  }
  if (!m) {
    if (!unused) fail("too many pending warp operations", file, line);
    m = unused;
    m->used = true, m->done = false;
    m->mask = mask, m->arrived = 0;
    m->operation = operation, m->file = file, m->line = line;
  }
  char *orders = operation == SYNCWARP ? &warp_order[w][(m - warp[w].meeting) & 1] : nullptr;
  if (orders) ordered_before(orders);
  for (int i = 0; i < words; i++) m->word[me][i] = ((const uint32_t *)value)[i];
  m->arrived |= 1u << me;
  if (complete(warp[w], *m)) {
    finish(w, *m, current);
    if (failed) leave();
    if (order == RANDOM) yield();
  } else {
    wait(AT_WARP);
  }
  if (orders) ordered_after(orders);
  if (!(m->readers &= ~(1u << me))) m->used = false;  // the caller reads before another thread runs
  return {m->word, m->present};
}

int lane() { return current % WARP; }
unsigned active_mask() { return warp[current / WARP].lanes & ~warp[current / WARP].returned; }

}  // namespace emulated
