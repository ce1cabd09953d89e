// Float32: tiles of weight rows times input rows, vectorised along K; every sum keeps its own lanes to the
// end, so its order is the same whatever the tile.
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>

#include "ops/cpu_features.h"
#include "ops/linear_rows_kernels.h"
#include "ops/simd.h"

namespace cream {

namespace {

constexpr int kWeightRows = 4;
constexpr int kMaxRows = 6;  // 4 x 6 sums, 4 weights and 1 input fill the 32 registers of AVX-512

struct Operands {
  float* out;
  const float *x, *w, *bias;
  int64_t n, k;
};

inline Floats load_tail(const float* p, int64_t size) {
  Floats v{};
  std::memcpy(&v, p, static_cast<size_t>(size) * sizeof(float));
  return v;
}

// Rows [row, row + R) times weight rows [column, column + N). `ahead` is the weight memory of a later tile:
// one cache line of it is fetched per step of the loop.
template <int N, int R>
void tile(const Operands& a, int64_t row, int64_t column, const float* ahead) {
  std::array<Floats, 32> sums{};
  const float* x = a.x + row * a.k;
  const float* w = a.w + column * a.k;
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
      const float bias = a.bias != nullptr ? a.bias[column + n] : 0.0f;
      a.out[(row + r) * a.n + column + n] = results[r * N + n] + bias;
    }
  }
}

template <int N>
void tile_of(int64_t rows, const Operands& a, int64_t row, int64_t column, const float* ahead) {
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
template <int N>
void all_rows(const Operands& a, int64_t num_rows, int64_t column) {
  const int64_t stretches = (num_rows + kMaxRows - 1) / kMaxRows;
  const float* next = a.w + std::min(column + N, a.n - N) * a.k;
  for (int64_t s = 0; s < stretches; ++s) {
    const int64_t begin = num_rows * s / stretches;
    const int64_t end = num_rows * (s + 1) / stretches;
    tile_of<N>(end - begin, a, begin, column, next + s % N * a.k);
  }
}

}  // namespace

bool has_linear_rows_f32(int64_t, int64_t) {
  return cpu::has_avx512();  // narrower machines have too few registers for these tiles
}

void linear_rows_f32(float* out, const float* x, const float* w, const float* bias, int64_t r, int64_t n,
                     int64_t k) {
  const Operands operands{out, x, w, bias, n, k};
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

}  // namespace cream
