#include "ops/linear.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include "ops/cpu_features.h"
#include "ops/dispatch.h"
#include "ops/gpu.h"
#include "ops/phases.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

// MKL keeps its fast float32 kernels for Intel; oneDNN's are 2.3 times faster on AMD. The choice depends on
// the machine alone, never on a timing, so that a resumed run computes the same bits. On ARM LibTorch's own
// choice stands.
bool prefers_onednn(const at::Tensor& x) {
  return cpu::kIsX86 && !cpu::is_intel() && x.device().is_cpu() && x.scalar_type() == at::kFloat;
}

using LinearPointwise = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                   c10::string_view, c10::List<std::optional<at::Scalar>>,
                                   std::optional<c10::string_view>);

// a [M, K] times b [N, K] transposed.
at::Tensor onednn_linear(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
                             .typed<LinearPointwise>();
  const std::optional<at::Tensor> maybe_bias = bias.defined() ? std::optional(bias) : std::nullopt;
  return op.call(a.contiguous(), b.contiguous(), maybe_bias, "none", c10::List<std::optional<at::Scalar>>(),
                 "");
}

// Adds a row-major [N, K] bfloat16 or float32 product to a float32 sum of the same shape.
template <typename T>
void add_to_float(float* sum, const T* values, int64_t size) {
  at::parallel_for(0, size, 16384, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) sum[i] += to_float(values[i]);
  });
}

template <typename T>
void add_column_sums(float* sums, const T* rows, int64_t num_rows, int64_t width) {
  at::parallel_for(0, width, 256, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < num_rows; ++r) {
      const T* row = rows + r * width;
#pragma omp simd
      for (int64_t c = begin; c < end; ++c) sums[c] += to_float(row[c]);
    }
  });
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
  const PhaseScope phase(Phase::kGemm, x.device());
  if (prefers_onednn(x)) return onednn_linear(x, w, bias);
  return bias.defined() ? at::addmm(bias, x, w.t()) : at::mm(x, w.t());
}

void linear_out(at::Tensor& out, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
  const PhaseScope phase(Phase::kGemm, x.device());
  if (prefers_onednn(x)) {
    out.copy_(onednn_linear(x, w, bias));
  } else if (bias.defined()) {
    at::addmm_out(out, bias, x, w.t());
  } else {
    at::mm_out(out, x, w.t());
  }
}

at::Tensor linear_backward_input(const at::Tensor& dy, const at::Tensor& w) {
  const PhaseScope phase(Phase::kGemm, dy.device());
  return prefers_onednn(dy) ? onednn_linear(dy, w.t(), {}) : at::mm(dy, w);
}

void linear_backward_weight(const at::Tensor& dy, const at::Tensor& x, at::Tensor dw, at::Tensor dbias) {
  const PhaseScope phase(Phase::kGemm, dy.device());
  if (gpu::active(dy)) return gpu::linear_backward_weight(dy, x, dw, dbias);
  if (dy.scalar_type() == at::kFloat && !prefers_onednn(dy)) {
    at::addmm_out(dw, dw, dy.t(), x);
  } else {
    const at::Tensor product =
        (prefers_onednn(dy) ? onednn_linear(dy.t(), x.t(), {}) : at::mm(dy.t(), x)).contiguous();
    with_dtype(product.scalar_type(), "linear_backward_weight", [&](auto zero) {
      add_to_float(dw.data_ptr<float>(), product.const_data_ptr<decltype(zero)>(), product.numel());
    });
  }
  if (!dbias.defined()) return;
  const at::Tensor rows = dy.contiguous();
  with_dtype(rows.scalar_type(), "linear_backward_weight", [&](auto zero) {
    add_column_sums(dbias.data_ptr<float>(), rows.const_data_ptr<decltype(zero)>(), rows.size(0),
                    rows.size(1));
  });
}

}  // namespace cream
