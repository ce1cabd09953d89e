// The product of tiles by itself, so that its layout can be tested.
#pragma once

#include "cuda/types.h"

namespace cream::gpu {

// d [16, 8] float32 += a [16, 16] b [16, 8], bfloat16, all row-major.
void multiply_one_tile(float* d, const void* a, const void* b, Stream stream);

}  // namespace cream::gpu
