#include "cuda/kernels/common.cuh"
#include "cuda/kernels/mma.cuh"
#include "cuda/kernels/mma.h"

namespace cream::gpu {

namespace {

__global__ void __launch_bounds__(kLanes) tile_kernel(float* d, const bf16* a, const bf16* b) {
  const int group = threadIdx.x / 4, quad = threadIdx.x % 4;
  const auto word = [](bf16 low, bf16 high) {
    return __bfloat16_as_ushort(low) | static_cast<uint32_t>(__bfloat16_as_ushort(high)) << 16;
  };
  uint32_t left[4], right[2];
  for (int w = 0; w < 4; ++w) {
    const bf16* from = a + (group + w % 2 * 8) * 16 + 2 * quad + w / 2 * 8;
    left[w] = word(from[0], from[1]);
  }
  for (int w = 0; w < 2; ++w) {
    const bf16* from = b + (2 * quad + 8 * w) * 8 + group;
    right[w] = word(from[0], from[8]);
  }
  float sums[4];
  const auto at = [&](int i) { return d + (group + i / 2 * 8) * 8 + 2 * quad + i % 2; };
  for (int i = 0; i < 4; ++i) sums[i] = *at(i);
  multiply_tiles(sums, left, right);
  for (int i = 0; i < 4; ++i) *at(i) = sums[i];
}

}  // namespace

void multiply_one_tile(float* d, const void* a, const void* b, Stream stream) {
  launch(&tile_kernel, 1, kLanes, 0, stream, d, static_cast<const bf16*>(a), static_cast<const bf16*>(b));
}

}  // namespace cream::gpu
