// Bulk copies, their barriers and loads of matrices by themselves, so that they can be tested.
#pragma once

#include <cstdint>

#include "cuda/types.h"

namespace cream::gpu {

// words [32 lanes, 4] = what ldmatrix loads of four matrices [4, 8, 8] of two-byte values; transposed or not.
void load_four_matrices(uint32_t* words, const void* matrices, bool is_transposed, Stream stream);

// What the producer of copy_by_ring does wrong.
enum class RingFault { kNone, kNoArrival, kTooFewBytes, kTooManyBytes, kTwoArrivals };

// to = from, `bytes` (a multiple of 16) through a ring of two stages of 512 bytes: one warp fills, one reads.
// A fault never ends on a GPU.
void copy_by_ring(void* to, const void* from, int64_t bytes, RingFault fault, Stream stream);

}  // namespace cream::gpu
