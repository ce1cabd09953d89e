#include "ops/float_products.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include "ops/cpu_features.h"
#include "ops/panel_products.h"

namespace cream {

namespace {

// With AVX-512 but no AMX own panels are the fastest in every form of the product (docs/log.md). Elsewhere
// MKL, which keeps its fast float32 kernels for Intel: oneDNN's are faster on other processors. The choice
// depends on the machine alone, never on a timing, so that a resumed run computes the same bits. On ARM
// LibTorch's own choice stands.
bool prefers_onednn() { return cpu::kIsX86 && !cpu::is_intel(); }

using LinearPointwise = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                   c10::string_view, c10::List<std::optional<at::Scalar>>,
                                   std::optional<c10::string_view>);

at::Tensor onednn_linear(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
                             .typed<LinearPointwise>();
  const std::optional<at::Tensor> maybe_bias = bias.defined() ? std::optional(bias) : std::nullopt;
  return op.call(a.contiguous(), b.contiguous(), maybe_bias, "none", c10::List<std::optional<at::Scalar>>(),
                 "");
}

}  // namespace

at::Tensor float_linear(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias) {
  if (has_panel_products(at::kFloat)) {
    const at::Tensor out = at::empty({a.size(0), b.size(0)}, a.options());
    panel_product(out, a, b, bias);
    return out;
  }
  if (prefers_onednn()) return onednn_linear(a, b, bias);
  return bias.defined() ? at::addmm(bias, a, b.t()) : at::mm(a, b.t());
}

void float_linear_out(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias) {
  if (has_panel_products(at::kFloat)) {
    panel_product(out, a, b, bias);
  } else if (prefers_onednn()) {
    out.copy_(onednn_linear(a, b, bias));
  } else if (bias.defined()) {
    at::addmm_out(out, bias, a, b.t());
  } else {
    at::mm_out(out, a, b.t());
  }
}

void add_float_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  if (has_panel_products(at::kFloat)) {
    panel_product(sum, a, b.t(), {}, /*add=*/true);
  } else if (prefers_onednn()) {
    sum.add_(onednn_linear(a, b.t(), {}));
  } else {
    sum.addmm_(a, b);
  }
}

}  // namespace cream
