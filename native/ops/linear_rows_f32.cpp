// Tiles of weight rows times input rows in float32, vectorised along K; every sum keeps its own lanes to the
// end, so its order is the same whatever the tile. Bfloat16 weights are widened in registers.
#include <algorithm>
#include <array>
#include <vector>

#include "ops/linear_rows_kernels.h"
#include "ops/linear_rows_tiles.h"
#include "ops/simd.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

#ifdef __AVX512F__
constexpr int kWeightRows = 4;
constexpr int kMaxRows = 6;  // 4 x 6 sums, 4 weights and 1 input fill the 32 registers of AVX-512
#else
constexpr int kWeightRows = 2;
constexpr int kMaxRows = 2;  // twice as many registers of half the width: 8 for sums, 4 for weights, 2
#endif

// The compiler must not see through it: it would multiply the few elements in another way, with other bits, in
// a tile of one shape than in a tile of another.
template <typename T>
Floats load_tail(const T* p, int64_t size) {
  T values[kLanes] = {};
  std::copy_n(p, size, values);
  Floats tail = load16(values);
  asm("" : "+m"(tail));
  return tail;
}

// Keeps the compiler from reading the same memory again for each multiply-add.
inline Floats in_register(Floats v) {
#ifdef __AVX512F__
  asm("" : "+v"(v));
#endif
  return v;
}

// W and Out are float or c10::BFloat16.
template <typename W, typename Out>
struct Kernel {
  Out* out;
  const float* x;
  const W *w, *bias;
  int64_t n, k;

  // Rows [row, row + R) times weight rows [column, column + N). One cache line of weight row `ahead` is
  // fetched per step of the loop.
  template <int N, int R>
  void tile(int64_t row, int64_t column, int64_t ahead) const {
    std::array<Floats, 32> sums{};
    const float* rows = x + row * k;
    const W* weights = w + column * k;
    const W* next = w + ahead * k;
    const int64_t whole = k / kLanes * kLanes;
    for (int64_t i = 0; i < whole; i += kLanes) {
      __builtin_prefetch(next + i, 0, 2);
      Floats factors[N];
      for (int n = 0; n < N; ++n) factors[n] = load16(weights + n * k + i);
      for (int r = 0; r < R; ++r) {
        const Floats value = in_register(load16(rows + r * k + i));
        for (int n = 0; n < N; ++n) sums[r * N + n] += value * factors[n];
      }
    }
    if (whole < k) {
      for (int r = 0; r < R; ++r) {
        const Floats value = load_tail(rows + r * k + whole, k - whole);
        for (int n = 0; n < N; ++n) sums[r * N + n] += value * load_tail(weights + n * k + whole, k - whole);
      }
    }
    write_sums<N, R>(*this, sums.data(), row, column);
  }
};

}  // namespace

void linear_rows_f32(float* out, const float* x, const float* w, const float* bias, int64_t r, int64_t n,
                     int64_t k) {
  run_tiles<kWeightRows, kMaxRows>(Kernel<float, float>{out, x, w, bias, n, k}, r, n, k);
}

template <typename Out>
void linear_rows_widened(Out* out, const c10::BFloat16* x, const c10::BFloat16* w, const c10::BFloat16* bias,
                         int64_t r, int64_t n, int64_t k) {
  std::vector<float> rows(static_cast<size_t>(r * k));
  std::transform(x, x + r * k, rows.begin(), [](c10::BFloat16 value) { return to_float(value); });
  run_tiles<kWeightRows, kMaxRows>(Kernel<c10::BFloat16, Out>{out, rows.data(), w, bias, n, k}, r, n, k);
}

template void linear_rows_widened(float*, const c10::BFloat16*, const c10::BFloat16*, const c10::BFloat16*,
                                  int64_t, int64_t, int64_t);
template void linear_rows_widened(c10::BFloat16*, const c10::BFloat16*, const c10::BFloat16*,
                                  const c10::BFloat16*, int64_t, int64_t, int64_t);

}  // namespace cream
