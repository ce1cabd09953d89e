// Runs a generic lambda with the C++ type of a float32 or bfloat16 tensor.
#pragma once

#include <ATen/core/Tensor.h>

namespace cream {

template <typename Body>
void with_dtype(at::ScalarType dtype, const char* op, Body&& body) {
  if (dtype == at::kFloat) {
    body(float{});
  } else if (dtype == at::kBFloat16) {
    body(c10::BFloat16{});
  } else {
    TORCH_CHECK_VALUE(false, op, ": expected float32 or bfloat16, got ", dtype);
  }
}

// Rows per task of a parallel loop over rows of `width` elements.
inline int64_t row_grain(int64_t width) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1)); }

}  // namespace cream
