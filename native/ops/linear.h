// y = x w^T (+ b), and its gradients.
#pragma once

#include <ATen/core/Tensor.h>

namespace cream {

// Float32 or bfloat16. Sums are float32 on every path and are rounded once, to the type of the result; on the
// CPU the operands of a product may be of either type.

//   x [R, K], w [N, K], bias [N] or undefined
// Returns [R, N]. The library is chosen by ops/cpu_features.h, never by a timing: a machine always computes
// the same bits.
at::Tensor linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias = {});

// The same into `out` [R, N], which may be a view with row stride >= N. Float32 for bfloat16 operands:
// nothing is rounded (on a GPU without a bias alone).
void linear_out(at::Tensor& out, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias = {});

// Whether on the CPU a row's bits do not depend on how many rows there are, where all operands have `dtype`.
bool rows_are_independent(at::ScalarType dtype);

// Gradient by the input: dy [R, N], w [N, K] -> [R, K] of dy's type.
at::Tensor linear_backward_input(const at::Tensor& dy, const at::Tensor& w);

// Adds dy^T x to dw [N, K] and the column sums of dy to dbias [N] (if defined); both float32, and nothing is
// rounded on the way (on the CPU). With `overwrite` dw is written instead, whatever it held.
void linear_backward_weight(const at::Tensor& dy, const at::Tensor& x, at::Tensor dw, at::Tensor dbias = {},
                            bool overwrite = false);

}  // namespace cream
