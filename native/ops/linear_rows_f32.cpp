// Tiles of weight rows times input rows in float32, vectorised along K; every sum keeps its own lanes to the
// end, so its order is the same whatever the tile. Bfloat16 weights are widened in registers.
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <vector>

#include "ops/cpu_features.h"
#include "ops/linear_rows_kernels.h"
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

// W and Out are float or c10::BFloat16.
template <typename W, typename Out>
struct Operands {
  Out* out;
  const float* x;
  const W *w, *bias;
  int64_t n, k;
};

template <typename T>
Floats load_tail(const T* p, int64_t size) {
  T values[kLanes] = {};
  std::copy_n(p, size, values);
  return load16(values);
}

// Rows [row, row + R) times weight rows [column, column + N). `ahead` is the weight memory of a later tile:
// one cache line of it is fetched per step of the loop.
template <int N, int R, typename W, typename Out>
void tile(const Operands<W, Out>& a, int64_t row, int64_t column, const W* ahead) {
  std::array<Floats, 32> sums{};
  const float* x = a.x + row * a.k;
  const W* w = a.w + column * a.k;
  const int64_t whole = a.k / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    __builtin_prefetch(ahead + i, 0, 2);
    Floats weights[N];
    for (int n = 0; n < N; ++n) weights[n] = load16(w + n * a.k + i);
    for (int r = 0; r < R; ++r) {
      const Floats value = load16(x + r * a.k + i);
      for (int n = 0; n < N; ++n) sums[r * N + n] += value * weights[n];
    }
  }
  if (whole < a.k) {
    for (int r = 0; r < R; ++r) {
      const Floats value = load_tail(x + r * a.k + whole, a.k - whole);
      for (int n = 0; n < N; ++n) sums[r * N + n] += value * load_tail(w + n * a.k + whole, a.k - whole);
    }
  }
  float results[32];
  store16(results, sum_each(sums.data()));
  if constexpr (N * R > kLanes) store16(results + kLanes, sum_each(sums.data() + kLanes));
  for (int r = 0; r < R; ++r) {
    for (int n = 0; n < N; ++n) {
      const float bias = a.bias != nullptr ? to_float(a.bias[column + n]) : 0.0f;
      a.out[(row + r) * a.n + column + n] = from_float<Out>(results[r * N + n] + bias);
    }
  }
}

template <int N, typename W, typename Out>
void tile_of(int64_t rows, const Operands<W, Out>& a, int64_t row, int64_t column, const W* ahead) {
  switch (rows) {
    case 6:
      return tile<N, 6>(a, row, column, ahead);
    case 5:
      return tile<N, 5>(a, row, column, ahead);
    case 4:
      return tile<N, 4>(a, row, column, ahead);
    case 3:
      return tile<N, 3>(a, row, column, ahead);
    case 2:
      return tile<N, 2>(a, row, column, ahead);
    default:
      return tile<N, 1>(a, row, column, ahead);
  }
}

// All rows times weight rows [column, column + N), in stretches of nearly equal size.
template <int N, typename W, typename Out>
void all_rows(const Operands<W, Out>& a, int64_t num_rows, int64_t column) {
  const int64_t stretches = (num_rows + kMaxRows - 1) / kMaxRows;
  const W* next = a.w + std::min(column + N, a.n - N) * a.k;
  for (int64_t s = 0; s < stretches; ++s) {
    const int64_t begin = num_rows * s / stretches;
    const int64_t end = num_rows * (s + 1) / stretches;
    tile_of<N>(end - begin, a, begin, column, next + s % N * a.k);
  }
}

template <typename W, typename Out>
void multiply(const Operands<W, Out>& operands, int64_t r) {
  const int64_t n = operands.n, k = operands.k;
  const int64_t tiles = n / kWeightRows;
  const int64_t rest = n - tiles * kWeightRows;
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, kWeightRows * k * r));
  at::parallel_for(0, tiles + rest, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (t < tiles) {
        all_rows<kWeightRows>(operands, r, t * kWeightRows);
      } else {
        all_rows<1>(operands, r, tiles * kWeightRows + (t - tiles));
      }
    }
  });
}

}  // namespace

bool has_linear_rows_f32(int64_t, int64_t) {
  return cpu::has_avx512();  // narrower machines have too few registers for these tiles
}

void linear_rows_f32(float* out, const float* x, const float* w, const float* bias, int64_t r, int64_t n,
                     int64_t k) {
  multiply(Operands<float, float>{out, x, w, bias, n, k}, r);
}

template <typename Out>
void linear_rows_widened(Out* out, const c10::BFloat16* x, const c10::BFloat16* w, const c10::BFloat16* bias,
                         int64_t r, int64_t n, int64_t k) {
  std::vector<float> rows(static_cast<size_t>(r * k));
  std::transform(x, x + r * k, rows.begin(), [](c10::BFloat16 value) { return to_float(value); });
  multiply(Operands<c10::BFloat16, Out>{out, rows.data(), w, bias, n, k}, r);
}

template void linear_rows_widened(float*, const c10::BFloat16*, const c10::BFloat16*, const c10::BFloat16*,
                                  int64_t, int64_t, int64_t);
template void linear_rows_widened(c10::BFloat16*, const c10::BFloat16*, const c10::BFloat16*,
                                  const c10::BFloat16*, int64_t, int64_t, int64_t);

}  // namespace cream
