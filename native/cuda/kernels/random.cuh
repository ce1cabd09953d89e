// Philox 4x32-10 on the device: the same bits as ops/philox.h.
#pragma once

#include "cuda/device.h"

namespace cream::gpu {

struct Bits4 {
  uint32_t at[4];
};

__device__ __forceinline__ Bits4 random_bits(Bits4 counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter.at[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * counter.at[2];
    counter = {{static_cast<uint32_t>(p1 >> 32) ^ counter.at[1] ^ key0, static_cast<uint32_t>(p1),
                static_cast<uint32_t>(p0 >> 32) ^ counter.at[3] ^ key1, static_cast<uint32_t>(p0)}};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

// Uniform in (0, 1), as ops/philox.h.
__device__ __forceinline__ float uniform_of(uint32_t bits) {
  return (static_cast<float>(bits >> 8) + 0.5f) * (1.0f / 16777216.0f);
}

}  // namespace cream::gpu
