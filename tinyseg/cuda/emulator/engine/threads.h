// The CUDA threads of the block at hand, the order in which they go on, and how one of them waits.
#pragma once
#include "errors.h"

namespace emulated {

enum State : uint8_t { NEW, READY, RUNNING, AT_BARRIER, AT_WARP, RETURNED };

struct Thread {
  Fiber *fiber;
  State state;
};

static Thread thread[MOST_THREADS];
static int ready[MOST_THREADS], first_ready, ready_count;  // a ring of threads that may go on
static int fresh[MOST_THREADS], fresh_count;               // a stack of threads that have not begun
static int threads, current, alive;
static unsigned order;
static uint64_t random_state;

static void report_deadlock();  // by who knows what threads wait for: see runtime.cpp

static uint32_t random_below(uint32_t n) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)((random_state >> 11) % n);
}

static void become(int t) {
  current = t;
  threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
  thread[t].state = RUNNING;
}

static void wake(int t) {
  thread[t].state = READY;
  ready[(first_ready + ready_count++) % threads] = t;
}

// In random order half of the blocks pick any thread at any time; the others give each thread a priority at random and
// always go on with the highest, so that some threads stay far behind (Burckhardt et al. 2010).
static bool by_priority;
static uint32_t priority[MOST_THREADS];

static int candidate(int i) {
  return i < ready_count ? ready[(first_ready + i) % threads] : fresh[i - ready_count];
}

static int next_thread() {  // -1: none can go on
  if (order == RANDOM) {
    int count = ready_count + fresh_count;
    if (!count) return -1;
    int k = random_below(count);
    if (by_priority)
      for (int i = 0; i < count; i++)
        if (priority[candidate(i)] > priority[candidate(k)]) k = i;
    if (k < ready_count) {
      int &slot = ready[(first_ready + k) % threads], t = slot;
      slot = ready[(first_ready + --ready_count) % threads];
      return t;
    }
    int &slot = fresh[k - ready_count], t = slot;
    slot = fresh[--fresh_count];
    return t;
  }
  if (ready_count) {
    int t = ready[first_ready];
    first_ready = (first_ready + 1) % threads;
    ready_count--;
    return t;
  }
  return fresh_count ? fresh[--fresh_count] : -1;
}

static void wait(State state) {
  int me = current;
  thread[me].state = state;
  int next = next_thread();
  if (next < 0) {
    report_deadlock();
    leave();
  }
  if (next != me) {
    Fiber *&fiber = thread[next].fiber;
    if (!fiber) {
      fiber = take_fiber();
      fiber->thread = next;
    }
    go(thread[me].fiber, fiber);
  }
  become(me);
}

void yield() {
  wake(current);
  wait(READY);
}

}  // namespace emulated
