// RMSNorm, computed in float32 inside: y = x / sqrt(mean(x^2) + eps) * w.
#pragma once

#include <ATen/core/Tensor.h>

namespace cream {

//   x [R, C] float32 or bfloat16 (contiguous), w [C] -> [R, C]
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& w, double eps);
at::Tensor rms_norm_reference(const at::Tensor& x, const at::Tensor& w, double eps);

// residual += x in place, then rms_norm(residual): one pass over memory. -> [R, C]
at::Tensor add_rms_norm_(at::Tensor& residual, const at::Tensor& x, const at::Tensor& w, double eps);

// dx [R, C] for dy [R, C]; adds to dw [C] (float32). With `add_to` (same shape as dx, may be undefined) the
// result is add_to + dx.
at::Tensor rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w, double eps,
                             at::Tensor dw, const at::Tensor& add_to = {});

}  // namespace cream
