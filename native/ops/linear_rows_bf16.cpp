// Bfloat16 by AMX tiles: weights are the left operand, read in place as [16 rows, 32 columns], so they need
// no second copy in another layout; the few input rows are rearranged instead.
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "ops/cpu_features.h"
#include "ops/linear_rows_kernels.h"
#include "ops/simd.h"
#include "ops/vector_math.h"

#ifdef __AMX_BF16__
#include <immintrin.h>
#endif

namespace cream {

#ifdef __AMX_BF16__

namespace {

using Half = c10::BFloat16;

constexpr int64_t kTile = 16;            // rows of a tile
constexpr int64_t kDepth = 32;           // columns of a weight tile
constexpr int64_t kColumns = 2 * kTile;  // weight rows per task
constexpr int64_t kTileSize = kTile * kDepth;

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {};
  uint8_t rows[16] = {};

  TileConfig() {
    for (int i = 0; i < 8; ++i) {
      bytes_per_row[i] = 64;
      rows[i] = kTile;
    }
  }
};

// Input rows [first, first + 16) as right operands: for each 32 columns a tile [16 pairs of columns, 16
// rows]. Missing rows are zero.
void arrange(const Half* x, int64_t first, int64_t num_rows, int64_t k, Half* tiles) {
  const int64_t present = std::min(kTile, num_rows - first);
  for (int64_t depth = 0; depth < k; depth += kDepth) {
    Floats rows[kTile] = {};  // pairs of bfloat16, moved as one
    for (int64_t r = 0; r < present; ++r) std::memcpy(&rows[r], x + (first + r) * k + depth, sizeof rows[r]);
    transpose16(rows);
    std::memcpy(tiles + depth / kDepth * kTileSize, rows, sizeof rows);
  }
}

// sums[2 i + j] [16 weight rows, 16 input rows] = weight tile i times input tile j, over all of K. `ahead` is
// weight memory that will be read next: fetched along the way unless null.
template <bool kTwo>
void multiply(const Half* w, int64_t k, const Half* first, const Half* second, const Half* ahead,
              float (*sums)[kTile * kTile]) {
  _tile_zero(0);
  _tile_zero(2);
  if constexpr (kTwo) {
    _tile_zero(1);
    _tile_zero(3);
  }
  const int64_t stride = k * static_cast<int64_t>(sizeof(Half));
  for (int64_t depth = 0; depth < k; depth += kDepth) {
    if (ahead != nullptr) {
      for (int64_t i = 0; i < kColumns; ++i) _mm_prefetch(ahead + depth * kColumns + i * kDepth, _MM_HINT_T1);
    }
    _tile_loadd(6, first + depth * kTile, 64);
    _tile_loadd(4, w + depth, stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, w + kTile * k + depth, stride);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (kTwo) {
      _tile_loadd(7, second + depth * kTile, 64);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums[0], 64);
  _tile_stored(2, sums[2], 64);
  if constexpr (kTwo) {
    _tile_stored(1, sums[1], 64);
    _tile_stored(3, sums[3], 64);
  }
}

// Writes a tile of sums, transposed, to columns [column, column + 16) of `present` rows of out; columns
// before `fresh` belong to the previous task.
template <typename Out>
void write(const float* sums, const Half* bias, Out* out, int64_t n, int64_t column, int64_t fresh,
           int64_t present) {
  Floats rows[kTile];
  std::memcpy(rows, sums, sizeof rows);
  transpose16(rows);
  const Floats offset = bias != nullptr ? load16(bias + column) : Floats{};
  for (int64_t r = 0; r < present; ++r) {
    if (column >= fresh) {
      store16(out + r * n + column, rows[r] + offset);
    } else {
      Out values[kTile];
      store16(values, rows[r] + offset);
      for (int64_t i = fresh - column; i < kTile; ++i) out[r * n + column + i] = values[i];
    }
  }
}

}  // namespace

bool has_linear_rows_bf16(int64_t n, int64_t k) {
  return cpu::has_amx_bf16() && n >= kColumns && k >= kDepth && k % kDepth == 0;
}

template <typename Out>
void linear_rows_bf16(Out* out, const Half* x, const Half* w, const Half* bias, int64_t r, int64_t n,
                      int64_t k) {
  const int64_t row_tiles = (r + kTile - 1) / kTile;
  std::vector<Half> arranged(row_tiles * kTile * k);
  at::parallel_for(0, row_tiles, std::max<int64_t>(1, 65536 / (kTile * k)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) arrange(x, t * kTile, r, k, arranged.data() + t * kTile * k);
  });

  const int64_t tasks = (n + kColumns - 1) / kColumns;
  const int64_t grain = std::max<int64_t>(1, 262144 / (kColumns * k));
  at::parallel_for(0, tasks, grain, [&](int64_t begin, int64_t end) {
    const TileConfig config;
    _tile_loadconfig(&config);
    alignas(64) float sums[4][kTile * kTile];
    for (int64_t t = begin; t < end; ++t) {
      const int64_t fresh = t * kColumns;
      const int64_t column = std::min(fresh, n - kColumns);  // the last task reaches back to be whole
      const Half* ahead = column + 2 * kColumns <= n ? w + (column + kColumns) * k : nullptr;
      for (int64_t tile = 0; tile < row_tiles; tile += 2) {
        const Half* first = arranged.data() + tile * kTile * k;
        const bool two = tile + 1 < row_tiles;
        if (two) {
          multiply<true>(w + column * k, k, first, first + kTile * k, tile == 0 ? ahead : nullptr, sums);
        } else {
          multiply<false>(w + column * k, k, first, nullptr, tile == 0 ? ahead : nullptr, sums);
        }
        for (int64_t j = 0; j < (two ? 2 : 1); ++j) {
          const int64_t row = (tile + j) * kTile;
          const int64_t present = std::min(kTile, r - row);
          for (int64_t i = 0; i < 2; ++i) {
            write(sums[2 * i + j], bias, out + row * n, n, column + i * kTile, fresh, present);
          }
        }
      }
    }
    _tile_release();
  });
}

#else

bool has_linear_rows_bf16(int64_t, int64_t) { return false; }

template <typename Out>
void linear_rows_bf16(Out*, const c10::BFloat16*, const c10::BFloat16*, const c10::BFloat16*, int64_t,
                      int64_t, int64_t) {}

#endif

template void linear_rows_bf16(float*, const c10::BFloat16*, const c10::BFloat16*, const c10::BFloat16*,
                               int64_t, int64_t, int64_t);
template void linear_rows_bf16(c10::BFloat16*, const c10::BFloat16*, const c10::BFloat16*,
                               const c10::BFloat16*, int64_t, int64_t, int64_t);

}  // namespace cream
