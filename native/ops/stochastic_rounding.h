// Rounding of moments to bfloat16 that is right on average: a value between two neighbours becomes the one or
// the other, with the probability of its nearness, by a random number of (seed, step, element).
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "ops/philox.h"

namespace cream {

// Marks the use of Philox, in its last counter word.
constexpr uint32_t kMomentsStream = 0x5C0D;

// Random bits of the elements 4 block ... 4 block + 3: the low half of each word rounds m, the high half v.
inline std::array<uint32_t, 4> moment_noise(uint64_t block, uint32_t step, uint64_t seed) {
  return philox({uint32_t(block), uint32_t(block >> 32), step, kMomentsStream},
                {uint32_t(seed), uint32_t(seed >> 32)});
}

// Adds `noise` in [0, 2^16) units of 2^-16 bfloat16 spacings and cuts off. For finite x.
inline uint16_t stochastic_bfloat16(float x, uint32_t noise) {
  return static_cast<uint16_t>((std::bit_cast<uint32_t>(x) + noise) >> 16);
}

}  // namespace cream
