// RMSNorm, computed in float32 inside: y = x / sqrt(mean(x^2) + eps) * w.
#pragma once

#include <ATen/core/Tensor.h>

namespace cream {

//   x [R, C] float32 or bfloat16, row stride free, columns contiguous; w [C] -> contiguous [R, C]
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& w, double eps);
at::Tensor rms_norm_reference(const at::Tensor& x, const at::Tensor& w, double eps);

// sum = residual + x, then rms_norm(sum): one pass over memory. `sum` may be `residual` itself (in place) or
// another [R, C] tensor. All contiguous. -> [R, C]
at::Tensor add_rms_norm(at::Tensor& sum, const at::Tensor& residual, const at::Tensor& x, const at::Tensor& w,
                        double eps);
inline at::Tensor add_rms_norm_(at::Tensor& residual, const at::Tensor& x, const at::Tensor& w, double eps) {
  return add_rms_norm(residual, residual, x, w, eps);
}

// Every head's D columns of x normalised in place: x [R, >= heads * D], starting at column 0, row stride
// free.
void rms_norm_heads_(at::Tensor& x, int64_t heads, const at::Tensor& w, double eps);

// dx [R, C] for dy [R, C]; adds to dw [C] (float32). With `add_to` (same shape as dx) the result is add_to +
// dx. x may have free row stride.
at::Tensor rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w, double eps,
                             at::Tensor dw, const at::Tensor& add_to = {});

// The gradient of rms_norm_heads_, in place on dy [R, >= heads * D]; x holds the values before normalisation.
void rms_norm_heads_backward_(at::Tensor& dy, const at::Tensor& x, int64_t heads, const at::Tensor& w,
                              double eps, at::Tensor dw);

}  // namespace cream
