// Products of bfloat16 matrices with float32 sums by oneDNN's micro-kernels, which LibTorch exports: for CPUs
// with instructions for bfloat16 (AVX-512's dot products, AMX). The right operand [K, N] has pairs along K
// side by side: [K / 2, N, 2].
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/BFloat16.h>

#include <cstdint>

namespace cream {

// True where this process may use them and LibTorch has them; tried once on a small product.
bool has_bfloat16_tiles();

// The micro-kernels are generated for each shape: sizes are rounded up so that there are few.
inline constexpr int64_t kRowAlignment = 64;
inline int64_t align(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// rows [count, width], `stride` elements apart, as right operand [K = padded, N = width]; missing rows are
// zero. padded is even.
void pack_rows(const c10::BFloat16* rows, int64_t count, int64_t width, int64_t stride, int64_t padded,
               c10::BFloat16* out);

// dw [N, K] float32, contiguous, += dy [R, N]^T x [R, K], both bfloat16 with inner stride 1.
void tiled_backward_weight(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& dw);

}  // namespace cream
