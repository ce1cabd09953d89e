// C (+)= A B for the small float32 matrices of attention, inside one thread. Tiles of rows and columns stay
// in registers; any row or inner stride of A serves, so that a transposed A costs nothing.
#pragma once

#include <cstdint>
#include <cstring>

namespace cream {

// Columns of B and C are padded to a multiple of this many floats.
inline constexpr int64_t kGemmWidth = 16;
inline int64_t padded_width(int64_t columns) { return (columns + kGemmWidth - 1) / kGemmWidth * kGemmWidth; }

namespace small_gemm_detail {

#ifdef __AVX512F__
constexpr int kLanes = 16;
constexpr int kTileRows = 8;
constexpr int kTileVectors = 3;  // 24 accumulators of 32 registers
#else
constexpr int kLanes = 8;
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;  // 8 accumulators of 16 registers
#endif
using Vector = float __attribute__((vector_size(kLanes * sizeof(float))));

inline Vector load(const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline void store(float* to, Vector v) { std::memcpy(to, &v, sizeof v); }

template <int kRows, int kVectors>
inline void tile(int64_t inner, const float* a, int64_t a_row, int64_t a_inner, const float* b, int64_t b_row,
                 float* c, int64_t c_row, bool accumulate) {
  Vector sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sums[r][v] = accumulate ? load(c + r * c_row + v * kLanes) : Vector{};
  }
  for (int64_t k = 0; k < inner; ++k) {
    Vector row[kVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) row[v] = load(b + k * b_row + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const float x = a[r * a_row + k * a_inner];
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) sums[r][v] += x * row[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) store(c + r * c_row + v * kLanes, sums[r][v]);
  }
}

template <int kVectors, typename... Arguments>
inline void tile_rows(int64_t rows, Arguments... arguments) {
  switch (rows) {
    case 1:
      return tile<1, kVectors>(arguments...);
    case 2:
      return tile<2, kVectors>(arguments...);
    case 3:
      return tile<3, kVectors>(arguments...);
    case 4:
      return tile<4, kVectors>(arguments...);
#ifdef __AVX512F__
    case 5:
      return tile<5, kVectors>(arguments...);
    case 6:
      return tile<6, kVectors>(arguments...);
    case 7:
      return tile<7, kVectors>(arguments...);
    default:
      return tile<8, kVectors>(arguments...);
#else
    default:
      return;
#endif
  }
}

}  // namespace small_gemm_detail

// C [rows, columns] = A [rows, inner] B [inner, columns], added to C with `accumulate`. A's element (r, k) is
// a[r * a_row + k * a_inner]; B and C are row-major with row strides b_row and c_row; columns is a multiple
// of kGemmWidth (padding columns are computed like any other).
inline void small_gemm(int64_t rows, int64_t columns, int64_t inner, const float* a, int64_t a_row,
                       int64_t a_inner, const float* b, int64_t b_row, float* c, int64_t c_row,
                       bool accumulate) {
  using namespace small_gemm_detail;
  for (int64_t n = 0; n < columns;) {
    const int64_t vectors = (columns - n) / kLanes;
    const int64_t taken = vectors < kTileVectors ? vectors : kTileVectors;
    for (int64_t m = 0; m < rows; m += kTileRows) {
      const int64_t left = rows - m < kTileRows ? rows - m : kTileRows;
      const auto run = [&]<int kVectors>() {
        tile_rows<kVectors>(left, inner, a + m * a_row, a_row, a_inner, b + n, b_row, c + m * c_row + n,
                            c_row, accumulate);
      };
      if (taken == 3) {
        run.template operator()<3>();
      } else if (taken == 2) {
        run.template operator()<2>();
      } else {
        run.template operator()<1>();
      }
    }
    n += taken * kLanes;
  }
}

}  // namespace cream
