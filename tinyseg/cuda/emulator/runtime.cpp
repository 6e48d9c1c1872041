// The engine of the emulator: fibers, barriers, warp collectives, asynchronous copies, and the hooks that tell the
// sanitizers what a CUDA thread is. Compiled once, without sanitizers, and linked into each library of kernels.
//
// A thread that never waits runs from start to end on the fiber at hand, so a kernel without barriers is a plain loop
// over its threads. A thread that must wait is left on its fiber, and another one goes on.
//
// The thread sanitizer sees each CUDA thread as one of its fibers. Barriers and __syncwarp order memory for it;
// shuffles do not, as on a GPU, and the blocks of a launch are not ordered among themselves.
#include "runtime.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

extern "C" {
HIDDEN uint3 threadIdx, blockIdx;
HIDDEN dim3 blockDim, gridDim;

// There when the program runs under a sanitizer, else null.
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

#ifndef STACK_BYTES
#define STACK_BYTES (256 << 10)
#endif
constexpr int MOST_THREADS = 1024, WARP = 32, MOST_WARPS = MOST_THREADS / WARP, MOST_MEETINGS = 6;
constexpr int MOST_COPIES = 64, MOST_GROUPS = 8;
constexpr unsigned PAGE = 4096;

static bool under_tsan() { return __tsan_create_fiber; }
static bool under_asan() { return __sanitizer_start_switch_fiber && !under_tsan(); }
static void ordered_after(void *place) { if (__tsan_acquire) __tsan_acquire(place); }
static void ordered_before(void *place) { if (__tsan_release) __tsan_release(place); }
static void forget_accesses(void *from, size_t bytes) {  // as if this memory had just been allocated
  unsigned long begin = (unsigned long)from & ~7ul, end = ((unsigned long)from + bytes + 7) & ~7ul;
  if (under_tsan() && end > begin) __tsan_java_alloc(begin, end - begin);
}

// ------------------------------------------------------------------------------------------------ fibers

struct Fiber {
  void *stack_pointer;
  char *stack;
  int thread;  // the CUDA thread to start with
  void *tsan, *asan;
  Fiber *next;  // in the list of idle fibers
#ifndef __x86_64__
  ucontext_t context;
#endif
};

static Fiber main_fiber, *running, *idle_fibers, *all_fibers[MOST_THREADS];
static int fiber_count;

static void run_threads();

#ifdef __x86_64__
extern "C" HIDDEN void emulated_switch(void **save, void *load);
extern "C" HIDDEN void emulated_start();
asm(R"(
.text
.globl emulated_switch
.hidden emulated_switch
.type emulated_switch,@function
emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.globl emulated_start
.hidden emulated_start
.type emulated_start,@function
emulated_start:
  .cfi_startproc
  .cfi_undefined rip
  call *%rbx
  ud2
  .cfi_endproc
)");

static void switch_stacks(Fiber *from, Fiber *to) { emulated_switch(&from->stack_pointer, to->stack_pointer); }

static void prepare(Fiber *f) {  // a stack on which emulated_switch finds six registers, one of them run_threads
  void **top = (void **)(f->stack + STACK_BYTES - 64);
  *top = nullptr;
  *--top = (void *)emulated_start;
  *--top = nullptr;              // rbp
  *--top = (void *)run_threads;  // rbx
  for (int i = 0; i < 4; i++) *--top = nullptr;
  f->stack_pointer = top;
}
#else
static void switch_stacks(Fiber *from, Fiber *to) { swapcontext(&from->context, &to->context); }

static void prepare(Fiber *f) {
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = STACK_BYTES;
  f->context.uc_link = nullptr;
  makecontext(&f->context, run_threads, 0);
}
#endif

static void go(Fiber *from, Fiber *to) {
  running = to;
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(to->tsan, 1 /* no order between the two */);
  if (under_asan()) __sanitizer_start_switch_fiber(&from->asan, to->stack, STACK_BYTES);
  switch_stacks(from, to);
  if (under_asan()) __sanitizer_finish_switch_fiber(from->asan, nullptr, nullptr);
}

static Fiber *take_fiber() {
  if (Fiber *f = idle_fibers) {
    idle_fibers = f->next;
    return f;
  }
  auto f = (Fiber *)calloc(1, sizeof(Fiber));
  auto memory = (char *)mmap(0, STACK_BYTES + PAGE, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  mprotect(memory, PAGE, PROT_NONE);  // a stack that overflows is a crash
  f->stack = memory + PAGE;
  prepare(f);
  return all_fibers[fiber_count++] = f;
}

static void give_fiber(Fiber *f) {
  f->next = idle_fibers;
  idle_fibers = f;
}

// ------------------------------------------------------------------------------------------------ the block at hand

enum State : uint8_t { NEW, READY, RUNNING, AT_BARRIER, AT_WARP, RETURNED };

struct Copy {
  void *to;
  const void *from;
  int bytes, source_bytes;
};

struct Thread {
  Fiber *fiber;
  State state;
  int copies, groups, group_end[MOST_GROUPS];
  Copy copy[MOST_COPIES];
};

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

struct Barrier {
  int waiting, kind, line, result[2], turn;  // two turns: a fast thread may be at the next barrier already
  const char *file;
};

struct Range {
  unsigned long begin, bytes;
};

static Thread thread[MOST_THREADS];
static Warp warp[MOST_WARPS];
static Barrier block_barrier;
static int ready[MOST_THREADS], first_ready, ready_count;  // a ring of threads that may go on
static int fresh[MOST_THREADS], fresh_count;               // a stack of threads that have not begun
static int threads, current, alive;
static unsigned order;
static uint64_t random_state;
static bool failed;
static char message[1024];
static void (*kernel_body)(void **);
static void **kernel_arguments;
static char *dynamic_memory;
static size_t dynamic_capacity, dynamic_bytes;
static Range *static_shared;  // the __shared__ variables
static int static_shared_count;
static char barrier_order[2], warp_order[MOST_WARPS][2], fence_order, block_start, block_end;  // names for TSan

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

// ------------------------------------------------------------------------------------------------ errors

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
  size_t length = strlen(message);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message + length, sizeof message - length, format, arguments);
  va_end(arguments);
}

static void begin_error() {
  failed = true;
  message[0] = 0;
  say("block (%u,%u,%u) thread (%u,%u,%u): ", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y,
      threadIdx.z);
}

[[noreturn]] static void leave() {
  go(thread[current].fiber, &main_fiber);
  __builtin_unreachable();
}

void fail(const char *what, const char *file, int line) {
  begin_error();
  say("%s at %s:%d", what, file, line);
  leave();
}

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

// ------------------------------------------------------------------------------------------------ waiting

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

static void thread_returned() {
  Thread &t = thread[current];
  int w = current / WARP;
  t.state = RETURNED;
  alive--;
  warp[w].returned |= 1u << current % WARP;
  for (auto &m : warp[w].meeting)
    if (m.used && !m.done && m.arrived && complete(warp[w], m)) finish(w, m, -1);
  if (block_barrier.waiting && block_barrier.waiting == alive) open_barrier();
  if (t.copies && !failed) {
    begin_error();
    say("the thread returned with cp.async copies that it had not waited for");
  }
}

static void run_threads() {  // what a fiber does: threads, from start to end, until there is one that must go on elsewhere
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

// ------------------------------------------------------------------------------------------------ small things

int lane() { return current % WARP; }
unsigned active_mask() { return warp[current / WARP].lanes & ~warp[current / WARP].returned; }
void *dynamic_shared() { return dynamic_memory; }

void fence() {  // coarse: all fences order all threads
  ordered_after(&fence_order);
  ordered_before(&fence_order);
}

void copy_async(void *to, const void *from, int bytes, int source_bytes, const char *file, int line) {
  Thread &t = thread[current];
  if (t.copies == MOST_COPIES) fail("more cp.async in flight than the emulator keeps (64)", file, line);
  if ((uintptr_t)to % bytes || (source_bytes && (uintptr_t)from % bytes)) fail("cp.async is misaligned", file, line);
  memset(to, 0xff, bytes);
  t.copy[t.copies++] = {to, from, bytes, source_bytes};
}

void copy_commit(const char *file, int line) {
  Thread &t = thread[current];
  if (t.groups == MOST_GROUPS) fail("more cp.async groups than the emulator keeps (8)", file, line);
  t.group_end[t.groups++] = t.copies;
}

void copy_wait(int groups_left) {
  Thread &t = thread[current];
  int groups = t.groups - groups_left;
  if (groups <= 0) return;
  int end = t.group_end[groups - 1];
  for (int i = 0; i < end; i++) {
    Copy &c = t.copy[i];
    memcpy(c.to, c.from, c.source_bytes);
    memset((char *)c.to + c.source_bytes, 0, c.bytes - c.source_bytes);
  }
  memmove(t.copy, t.copy + end, (t.copies - end) * sizeof(Copy));
  t.copies -= end;
  for (int i = groups; i < t.groups; i++) t.group_end[i - groups] = t.group_end[i] - end;
  t.groups = groups_left;
}

// ------------------------------------------------------------------------------------------------ blocks and launches

static void fill_with_nan(void *from, size_t bytes) {  // what is read before it is written shows
  auto p = (volatile unsigned char *)from;
  if (!under_tsan()) memset(from, 0xff, bytes);
  else
    for (size_t i = 0; i < bytes; i++) p[i] = 0xff;  // memset is intercepted, and would count as an access
}

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
  for (int i = 0; i < static_shared_count; i++) forget_accesses((void *)static_shared[i].begin, static_shared[i].bytes);
  forget_accesses(dynamic_memory, dynamic_bytes);
  forget_accesses(thread, sizeof thread);
  forget_accesses(warp, sizeof warp);
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
    thread[t].copies = thread[t].groups = 0;
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
  fill_with_nan(dynamic_memory, dynamic_bytes);
  for (int i = 0; i < static_shared_count; i++) fill_with_nan((void *)static_shared[i].begin, static_shared[i].bytes);
  ordered_before(&block_start);
  Fiber *f = take_fiber();
  f->thread = next_thread();
  go(&main_fiber, f);
}

static void tell_tsan_of_this_process() {
  static bool told;
  if (told || !__tsan_java_init) return;
  told = true;
  const char *variable = "TINYSEG_TSAN_PROCESS", *before = getenv(variable);  // several libraries, one process
  char me[16];
  snprintf(me, sizeof me, "%d", (int)getpid());
  if (before && !strcmp(before, me)) return;
  setenv(variable, me, 1);
  __tsan_java_init(0x1000, 0x7ffffffff000ul);
}

int run(const Launch *launch, void (*body)(void **), void **arguments, char *error, int error_size) {
  gridDim = {launch->grid[0], launch->grid[1], launch->grid[2]};
  blockDim = {launch->block[0], launch->block[1], launch->block[2]};
  threads = blockDim.x * blockDim.y * blockDim.z;
  dynamic_bytes = launch->shared_bytes;
  kernel_body = body;
  kernel_arguments = arguments;
  order = launch->order;
  random_state = launch->seed * 0x9E3779B97F4A7C15ull + 88172645463325252ull;
  failed = false;
  if (dynamic_bytes > dynamic_capacity) {
    free(dynamic_memory);
    dynamic_capacity = dynamic_bytes;  // to the byte, so that the address sanitizer sees its end
    if (posix_memalign((void **)&dynamic_memory, 128, dynamic_capacity)) abort();
  }
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

extern "C" EXPORTED void emulated_static_shared(int count, const unsigned long *begin_and_bytes) {
  static_shared = (Range *)malloc(sizeof(Range) * (count + 1));
  static_shared_count = count;
  for (int i = 0; i < count; i++) static_shared[i] = {begin_and_bytes[2 * i], begin_and_bytes[2 * i + 1]};
}

}  // namespace emulated
