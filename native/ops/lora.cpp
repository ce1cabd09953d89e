#include "ops/lora.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include "ops/dispatch.h"
#include "ops/gpu.h"
#include "ops/linear.h"
#include "ops/philox.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

// Writes x, thinned, to out; both contiguous. One random block serves four columns.
template <typename T>
void thin(T* out, const T* x, int64_t num_rows, int64_t width, const LoraDropout& dropout) {
  const auto keep = static_cast<float>(1.0 - dropout.probability);
  const std::array<uint32_t, 2> key{uint32_t(dropout.key), uint32_t(dropout.key >> 32)};
  at::parallel_for(0, num_rows, row_grain(width * 8), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t of_pack = dropout.rows == nullptr ? r : (*dropout.rows)[static_cast<size_t>(r)];
      const auto row = static_cast<uint64_t>(dropout.first_row + of_pack);
      for (int64_t c = 0; c < width; c += 4) {
        const auto bits = philox({uint32_t(c / 4), uint32_t(row), uint32_t(row >> 32), dropout.site}, key);
        for (int64_t i = c; i < std::min(c + 4, width); ++i) {
          const bool kept = uniform_open(bits[static_cast<size_t>(i - c)]) < keep;
          out[r * width + i] = from_float<T>(kept ? to_float(x[r * width + i]) / keep : 0.0f);
        }
      }
    }
  });
}

// A part's columns of the first product and of the merged one.
at::Tensor inner(const at::Tensor& t, const LoraSite::Part& part) {
  return t.narrow(1, part.row, part.b.size(1));
}
at::Tensor outer(const at::Tensor& y, const LoraSite::Part& part) {
  return y.narrow(1, part.begin, part.b.size(0));
}

}  // namespace

at::Tensor lora_dropout(const at::Tensor& x, const LoraDropout& dropout) {
  if (dropout.probability == 0) return x;
  if (gpu::active(x)) return gpu::lora_dropout(x, dropout);
  const at::Tensor from = x.contiguous();
  at::Tensor thinned = at::empty_like(from);
  with_dtype(x.scalar_type(), "lora_dropout", [&](auto zero) {
    using T = decltype(zero);
    thin(thinned.data_ptr<T>(), from.const_data_ptr<T>(), from.size(0), from.size(1), dropout);
  });
  return thinned;
}

void lora_add_(at::Tensor y, const at::Tensor& x, const LoraSite& site, const LoraDropout& dropout) {
  if (!site.a.defined()) return;
  const at::Tensor t = cream::linear(lora_dropout(x, dropout), site.a);
  for (const LoraSite::Part& part : site.parts) {
    if (gpu::active(y)) {
      gpu::add_product_(outer(y, part), inner(t, part), part.b.t(), part.scale);
    } else {
      outer(y, part).add_(cream::linear(inner(t, part), part.b), part.scale);
    }
  }
}

void lora_backward_(at::Tensor dx, const at::Tensor& dy, const at::Tensor& x, const LoraSite& site,
                    LoraSite& grads, const LoraDropout& dropout) {
  const at::Tensor thinned = lora_dropout(x, dropout);
  const at::Tensor t = cream::linear(thinned, site.a);
  at::Tensor dt = at::empty_like(t);
  for (size_t i = 0; i < site.parts.size(); ++i) {
    const LoraSite::Part& part = site.parts[i];
    const at::Tensor d_part = outer(dy, part);
    inner(dt, part).copy_(linear_backward_input(d_part, part.b)).mul_(part.scale);
    linear_backward_weight(d_part, inner(t, part).mul_(part.scale), grads.parts[i].b);
  }
  linear_backward_weight(dt, thinned, grads.a);
  if (gpu::active(dx) && dropout.probability == 0) return gpu::add_product_(dx, dt, site.a, 1);
  dx.add_(lora_dropout(linear_backward_input(dt, site.a), dropout));
}

}  // namespace cream
