#include "ops/linear_rows.h"

#include "ops/linear.h"
#include "ops/linear_rows_kernels.h"

namespace cream {

namespace {

template <typename Out>
void rows_bf16(at::Tensor& out, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
  using T = c10::BFloat16;
  const int64_t r = x.size(0), k = x.size(1), n = w.size(0);
  const auto kernel = has_linear_rows_bf16(n, k)  ? linear_rows_bf16<Out>
                      : has_linear_rows_dot(n, k) ? linear_rows_dot<Out>
                                                  : linear_rows_widened<Out>;
  kernel(out.mutable_data_ptr<Out>(), x.const_data_ptr<T>(), w.const_data_ptr<T>(),
         bias.defined() ? bias.const_data_ptr<T>() : nullptr, r, n, k);
}

}  // namespace

void linear_rows(at::Tensor& out, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
  const int64_t r = x.size(0), k = x.size(1), n = w.size(0);
  TORCH_CHECK_VALUE(w.size(1) == k && out.size(0) == r && out.size(1) == n && out.is_contiguous() &&
                        x.is_contiguous() && w.is_contiguous() && x.scalar_type() == w.scalar_type(),
                    "linear_rows: expected contiguous [R, K], [N, K] -> [R, N], got ", x.sizes(), ", ",
                    w.sizes(), " -> ", out.sizes());
  const bool on_cpu = x.device().is_cpu();
  if (on_cpu && x.scalar_type() == at::kFloat) {
    linear_rows_f32(out.mutable_data_ptr<float>(), x.const_data_ptr<float>(), w.const_data_ptr<float>(),
                    bias.defined() ? bias.const_data_ptr<float>() : nullptr, r, n, k);
  } else if (on_cpu && x.scalar_type() == at::kBFloat16) {
    out.scalar_type() == at::kFloat ? rows_bf16<float>(out, x, w, bias)
                                    : rows_bf16<c10::BFloat16>(out, x, w, bias);
  } else {
    cream::linear_out(out, x, w, bias);
  }
}

}  // namespace cream
