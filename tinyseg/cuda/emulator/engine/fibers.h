// Stacks to run on, and the switch from one to another: 14 instructions on x86-64, swapcontext elsewhere.
#pragma once
#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

#include "sanitizers.h"

#ifndef STACK_BYTES
#define STACK_BYTES (256 << 10)
#endif

namespace emulated {

constexpr int MOST_THREADS = 1024;
constexpr unsigned PAGE = 4096;

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

static void run_threads();  // what each fiber does: see runtime.cpp

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

}  // namespace emulated
