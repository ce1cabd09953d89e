#include "ops/swiglu.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>

#include "ops/dispatch.h"
#include "ops/gpu.h"
#include "ops/phases.h"
#include "ops/vector_math.h"

namespace cream {

at::Tensor swiglu_reference(const at::Tensor& gate_up) {
  const auto halves = gate_up.to(at::kFloat).chunk(2, -1);
  return (at::silu(halves[0]) * halves[1]).to(gate_up.scalar_type());
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  const PhaseScope phase(Phase::kElementwise, gate_up.device());
  TORCH_CHECK_VALUE(gate_up.dim() == 2 && gate_up.size(1) % 2 == 0 && gate_up.is_contiguous(),
                    "swiglu: gate_up must be a contiguous [R, 2F], got ", gate_up.sizes());
  if (gpu::active(gate_up)) return gpu::swiglu(gate_up);
  const int64_t width = gate_up.size(1) / 2;
  at::Tensor out = at::empty({gate_up.size(0), width}, gate_up.options());
  with_dtype(gate_up.scalar_type(), "swiglu", [&](auto zero) {
    using T = decltype(zero);
    const T* in = gate_up.const_data_ptr<T>();
    T* result = out.data_ptr<T>();
    at::parallel_for(0, gate_up.size(0), row_grain(2 * width), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* gate = in + r * 2 * width;
        const T* up = gate + width;
        T* y = result + r * width;
#pragma omp simd
        for (int64_t c = 0; c < width; ++c) {
          const float g = to_float(gate[c]);
          y[c] = from_float<T>(g * sigmoid(g) * to_float(up[c]));
        }
      }
    });
  });
  return out;
}

at::Tensor swiglu_backward_(at::Tensor& gate_up, const at::Tensor& dy) {
  const PhaseScope phase(Phase::kElementwise, dy.device());
  const int64_t width = gate_up.size(1) / 2;
  TORCH_CHECK_VALUE(
      gate_up.is_contiguous() && dy.is_contiguous() && dy.size(0) == gate_up.size(0) && dy.size(1) == width,
      "swiglu_backward_: expected contiguous [R, 2F] and [R, F], got ", gate_up.sizes(), " and ", dy.sizes());
  if (gpu::active(gate_up)) return gpu::swiglu_backward_(gate_up, dy);
  at::Tensor out = at::empty_like(dy);
  with_dtype(gate_up.scalar_type(), "swiglu_backward_", [&](auto zero) {
    using T = decltype(zero);
    T* in = gate_up.data_ptr<T>();
    const T* grad = dy.const_data_ptr<T>();
    T* result = out.data_ptr<T>();
    at::parallel_for(0, gate_up.size(0), row_grain(4 * width), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        T* gate = in + r * 2 * width;
        T* up = gate + width;
        const T* d = grad + r * width;
        T* y = result + r * width;
#pragma omp simd
        for (int64_t c = 0; c < width; ++c) {
          const float g = to_float(gate[c]);
          const float u = to_float(up[c]);
          const float dv = to_float(d[c]);
          const float s = sigmoid(g);
          const float silu = g * s;
          y[c] = from_float<T>(silu * u);
          gate[c] = from_float<T>(dv * u * (s + silu * (1.0f - s)));
          up[c] = from_float<T>(dv * silu);
        }
      }
    });
  });
  return out;
}

}  // namespace cream
