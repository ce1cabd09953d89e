// SwiGLU: silu(gate) * up, with gate and up side by side in one matrix.
#pragma once

#include <ATen/core/Tensor.h>

namespace cream {

//   gate_up [R, 2F] (gate, then up) -> [R, F]; float32 inside
at::Tensor swiglu(const at::Tensor& gate_up);
at::Tensor swiglu_reference(const at::Tensor& gate_up);

// Overwrites gate_up with its gradient for dy [R, F], and returns swiglu(gate_up) of before (for the down
// projection's weight gradient): one pass.
at::Tensor swiglu_backward_(at::Tensor& gate_up, const at::Tensor& dy);

}  // namespace cream
