// The kernels behind ops/linear_rows.h. Raw pointers, row-major and contiguous.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace cream {

// True where this build and this machine have the kernel and it takes the shape.
bool has_linear_rows_bf16(int64_t n, int64_t k);

void linear_rows_f32(float* out, const float* x, const float* w, const float* bias, int64_t r, int64_t n,
                     int64_t k);

// Out is float or c10::BFloat16.
template <typename Out>
void linear_rows_bf16(Out* out, const c10::BFloat16* x, const c10::BFloat16* w, const c10::BFloat16* bias,
                      int64_t r, int64_t n, int64_t k);

// The same on any CPU, as products of float32.
template <typename Out>
void linear_rows_widened(Out* out, const c10::BFloat16* x, const c10::BFloat16* w, const c10::BFloat16* bias,
                         int64_t r, int64_t n, int64_t k);

// The same by dot products of pairs (AVX-512 with bfloat16), for any shape. Subnormal operands count as zero.
bool has_linear_rows_dot(int64_t n, int64_t k);
template <typename Out>
void linear_rows_dot(Out* out, const c10::BFloat16* x, const c10::BFloat16* w, const c10::BFloat16* bias,
                     int64_t r, int64_t n, int64_t k);

}  // namespace cream
