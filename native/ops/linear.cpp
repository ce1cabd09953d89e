#include "ops/linear.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include "ops/bfloat16_tiles.h"
#include "ops/cpu_features.h"
#include "ops/dispatch.h"
#include "ops/float_products.h"
#include "ops/gpu.h"
#include "ops/panel_products.h"
#include "ops/phases.h"
#include "ops/vector_math.h"
#include "ops/widened_products.h"

namespace cream {

namespace {

bool on_cpu(const at::Tensor& x) { return x.device().is_cpu(); }
bool is_float(const at::Tensor& x) { return x.scalar_type() == at::kFloat; }

// Whether the operands are to be widened to float32: where the CPU has no instructions for bfloat16, and
// where LibTorch would round a product that has to stay float32.
bool widens(const at::Tensor& x, const at::Tensor& w, const at::Tensor& out) {
  if (!on_cpu(x) || (is_float(x) && is_float(w))) return false;
  return !cpu::has_avx512_bf16() || x.scalar_type() != w.scalar_type() ||
         x.scalar_type() != out.scalar_type();
}

// Whether bfloat16 operands go through panels, to a result of either type.
bool takes_panels(const at::Tensor& x, const at::Tensor& w) {
  return on_cpu(x) && x.scalar_type() == at::kBFloat16 && w.scalar_type() == at::kBFloat16 &&
         has_panel_products(at::kBFloat16);
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
  const bool by_panels = takes_panels(x, w);
  if (by_panels || widens(x, w, x)) {
    const at::Tensor out = at::empty({x.size(0), w.size(0)}, x.options());
    by_panels ? panel_product(out, x, w, bias) : widened_linear_out(out, x, w, bias);
    return out;
  }
  if (on_cpu(x) && is_float(x)) return float_linear(x, w, bias);
  return bias.defined() ? at::addmm(bias, x, w.t()) : at::mm(x, w.t());
}

void linear_out(at::Tensor& out, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
  const PhaseScope phase(Phase::kGemm, x.device());
  if (takes_panels(x, w)) {
    panel_product(out, x, w, bias);
  } else if (widens(x, w, out)) {
    widened_linear_out(out, x, w, bias);
  } else if (on_cpu(x) && is_float(x)) {
    float_linear_out(out, x, w, bias);
  } else if (bias.defined()) {
    at::addmm_out(out, bias, x, w.t());
  } else if (out.scalar_type() != x.scalar_type()) {
    at::mm_out(out, x, w.t(), out.scalar_type());
  } else {
    at::mm_out(out, x, w.t());
  }
}

bool rows_are_independent(at::ScalarType dtype) {
  const bool is_widened = dtype == at::kBFloat16 && !cpu::has_avx512_bf16();
  return has_panel_products(is_widened ? at::kFloat : dtype);
}

at::Tensor linear_backward_input(const at::Tensor& dy, const at::Tensor& w) {
  const PhaseScope phase(Phase::kGemm, dy.device());
  if (takes_panels(dy, w)) {
    const at::Tensor dx = at::empty({dy.size(0), w.size(1)}, dy.options());
    panel_product(dx, dy, w.t());
    return dx;
  }
  if (widens(dy, w, dy)) return widened_backward_input(dy, w);
  return on_cpu(dy) && is_float(dy) ? float_linear(dy, w.t()) : at::mm(dy, w);
}

void linear_backward_weight(const at::Tensor& dy, const at::Tensor& x, at::Tensor dw, at::Tensor dbias,
                            bool overwrite) {
  const PhaseScope phase(Phase::kGemm, dy.device());
  if (gpu::active(dy)) return gpu::linear_backward_weight(dy, x, dw, dbias, overwrite);
  if (overwrite) dw.zero_();
  if (is_float(dy) && is_float(x)) {
    add_float_product(dw, dy.t(), x);
  } else if (takes_panels(dy, x)) {
    panel_product(dw, dy.t(), x.t(), {}, /*add=*/true);
  } else if (dy.scalar_type() == x.scalar_type() && dw.is_contiguous() && has_bfloat16_tiles()) {
    const auto dense = [](const at::Tensor& rows) { return rows.stride(1) == 1 ? rows : rows.contiguous(); };
    tiled_backward_weight(dense(dy), dense(x), dw);
  } else {
    widened_backward_weight(dy, x, dw);
  }
  if (!dbias.defined()) return;
  const at::Tensor rows = dy.contiguous();
  with_dtype(rows.scalar_type(), "linear_backward_weight", [&](auto zero) {
    add_column_sums(dbias.data_ptr<float>(), rows.const_data_ptr<decltype(zero)>(), rows.size(0),
                    rows.size(1));
  });
}

}  // namespace cream
