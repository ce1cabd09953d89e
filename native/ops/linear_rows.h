// y = x w^T (+ b) for the few rows of a decode step, where reading w is what costs.
#pragma once

#include <ATen/core/Tensor.h>

namespace cream {

//   x [R, K], w [N, K], bias [N] or undefined: float32 or bfloat16, one dtype; out [R, N] of that dtype or
//   float32.
// All contiguous. Sums in float32, rounded once to the type of out. On the CPU by kernels in which a row's
// result does not depend on the other rows, but for float32 without AVX-512: that and GPUs use ops/linear.h.
void linear_rows(at::Tensor& out, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias = {});

}  // namespace cream
