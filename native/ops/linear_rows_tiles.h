// How the vectorised kernels of ops/linear_rows.h go over a product: every thread takes weight rows, kWeights
// at a time, and all input rows with them.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "ops/simd.h"
#include "ops/vector_math.h"

namespace cream {

// Adds up the lanes of R x N sums, each in a fixed order, and writes them with the bias to kernel.out [..,
// n].
template <int N, int R, typename Kernel>
void write_sums(const Kernel& kernel, const Floats* sums, int64_t row, int64_t column) {
  float results[2 * kLanes];
  store16(results, sum_each(sums));
  if constexpr (N * R > kLanes) store16(results + kLanes, sum_each(sums + kLanes));
  using Out = std::remove_pointer_t<decltype(kernel.out)>;
  for (int r = 0; r < R; ++r) {
    for (int n = 0; n < N; ++n) {
      const float bias = kernel.bias != nullptr ? to_float(kernel.bias[column + n]) : 0.0f;
      kernel.out[(row + r) * kernel.n + column + n] = from_float<Out>(results[r * N + n] + bias);
    }
  }
}

// Input rows [begin, end) times N weight rows from `column` on. `ahead` is a weight row that is read later.
template <int N, int R, typename Kernel>
void run_tile(const Kernel& kernel, int64_t begin, int64_t end, int64_t column, int64_t ahead) {
  if constexpr (R > 1) {
    if (end - begin < R) return run_tile<N, R - 1>(kernel, begin, end, column, ahead);
  }
  kernel.template tile<N, R>(begin, column, ahead);
}

// All r input rows times N weight rows, in stretches of nearly equal size.
template <int N, int kMaxRows, typename Kernel>
void run_rows(const Kernel& kernel, int64_t r, int64_t n, int64_t column) {
  const int64_t stretches = (r + kMaxRows - 1) / kMaxRows;
  const int64_t next = std::min(column + N, n - N);
  for (int64_t s = 0; s < stretches; ++s) {
    run_tile<N, kMaxRows>(kernel, r * s / stretches, r * (s + 1) / stretches, column, next + s % N);
  }
}

// Calls kernel.tile<N, R>(row, column, ahead) for tiles of at most kWeights weight rows (of n, k long) and
// kMaxRows input rows (of r).
template <int kWeights, int kMaxRows, typename Kernel>
void run_tiles(const Kernel& kernel, int64_t r, int64_t n, int64_t k) {
  const int64_t tiles = n / kWeights;
  const int64_t rest = n - tiles * kWeights;
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, kWeights * k * r));
  at::parallel_for(0, tiles + rest, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (t < tiles) {
        run_rows<kWeights, kMaxRows>(kernel, r, n, t * kWeights);
      } else {
        run_rows<1, kMaxRows>(kernel, r, n, tiles * kWeights + (t - tiles));
      }
    }
  });
}

}  // namespace cream
