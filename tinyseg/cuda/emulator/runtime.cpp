// The engine of the emulator: threads from start to end, blocks and launches. Compiled once, without sanitizers, and
// linked into each library of kernels; one translation unit, in rooms:
//
//     engine/sanitizers.h     what they are told
//     engine/fibers.h         stacks to run on
//     engine/errors.h         the message of a launch that fails
//     engine/threads.h        those of the block at hand: which goes on, and how one waits
//     engine/barrier.h        __syncthreads
//     engine/warps.h          shuffles, votes, products of matrices
//     engine/copies.h         cp.async
//     engine/shared_memory.h  NaN until it is written
//
// A thread that never waits runs from start to end on the fiber at hand, so a kernel without barriers is a plain loop
// over its threads. A thread that must wait is left on its fiber, and another one goes on.
#include "runtime.h"

#include "engine/barrier.h"
#include "engine/copies.h"
#include "engine/shared_memory.h"
#include "engine/warps.h"

extern "C" {
HIDDEN uint3 threadIdx, blockIdx;
HIDDEN dim3 blockDim, gridDim;
}

namespace emulated {

static void (*kernel_body)(void **);
static void **kernel_arguments;
static char fence_order, block_start, block_end;  // names for TSan

void fence() {  // coarse: all fences order all threads
  ordered_after(&fence_order);
  ordered_before(&fence_order);
}

// ------------------------------------------------------------------------------------------------ threads

static void report_deadlock() {
  int at[RETURNED + 1] = {};
  for (int t = 0; t < threads; t++) at[thread[t].state]++;
  failed = true;
  message[0] = 0;
  say("deadlock in block (%u,%u,%u): %d threads wait at a block barrier", blockIdx.x, blockIdx.y, blockIdx.z,
      at[AT_BARRIER]);
  if (at[AT_BARRIER]) say(" (%s:%d)", block_barrier.file, block_barrier.line);
  say(", %d at a warp operation", at[AT_WARP]);
  for (int w = 0; w * WARP < threads; w++)
    for (auto &m : warp[w].meeting)
      if (m.used && !m.done)
        say(" (warp %d, mask %08x, arrived %08x, %s:%d)", w, m.mask, m.arrived, m.file, m.line);
  say(", %d have returned", at[RETURNED]);
}

static void thread_returned() {
  int w = current / WARP;
  thread[current].state = RETURNED;
  alive--;
  warp[w].returned |= 1u << current % WARP;
  for (auto &m : warp[w].meeting)
    if (m.used && !m.done && m.arrived && complete(warp[w], m)) finish(w, m, -1);
  if (block_barrier.waiting && block_barrier.waiting == alive) open_barrier();
  if (copies[current].count && !failed) {
    begin_error();
    say("the thread returned with cp.async copies that it had not waited for");
  }
}

static void run_threads() {  // what a fiber does: one thread after the other, until one must go on elsewhere
  Fiber *self = running;
  if (under_asan()) __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
  for (;;) {
    become(self->thread);
    thread[current].fiber = self;
    ordered_after(&block_start);
    kernel_body(kernel_arguments);
    ordered_before(&block_end);
    thread_returned();
    int next = failed ? -1 : next_thread();
    if (next < 0) {
      if (!failed && alive) report_deadlock();
      give_fiber(self);
      go(self, &main_fiber);
      continue;
    }
    Fiber *&fiber = thread[next].fiber;
    if (!fiber && !under_tsan()) {
      self->thread = next;  // no switch needed
      continue;
    }
    if (!fiber) {  // TSan: one fiber for each thread, else the order in which they happen to run hides races
      fiber = take_fiber();
      fiber->thread = next;
    } else if (!under_tsan()) {
      give_fiber(self);
    }
    go(self, fiber);
  }
}

// ------------------------------------------------------------------------------------------------ blocks

static void tell_tsan_of_a_new_block() {
  // Its fibers are made here, by the main one, since a fiber inherits the clock of the one that makes it. TSan gives a
  // new fiber the number of one that is gone, and then takes the accesses of the two for those of one thread; so those
  // of the last blocks are kept.
  constexpr int BLOCKS = 4;
  static void *of_block[BLOCKS][MOST_THREADS];
  static int block;
  block = (block + 1) % (threads > 128 ? 2 : BLOCKS);  // each costs the sanitizer memory
  idle_fibers = nullptr;
  while (fiber_count < threads) take_fiber();
  idle_fibers = nullptr;
  for (int i = 0; i < threads; i++) {
    Fiber *f = all_fibers[i];
    if (void *before = of_block[block][i]) __tsan_destroy_fiber(before);
    f->tsan = of_block[block][i] = __tsan_create_fiber(0);
    forget_accesses(f->stack, STACK_BYTES);
    give_fiber(f);
  }
  each_shared(forget_accesses);
  forget_accesses(thread, sizeof thread);
  forget_accesses(warp, sizeof warp);
  forget_accesses(copies, sizeof copies);
}

static void run_block() {
  first_ready = ready_count = 0;
  fresh_count = alive = threads;
  block_barrier.waiting = block_barrier.turn = 0;
  idle_fibers = nullptr;
  for (int i = 0; i < fiber_count; i++) give_fiber(all_fibers[i]);
  for (int t = 0; t < threads; t++) {
    thread[t].fiber = nullptr;
    thread[t].state = NEW;
    copies[t].count = copies[t].groups = 0;
    fresh[t] = order == REVERSED ? t : threads - 1 - t;
  }
  for (int w = 0; w * WARP < threads; w++) {
    int lanes = threads - w * WARP;
    warp[w].lanes = lanes >= WARP ? ~0u : (1u << lanes) - 1;
    warp[w].returned = 0;
    for (auto &m : warp[w].meeting) m.used = false;
  }
  if (order == RANDOM) by_priority = random_below(2);
  for (int t = 0; order == RANDOM && t < threads; t++) priority[t] = random_below(~0u);
  if (under_tsan()) tell_tsan_of_a_new_block();
  each_shared(fill_with_nan);
  ordered_before(&block_start);
  Fiber *f = take_fiber();
  f->thread = next_thread();
  go(&main_fiber, f);
}

// ------------------------------------------------------------------------------------------------ launches

int run(const Launch *launch, void (*body)(void **), void **arguments, char *error, int error_size) {
  gridDim = {launch->grid[0], launch->grid[1], launch->grid[2]};
  blockDim = {launch->block[0], launch->block[1], launch->block[2]};
  threads = blockDim.x * blockDim.y * blockDim.z;
  reserve_dynamic(launch->shared_bytes);
  kernel_body = body;
  kernel_arguments = arguments;
  order = launch->order;
  random_state = launch->seed * 0x9E3779B97F4A7C15ull + 88172645463325252ull;
  failed = false;
  tell_tsan_of_this_process();
  if (__tsan_get_current_fiber) main_fiber.tsan = __tsan_get_current_fiber();
  uint64_t blocks = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
  uint64_t first = order == RANDOM ? random_below(blocks > ~0u ? ~0u : (uint32_t)blocks) : 0;
  for (uint64_t i = 0; i < blocks && !failed; i++) {
    uint64_t b = order == REVERSED ? blocks - 1 - i : (i + first) % blocks;
    blockIdx = {(unsigned)(b % gridDim.x), (unsigned)(b / gridDim.x % gridDim.y),
                (unsigned)(b / gridDim.x / gridDim.y)};
    run_block();
  }
  ordered_after(&block_end);
  if (!failed) return 0;
  for (int i = 0; i < fiber_count; i++) {  // threads were left in the middle: their stacks start anew
    prepare(all_fibers[i]);
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(all_fibers[i]->stack, STACK_BYTES);
  }
  snprintf(error, error_size, "%s", message);
  return 1;
}

}  // namespace emulated
