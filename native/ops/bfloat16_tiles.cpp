#include "ops/bfloat16_tiles.h"

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <vector>

#include "ops/cpu_features.h"

namespace cream {

namespace {

using c10::BFloat16;
namespace blas = at::native::cpublas;

// Two rows [width] side by side: one pair of K. A missing second row is zero.
void interleave(const BFloat16* first, const BFloat16* second, int64_t width, uint32_t* out) {
  const auto* low = reinterpret_cast<const uint16_t*>(first);
  const auto* high = reinterpret_cast<const uint16_t*>(second);
  if (high == nullptr) {
    for (int64_t c = 0; c < width; ++c) out[c] = low[c];
    return;
  }
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) out[c] = low[c] | static_cast<uint32_t>(high[c]) << 16;
}

// Row i of [16, 16] times [16, 16]: (i + 1) times the sum of k over 16 columns k, which bfloat16 holds
// exactly.
bool multiplies_small_matrices() {
  constexpr int64_t kSize = 16;
  BFloat16 a[kSize * kSize], b[kSize * kSize], packed[kSize * kSize];
  float c[kSize * kSize] = {};
  for (int64_t i = 0; i < kSize * kSize; ++i) {
    a[i] = static_cast<float>(i / kSize + 1);
    b[i] = static_cast<float>(i / kSize + i % kSize);
  }
  pack_rows(b, kSize, kSize, kSize, kSize, packed);
  try {
    blas::brgemm(kSize, kSize, kSize, kSize, kSize, kSize, false, a, packed, c);
    blas::brgemm_release();
  } catch (const std::exception&) {
    return false;  // a LibTorch without these kernels
  }
  for (int64_t i = 0; i < kSize * kSize; ++i) {
    const auto sum = static_cast<float>(kSize * (kSize - 1) / 2 + kSize * (i % kSize));
    if (c[i] != static_cast<float>(i / kSize + 1) * sum) return false;
  }
  return true;
}

// Columns [first, first + count) of rows [begin, end) of dy, transposed: out [count, padded].
void transpose(const BFloat16* dy, int64_t stride, int64_t begin, int64_t end, int64_t first, int64_t count,
               int64_t padded, BFloat16* out) {
  const auto* from = reinterpret_cast<const uint16_t*>(dy);
  auto* to = reinterpret_cast<uint16_t*>(out);
  constexpr int64_t kBlock = 32;
  for (int64_t r0 = 0; r0 < padded; r0 += kBlock) {
    for (int64_t c = 0; c < count; ++c) {
      for (int64_t r = r0; r < r0 + kBlock; ++r)
        to[c * padded + r] = begin + r < end ? from[(begin + r) * stride + first + c] : 0;
    }
  }
}

}  // namespace

bool has_bfloat16_tiles() {
  static const bool has = cpu::has_avx512_bf16() && multiplies_small_matrices();
  return has;
}

void pack_rows(const BFloat16* rows, int64_t count, int64_t width, int64_t stride, int64_t padded,
               BFloat16* out) {
  auto* to = reinterpret_cast<uint32_t*>(out);
  for (int64_t r = 0; r < padded; r += 2) {
    if (r >= count) {
      std::fill_n(to + r / 2 * width, width, 0);
    } else {
      interleave(rows + r * stride, r + 1 < count ? rows + (r + 1) * stride : nullptr, width,
                 to + r / 2 * width);
    }
  }
}

void tiled_backward_weight(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& dw) {
  constexpr int64_t kChunk = 512;  // rows whose sum one product takes
  constexpr int64_t kHeight = 64;  // rows of dw in a task
  constexpr int64_t kWidth = 512;  // columns of dw in a product: its right operand is 512 KiB
  const int64_t rows = dy.size(0), n = dy.size(1), width = x.size(1);
  const auto* from = dy.const_data_ptr<BFloat16>();
  const auto* inputs = x.const_data_ptr<BFloat16>();
  float* sums = dw.data_ptr<float>();

  std::vector<BFloat16> packed(static_cast<size_t>(align(std::min(rows, kChunk), kRowAlignment) * width));
  for (int64_t begin = 0; begin < rows; begin += kChunk) {
    const int64_t end = std::min(rows, begin + kChunk);
    const int64_t padded = align(end - begin, kRowAlignment);
    at::parallel_for(0, padded / kRowAlignment, 1, [&](int64_t first, int64_t last) {
      const int64_t row = begin + first * kRowAlignment;
      pack_rows(inputs + row * x.stride(0),
                std::max<int64_t>(0, std::min(end, begin + last * kRowAlignment) - row), width, x.stride(0),
                (last - first) * kRowAlignment, packed.data() + first * kRowAlignment * width);
    });
    at::parallel_for(0, (n + kHeight - 1) / kHeight, 1, [&](int64_t first, int64_t last) {
      std::vector<BFloat16> transposed(static_cast<size_t>(kHeight * padded));
      for (int64_t t = first; t < last; ++t) {
        const int64_t row = t * kHeight;
        const int64_t count = std::min(kHeight, n - row);
        transpose(from, dy.stride(0), begin, end, row, count, padded, transposed.data());
        for (int64_t column = 0; column < width; column += kWidth) {
          blas::brgemm(count, std::min(kWidth, width - column), padded, padded, width, width, true,
                       transposed.data(), packed.data() + 2 * column, sums + row * width + column);
        }
      }
      blas::brgemm_release();
    });
  }
}

}  // namespace cream
