#include "ops/panel_products.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "ops/cpu_features.h"
#include "ops/dispatch.h"
#include "ops/simd.h"
#include "ops/vector_math.h"

namespace cream {

#ifdef __AVX512F__

namespace {

// The inner extent is counted in units of 32 bits: a float, or a pair of bfloat16 along K. A panel holds
// [units, kRows] of a or [units, kColumns] of b.
constexpr int64_t kRows = 14;  // 14 x 2 sums, 2 registers of b and 1 of a fill 31 of 32
constexpr int64_t kColumns = 2 * kLanes;
constexpr int64_t kMaxUnits = 1024;                 // of one pass over K
constexpr int64_t kRowBytes = int64_t{448} << 10;   // of a's panels at a time: they stay in a core's L2 cache
constexpr int64_t kColumnBytes = int64_t{8} << 20;  // of b's panels at a time: they stay in the L3 cache

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
__mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>((uint32_t{1} << std::clamp<int64_t>(count, 0, kLanes)) - 1);
}

// A factor: element (r, k) is data[r * row + k * depth], and one of the strides is 1.
template <typename T>
struct Factor {
  const T* data;
  int64_t row, depth, num_rows;
  static constexpr int64_t kPerUnit = sizeof(float) / sizeof(T);
};

// 16 units from p on, of which `size` elements are there; the rest is zero.
inline Floats load_units(const float* p, int64_t size) {
  return (Floats)_mm512_maskz_loadu_ps(first_lanes(size), p);
}
inline Floats load_units(const c10::BFloat16* p, int64_t size) {
  const auto present = static_cast<__mmask32>((uint64_t{1} << std::clamp<int64_t>(size, 0, 2 * kLanes)) - 1);
  return (Floats)_mm512_maskz_loadu_epi16(present, p);
}

// The units of 16 rows that lie side by side in memory, `lanes` of them there; of bfloat16 from rows k and
// k + 1 of memory (`next` null: zero).
inline Floats join_units(const float* p, const float*, __mmask16 lanes) {
  return (Floats)_mm512_maskz_loadu_ps(lanes, p);
}
inline Floats join_units(const c10::BFloat16* p, const c10::BFloat16* next, __mmask16 lanes) {
  const auto widen = [lanes](const c10::BFloat16* from) {
    return (Words)_mm512_maskz_cvtepu16_epi32(0xFFFF, _mm256_maskz_loadu_epi16(lanes, from));
  };
  const Words low = widen(p);
  return (Floats)(next == nullptr ? low : low | widen(next) << 16);
}

// Rows [first, first + kWidth) and columns [k, k + size) of a factor as a panel; rows that are not there are
// zero. Units are written in ascending order, 16 lanes at a time: what is too much of a narrow panel the next
// unit writes again, and behind the last one there is room.
template <int64_t kWidth, typename T>
void pack_panel(float* panel, const Factor<T>& from, int64_t first, int64_t k, int64_t size) {
  constexpr int64_t kPerUnit = Factor<T>::kPerUnit;
  const int64_t units = divide_up(size, kPerUnit);
  const T* data = from.data + first * from.row + k * from.depth;
  const int64_t present = std::min(kWidth, from.num_rows - first);
  if (from.depth == 1) {
    for (int64_t group = 0; group < kWidth; group += kLanes) {
      for (int64_t u = 0; u < units; u += kLanes) {
        Floats rows[kLanes] = {};
        const int64_t left = size - u * kPerUnit;
        for (int64_t r = 0; r < std::min(kLanes, present - group); ++r) {
          rows[r] = load_units(data + (group + r) * from.row + u * kPerUnit, left);
        }
        transpose16(rows);
        const int64_t count = std::min(kLanes, units - u);
        for (int64_t i = 0; i < count; ++i) store16(panel + (u + i) * kWidth + group, rows[i]);
      }
    }
    return;
  }
  for (int64_t u = 0; u < units; ++u) {
    const T* row = data + u * kPerUnit * from.depth;
    const T* next = u * kPerUnit + 1 < size ? row + from.depth : nullptr;
    for (int64_t group = 0; group < kWidth; group += kLanes) {
      const __mmask16 lanes = first_lanes(present - group);
      store16(panel + u * kWidth + group,
              join_units(row + group, next == nullptr ? nullptr : next + group, lanes));
    }
  }
}

template <typename T>
inline __m512 multiply_add(__m512 a, __m512 b, __m512 sum) {
#ifdef __AVX512BF16__
  if constexpr (sizeof(T) == 2) return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#endif
  return _mm512_fmadd_ps(a, b, sum);
}

// tile [kRows, kColumns] = panel a times panel b.
template <typename T>
void multiply(const float* a, const float* b, int64_t units, float* tile) {
  __m512 sums[kRows][2];
#pragma GCC unroll 14
  for (auto& row : sums) row[0] = row[1] = _mm512_setzero_ps();
  for (int64_t u = 0; u < units; ++u) {
    const __m512 first = _mm512_loadu_ps(b + u * kColumns);
    const __m512 second = _mm512_loadu_ps(b + u * kColumns + kLanes);
#pragma GCC unroll 14
    for (int64_t r = 0; r < kRows; ++r) {
      __m512 value = _mm512_set1_ps(a[u * kRows + r]);
      asm("" : "+v"(value));  // read once, not for each product
      sums[r][0] = multiply_add<T>(value, first, sums[r][0]);
      sums[r][1] = multiply_add<T>(value, second, sums[r][1]);
    }
  }
#pragma GCC unroll 14
  for (int64_t r = 0; r < kRows; ++r) {
    _mm512_storeu_ps(tile + r * kColumns, sums[r][0]);
    _mm512_storeu_ps(tile + r * kColumns + kLanes, sums[r][1]);
  }
}

// Writes (or adds) `rows` x `columns` of a tile to out, plus bias unless null.
template <typename Out, typename T>
void write(Out* out, int64_t stride, const float* tile, int64_t rows, int64_t columns, const T* bias,
           bool add) {
  for (int64_t r = 0; r < rows; ++r) {
    Out* to = out + r * stride;
    const float* from = tile + r * kColumns;
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) {
      Floats sum = load16(from + c);
      if (bias != nullptr) sum += load16(bias + c);
      if (add) sum += load16(to + c);
      store16(to + c, sum);
    }
    for (; c < columns; ++c) {
      float sum = from[c];
      if (bias != nullptr) sum += to_float(bias[c]);
      if (add) sum += to_float(to[c]);
      to[c] = from_float<Out>(sum);
    }
  }
}

template <typename T>
Factor<T> factor_of(const at::Tensor& t) {
  return {t.const_data_ptr<T>(), t.stride(0), t.stride(1), t.size(0)};
}

template <typename Out, typename T>
void product(Out* out, int64_t out_stride, const Factor<T>& a, const Factor<T>& b, int64_t depth,
             const T* bias, bool add) {
  constexpr int64_t kPerUnit = Factor<T>::kPerUnit;
  const int64_t m = a.num_rows, n = b.num_rows;
  const int64_t passes = std::max<int64_t>(1, divide_up(depth, kMaxUnits * kPerUnit));
  const int64_t most = divide_up(divide_up(depth, kPerUnit), passes);  // units of one pass
  const int64_t a_panel = most * kRows + kLanes, b_panel = most * kColumns;

  // Blocks of nearly equal size, one thread's work each.
  const int64_t row_panels = divide_up(m, kRows);
  const int64_t threads = at::get_num_threads();
  const int64_t wanted = std::max<int64_t>(1, kRowBytes / (a_panel * int64_t{sizeof(float)}));
  const int64_t blocks = std::min(row_panels, divide_up(divide_up(row_panels, wanted), threads) * threads);
  const int64_t block_panels = divide_up(row_panels, blocks);

  const int64_t column_panels = divide_up(n, kColumns);
  const int64_t chunk =
      std::min(column_panels, std::max<int64_t>(1, kColumnBytes / (b_panel * int64_t{sizeof(float)})));
  const at::Tensor packed_b = at::empty({chunk * b_panel}, at::kFloat);
  const at::Tensor packed_a = at::empty({threads, block_panels * a_panel}, at::kFloat);
  float* const b_panels = packed_b.data_ptr<float>();
  float* const a_memory = packed_a.data_ptr<float>();

  for (int64_t k = 0, pass = 0; pass < passes; ++pass) {
    const int64_t size = std::min(most * kPerUnit, depth - k);
    const int64_t units = divide_up(size, kPerUnit);
    for (int64_t first = 0; first < column_panels; first += chunk) {
      const int64_t count = std::min(chunk, column_panels - first);
      at::parallel_for(0, count, std::max<int64_t>(1, 16384 / (most * kColumns)),
                       [&](int64_t from, int64_t to) {
                         for (int64_t p = from; p < to; ++p) {
                           pack_panel<kColumns>(b_panels + p * b_panel, b, (first + p) * kColumns, k, size);
                         }
                       });
      at::parallel_for(0, blocks, 1, [&](int64_t from, int64_t to) {
        alignas(64) float tile[kRows * kColumns];
        float* a_panels = a_memory + at::get_thread_num() * block_panels * a_panel;
        for (int64_t block = from; block < to; ++block) {
          const int64_t begin = row_panels * block / blocks, end = row_panels * (block + 1) / blocks;
          for (int64_t p = begin; p < end; ++p) {
            pack_panel<kRows>(a_panels + (p - begin) * a_panel, a, p * kRows, k, size);
          }
          for (int64_t q = 0; q < count; ++q) {
            const int64_t column = (first + q) * kColumns;
            for (int64_t p = begin; p < end; ++p) {
              multiply<T>(a_panels + (p - begin) * a_panel, b_panels + q * b_panel, units, tile);
              write(out + p * kRows * out_stride + column, out_stride, tile, std::min(kRows, m - p * kRows),
                    std::min(kColumns, n - column), pass == 0 && bias != nullptr ? bias + column : nullptr,
                    add || pass > 0);
            }
          }
        }
      });
    }
    k += size;
  }
}

}  // namespace

bool has_panel_products(at::ScalarType dtype) {
  if (cpu::has_amx_bf16()) return false;
  return dtype == at::kFloat ? cpu::has_avx512() : dtype == at::kBFloat16 && cpu::has_avx512_bf16();
}

void panel_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias,
                   bool add) {
  const auto dense = [](const at::Tensor& t) {
    return t.stride(1) == 1 || t.stride(0) == 1 ? t : t.contiguous();
  };
  const at::Tensor left = dense(a), right = dense(b);
  TORCH_CHECK_VALUE(a.size(1) == b.size(1) && out.size(0) == a.size(0) && out.size(1) == b.size(0) &&
                        (out.size(1) == 1 || out.stride(1) == 1) && a.scalar_type() == b.scalar_type(),
                    "panel_product: expected [M, K], [N, K] -> [M, N], got ", a.sizes(), ", ", b.sizes(),
                    " -> ", out.sizes());
  if (out.numel() == 0) return;
  const int64_t depth = a.size(1);
  if (depth == 0) {
    if (!add && bias.defined()) out.copy_(bias.unsqueeze(0).expand_as(out));
    if (!add && !bias.defined()) out.zero_();
    return;
  }
  const bool is_rounded = out.scalar_type() != at::kFloat;
  if (is_rounded && depth > 2 * kMaxUnits) {  // several passes: rounded after the last
    const at::Tensor sum = at::empty({out.size(0), out.size(1)}, at::kFloat);
    panel_product(sum, left, right, bias, add);
    out.copy_(sum);
    return;
  }
  with_dtype(a.scalar_type(), "panel_product", [&](auto zero) {
    using T = decltype(zero);
    const T* offset = bias.defined() ? bias.const_data_ptr<T>() : nullptr;
    const auto l = factor_of<T>(left), r = factor_of<T>(right);
    if (is_rounded) {
      product(out.data_ptr<T>(), out.stride(0), l, r, depth, offset, add);
    } else {
      product(out.data_ptr<float>(), out.stride(0), l, r, depth, offset, add);
    }
  });
}

#else

bool has_panel_products(at::ScalarType) { return false; }

void panel_product(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, bool) {
  TORCH_CHECK(false, "panel_product: this build is not for AVX-512");
}

#endif

}  // namespace cream
