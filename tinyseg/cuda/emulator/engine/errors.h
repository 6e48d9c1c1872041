// The message of a launch that fails, and the way out of it from the thread that is running.
#pragma once
#include <cstdarg>
#include <cstdio>

#include "fibers.h"

namespace emulated {

static bool failed;
static char message[1024];

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
  go(running, &main_fiber);
  __builtin_unreachable();
}

void fail(const char *what, const char *file, int line) {
  begin_error();
  say("%s at %s:%d", what, file, line);
  leave();
}

}  // namespace emulated
