// Bfloat16 by dot products of pairs (AVX-512): tiles of weight rows times input rows, vectorised along K,
// both read in place; every sum keeps its own lanes to the end, so its order is the same whatever the tile.
#include "ops/cpu_features.h"
#include "ops/linear_rows_kernels.h"
#include "ops/linear_rows_tiles.h"
#include "ops/simd.h"

namespace cream {

#ifdef __AVX512BF16__

namespace {

using Half = c10::BFloat16;

constexpr int64_t kDepth = 32;  // elements of a register
constexpr int kWeightRows = 4;
constexpr int kMaxRows = 6;  // 4 x 6 sums, 4 weights and 1 input fill the 32 registers

__m512bh load_pairs(const Half* p) { return (__m512bh)_mm512_loadu_si512(p); }
__m512bh load_pairs(const Half* p, __mmask32 present) {
  return (__m512bh)_mm512_maskz_loadu_epi16(present, p);
}

template <typename Out>
struct Kernel {
  Out* out;
  const Half *x, *w, *bias;
  int64_t n, k;

  // Rows [row, row + R) times weight rows [column, column + N). One cache line of weight row `ahead` is
  // fetched per step of the loop.
  template <int N, int R>
  void tile(int64_t row, int64_t column, int64_t ahead) const {
    __m512 sums[N * R > kLanes ? 2 * kLanes : kLanes];
#pragma GCC unroll 32
    for (auto& sum : sums) sum = _mm512_setzero_ps();
    const Half* rows = x + row * k;
    const Half* weights = w + column * k;
    const Half* next = w + ahead * k;
    const auto step = [&](int64_t i, auto... present) __attribute__((always_inline)) {
      __m512bh factors[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) factors[n] = load_pairs(weights + n * k + i, present...);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const __m512bh value = load_pairs(rows + r * k + i, present...);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sums[r * N + n] = _mm512_dpbf16_ps(sums[r * N + n], value, factors[n]);
      }
    };
    const int64_t whole = k / kDepth * kDepth;
    for (int64_t i = 0; i < whole; i += kDepth) {
      __builtin_prefetch(next + i, 0, 2);
      step(i);
    }
    if (whole < k) step(whole, static_cast<__mmask32>((uint32_t{1} << (k - whole)) - 1));
    write_sums<N, R>(*this, reinterpret_cast<const Floats*>(sums), row, column);
  }
};

}  // namespace

bool has_linear_rows_dot(int64_t n, int64_t k) { return cpu::has_avx512_bf16() && n > 0 && k > 0; }

template <typename Out>
void linear_rows_dot(Out* out, const Half* x, const Half* w, const Half* bias, int64_t r, int64_t n,
                     int64_t k) {
  run_tiles<kWeightRows, kMaxRows>(Kernel<Out>{out, x, w, bias, n, k}, r, n, k);
}

#else

bool has_linear_rows_dot(int64_t, int64_t) { return false; }

template <typename Out>
void linear_rows_dot(Out*, const c10::BFloat16*, const c10::BFloat16*, const c10::BFloat16*, int64_t, int64_t,
                     int64_t) {}

#endif

template void linear_rows_dot(float*, const c10::BFloat16*, const c10::BFloat16*, const c10::BFloat16*,
                              int64_t, int64_t, int64_t);
template void linear_rows_dot(c10::BFloat16*, const c10::BFloat16*, const c10::BFloat16*,
                              const c10::BFloat16*, int64_t, int64_t, int64_t);

}  // namespace cream
