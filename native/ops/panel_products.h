// Matrix products on CPUs with AVX-512 but without matrix units: both factors are copied into panels that the
// innermost loop reads front to back; whatever lies transposed or apart costs no copy beyond that.
#pragma once

#include <ATen/core/Tensor.h>

namespace cream {

// True where this process may use them: float32 with AVX-512, bfloat16 with its dot products of pairs (for
// these subnormal operands count as zero). Never with AMX, whose libraries are faster.
bool has_panel_products(at::ScalarType dtype);

//   a [M, K], b [N, K]: float32 or bfloat16, one dtype; views whose rows or columns are contiguous
//   bias [N] or undefined: of that dtype, contiguous
//   out [M, N] float32 or of that dtype, contiguous columns, row stride >= N
// out = a b^T + bias, or with `add` (float32 alone, no bias) out += a b^T. Sums are float32 and are rounded
// once. An element's bits depend on its row, its column and K alone.
void panel_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b,
                   const at::Tensor& bias = {}, bool add = false);

}  // namespace cream
