// Sixteen float32 lanes in the compiler's portable vector type, and loads and stores that convert from and to
// bfloat16. One register with AVX-512, several on narrower machines.
#pragma once

#include <c10/util/BFloat16.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace cream {

constexpr int64_t kLanes = 16;

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

inline Floats splat(float x) { return Floats{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

inline Floats load16(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline Floats load16(const c10::BFloat16* p) {
  Halves bits;
  std::memcpy(&bits, p, sizeof bits);
#ifdef __AVX512F__
  // One instruction, where the compiler's conversion takes four. The full mask only avoids a false warning of
  // gcc.
  return (Floats)((Words)_mm512_maskz_cvtepu16_epi32(0xFFFF, (__m256i)bits) << 16);
#else
  return (Floats)(__builtin_convertvector(bits, Words) << 16);
#endif
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

namespace simd_detail {

// Runs of W lanes, of a and of b in turn: the even runs (odd = 0) or the odd runs of both.
template <int W>
constexpr int run_lane(int i, int odd) {
  const int run = i / W;
  return (run / 2 * 2 + odd) * W + i % W + (run % 2) * int(kLanes);
}

template <int W, int kOdd>
inline Floats runs(Floats a, Floats b) {
  constexpr auto lane = [](int i) constexpr { return run_lane<W>(i, kOdd); };
  const Ints lanes{lane(0), lane(1), lane(2),  lane(3),  lane(4),  lane(5),  lane(6),  lane(7),
                   lane(8), lane(9), lane(10), lane(11), lane(12), lane(13), lane(14), lane(15)};
  return __builtin_shuffle(a, b, lanes);
}

template <int W>
inline Floats fold(Floats a, Floats b) {
  return runs<W, 0>(a, b) + runs<W, 1>(a, b);
}

}  // namespace simd_detail

// Lane i of the result is the sum of vectors[i]'s lanes, for 16 vectors; the same tree as sum_lanes.
inline Floats sum_each(const Floats* vectors) {
  using simd_detail::fold;
  Floats eight[8], four[4];
  for (int i = 0; i < 8; ++i) eight[i] = fold<8>(vectors[i], vectors[i + 8]);
  for (int i = 0; i < 4; ++i) four[i] = fold<4>(eight[i], eight[i + 4]);
  return fold<1>(fold<2>(four[0], four[2]), fold<2>(four[1], four[3]));
}

// Transposes a 16 x 16 matrix of 32-bit values in place; the values are only moved.
inline void transpose16(Floats* rows) {
  using simd_detail::runs;
  const auto stage = [rows](auto width) {
    constexpr int W = decltype(width)::value;
    for (int i = 0; i < kLanes; ++i) {
      if (i & W) continue;
      const Floats a = rows[i], b = rows[i + W];
      rows[i] = runs<W, 0>(a, b);
      rows[i + W] = runs<W, 1>(a, b);
    }
  };
  stage(std::integral_constant<int, 8>{});
  stage(std::integral_constant<int, 4>{});
  stage(std::integral_constant<int, 2>{});
  stage(std::integral_constant<int, 1>{});
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

// Stores the lanes of x where mask is set (all ones) one after another and returns how many there were.
// Writes up to 16 lanes behind `out`.
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
