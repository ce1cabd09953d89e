// Philox 4x32-10 (Salmon et al., SC 2011): random numbers as a pure function of a key and a counter, so that
// nothing depends on the order in which they are drawn.
#pragma once

#include <array>
#include <cstdint>

namespace cream {

inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {uint32_t(p1 >> 32) ^ counter[1] ^ key[0], uint32_t(p1),
               uint32_t(p0 >> 32) ^ counter[3] ^ key[1], uint32_t(p0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// Uniform in (0, 1), 24 bits, never 0 or 1.
inline float uniform_open(uint32_t bits) { return (float(bits >> 8) + 0.5f) * (1.0f / 16777216.0f); }

}  // namespace cream
