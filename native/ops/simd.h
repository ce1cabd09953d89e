// Sixteen float32 lanes in the compiler's portable vector type, and loads and stores that convert from and to
// bfloat16. One register with AVX-512, several on narrower machines.
#pragma once

#include <c10/util/BFloat16.h>
#ifdef __AVX512DQ__
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

namespace cream {

constexpr int64_t kLanes = 16;

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

inline Floats splat(float x) { return Floats{} + x; }

inline Floats load16(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline Floats load16(const c10::BFloat16* p) {
  Halves bits;
  std::memcpy(&bits, p, sizeof bits);
  return (Floats)(__builtin_convertvector(bits, Words) << 16);
}

inline void store16(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }

// Rounds to nearest, ties to even. NaN stays NaN.
inline void store16(c10::BFloat16* p, Floats v) {
  const Words bits = (Words)v;
  const Words rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const Words quiet = Words{} + 0x7FC0;
  const Halves out = __builtin_convertvector(v == v ? rounded : quiet, Halves);
  std::memcpy(p, &out, sizeof out);
}

inline Floats max16(Floats a, Floats b) { return a > b ? a : b; }
inline Floats min16(Floats a, Floats b) { return a < b ? a : b; }

// A fixed tree, so that a sum does not depend on how the compiler reduces.
inline float sum_lanes(Floats v) {
  float lanes[kLanes];
  std::memcpy(lanes, &v, sizeof lanes);
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

inline float max_lanes(Floats v) {
  float lanes[kLanes];
  std::memcpy(lanes, &v, sizeof lanes);
  float best = lanes[0];
  for (float x : lanes) best = x > best ? x : best;
  return best;
}

inline float min_lanes(Floats v) { return -max_lanes(-v); }

inline bool any_lane(Ints mask) {
  int64_t words[kLanes / 2];
  std::memcpy(words, &mask, sizeof words);
  int64_t any = 0;
  for (int64_t word : words) any |= word;
  return any != 0;
}

// e^x for x <= 0 (or NaN) within 2 units in the last place; 0 below -87.3. The same polynomial as fast_exp.
inline Floats exp16_nonpositive(Floats x) {
  const Floats clamped = max16(splat(-87.3f), x);
  const Floats n = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f;
  const Floats r = (clamped - n * 0.693145752f) - n * 1.42860677e-6f;
  Floats p = splat(1.98412698e-4f);
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Floats power = (Floats)((__builtin_convertvector(n, Ints) + 127) << 23);
  return x < -87.3f ? Floats{} : p * power;
}

// Stores the lanes of x where mask is set (all ones) one after another and returns how many there were. Writes up
// to 16 lanes behind `out`.
inline int64_t compress16(float* out, Floats x, Ints mask) {
#ifdef __AVX512DQ__
  const __mmask16 bits = _mm512_movepi32_mask((__m512i)mask);
  _mm512_storeu_ps(out, _mm512_maskz_compress_ps(bits, (__m512)x));
  return __builtin_popcount(bits);
#else
  int64_t count = 0;
  for (int64_t i = 0; i < kLanes; ++i) {
    out[count] = x[i];
    count += mask[i] & 1;
  }
  return count;
#endif
}

}  // namespace cream
