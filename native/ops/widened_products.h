// Products of bfloat16 matrices in float32: operands are widened block by block, which loses nothing, and
// multiplied by ops/float_products.h. For results that must stay float32, and for CPUs without instructions
// for bfloat16, where LibTorch's own products are up to 57 times slower than this.
#pragma once

#include <ATen/core/Tensor.h>

namespace cream {

// Each operand is float32 or bfloat16, on the CPU. Results are rounded once, to the type that is named.

// out [R, N] = x [R, K] w [N, K]^T (+ bias [N]); out is float32 or bfloat16 and may be a view with row stride
// >= N.
void widened_linear_out(const at::Tensor& out, const at::Tensor& x, const at::Tensor& w,
                        const at::Tensor& bias);

// dy [R, N] w [N, K] -> [R, K] of dy's type.
at::Tensor widened_backward_input(const at::Tensor& dy, const at::Tensor& w);

// dw [N, K] float32 += dy [R, N]^T x [R, K].
void widened_backward_weight(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& dw);

}  // namespace cream
