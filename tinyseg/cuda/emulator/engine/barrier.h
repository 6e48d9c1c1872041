// __syncthreads and its reductions: the barrier of the block.
#pragma once
#include "threads.h"

namespace emulated {

struct Barrier {
  int waiting, kind, line, result[2], turn;  // two turns: a fast thread may be at the next barrier already
  const char *file;
};

static Barrier block_barrier;
static char barrier_order[2];  // a name for TSan

static void open_barrier() {
  block_barrier.turn ^= 1;
  block_barrier.waiting = 0;
  for (int t = 0; t < threads; t++)
    if (thread[t].state == AT_BARRIER) wake(t);
}

int barrier(BarrierKind kind, int predicate, const char *file, int line) {
  Barrier &b = block_barrier;
  int turn = b.turn, &result = b.result[turn];
  ordered_before(&barrier_order[turn]);
  if (!b.waiting) {
    b.file = file, b.line = line, b.kind = kind;
    result = kind == AND;
  } else if (b.line != line || b.kind != kind) {
    begin_error();
    say("divergent barrier: this thread is at %s:%d, others are at line %d", file, line, b.line);
    leave();
  }
  result = kind == COUNT ? result + predicate : kind == AND ? result && predicate : result || predicate;
  if (++b.waiting == alive) {
    open_barrier();
    if (order == RANDOM) yield();
  } else {
    wait(AT_BARRIER);
  }
  ordered_after(&barrier_order[turn]);
  return b.result[turn];
}

}  // namespace emulated
