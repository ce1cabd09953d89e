// y = x w^T (+ b) for the rows of a decode step.
#pragma once

#include <ATen/core/Tensor.h>

namespace cream {

//   x [R, K], w [N, K], bias [N] or undefined: float32 or bfloat16, one dtype; out [R, N] of that dtype or
//   float32.
// All contiguous. Sums in float32, rounded once to the type of out. On the CPU a row's bits do not depend on
// the other rows, nor on how many there are; GPUs use ops/linear.h, whose libraries promise no such thing.
void linear_rows(at::Tensor& out, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias = {});

}  // namespace cream
