// The emulator's engine as the language (cuda.h) sees it. One library of kernels holds one engine; it runs one launch
// at a time, one block after the other, one fiber for each CUDA thread of the block.
#pragma once
#include <cstddef>
#include <cstdint>

#define HIDDEN __attribute__((visibility("hidden")))
#define EXPORTED __attribute__((visibility("default")))

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
extern "C" {  // set by the engine whenever a thread starts or goes on; plain variables, so that gdb prints them
extern HIDDEN uint3 threadIdx, blockIdx;
extern HIDDEN dim3 blockDim, gridDim;
}

namespace emulated {

enum Order : unsigned { SEQUENTIAL, REVERSED, RANDOM };

struct Launch {  // mirrored in emulator/__init__.py
  unsigned grid[3], block[3], shared_bytes, order;
  uint64_t seed;
};

// Runs body(arguments) once for each CUDA thread. 0, or 1 with a message in `error`.
HIDDEN int run(const Launch *launch, void (*body)(void **), void **arguments, char *error, int error_size);

// Ends the launch with an error that names block and thread.
[[noreturn]] HIDDEN void fail(const char *message, const char *file, int line);

// __syncthreads and its reductions over a predicate.
enum BarrierKind { PLAIN, COUNT, AND, OR };
HIDDEN int barrier(BarrierKind kind, int predicate, const char *file, int line);

// The lanes of `mask` meet here; each brings `words` words and sees those of all lanes that came.
constexpr int MOST_WORDS = 16;
enum WarpOperation { SHUFFLE, VOTE, SYNCWARP, MATRIX };
struct Lanes {
  const uint32_t (*word)[MOST_WORDS];  // word[lane][i]
  unsigned present;                    // lanes that came: the others had returned
};
HIDDEN Lanes meet(unsigned mask, WarpOperation operation, const void *value, int words, const char *file, int line);

HIDDEN int lane();
HIDDEN unsigned active_mask();
HIDDEN void *dynamic_shared();
HIDDEN void yield();  // lets other threads run: a spinning lock makes progress
HIDDEN void fence();

// cp.async: the target holds NaN until the copy is waited for.
HIDDEN void copy_async(void *to, const void *from, int bytes, int source_bytes, const char *file, int line);
HIDDEN void copy_commit(const char *file, int line);
HIDDEN void copy_wait(int groups_left);

}  // namespace emulated
