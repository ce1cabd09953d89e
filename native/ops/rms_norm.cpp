#include "ops/rms_norm.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>

#include <cmath>

#include "ops/dispatch.h"
#include "ops/gpu.h"
#include "ops/phases.h"
#include "ops/simd.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

void check_rows(const at::Tensor& x, const at::Tensor& w, const char* op) {
  TORCH_CHECK_VALUE(x.dim() == 2 && x.stride(1) == 1 && w.dim() == 1 && w.is_contiguous(), op,
                    ": expected rows [R, C] with contiguous columns and a weight, got ", x.sizes(), " and ",
                    w.sizes());
  TORCH_CHECK_VALUE(x.device() == w.device() && w.scalar_type() == x.scalar_type(), op,
                    ": expected tensors of one device and dtype, got ", x.scalar_type(), " and ",
                    w.scalar_type());
}

// Lanes by hand: a compiler may begin its own where memory is aligned, so that the order of a sum, and its
// bits, would depend on where the row lies.
template <typename T>
float inverse_rms(const T* x, int64_t width, double eps) {
  const int64_t whole = width / kLanes * kLanes;
  Floats squares{};
  for (int64_t c = 0; c < whole; c += kLanes) {
    const Floats values = load16(x + c);
    squares += values * values;
  }
  float sum = sum_lanes(squares);
  for (int64_t c = whole; c < width; ++c) sum += to_float(x[c]) * to_float(x[c]);
  return 1.0f / std::sqrt(sum / static_cast<float>(width) + static_cast<float>(eps));
}

template <typename T>
void normalise(T* y, const T* x, const T* w, int64_t width, double eps) {
  const float scale = inverse_rms(x, width, eps);
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) y[c] = from_float<T>(to_float(x[c]) * scale * to_float(w[c]));
}

// dx = (g - x^ mean(g x^)) / rms with g = dy w and x^ = x / rms. dw gets dy x^. dx may alias dy.
template <typename T>
void normalise_backward(T* dx, const T* dy, const T* x, const T* w, const T* add_to, float* dw, int64_t width,
                        double eps) {
  const float scale = inverse_rms(x, width, eps);
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t c = 0; c < width; ++c) {
    const float product = to_float(dy[c]) * to_float(x[c]) * scale;
    dw[c] += product;
    dot += product * to_float(w[c]);
  }
  const float mean = dot / static_cast<float>(width);
  if (add_to == nullptr) {
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      dx[c] = from_float<T>((to_float(dy[c]) * to_float(w[c]) - to_float(x[c]) * scale * mean) * scale);
    }
  } else {
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      const float d = (to_float(dy[c]) * to_float(w[c]) - to_float(x[c]) * scale * mean) * scale;
      dx[c] = from_float<T>(to_float(add_to[c]) + d);
    }
  }
}

// Weight gradients are summed over a fixed number of row blocks, whatever the number of threads.
constexpr int64_t kRowBlocks = 16;

// body(block, first row, last row) for each of `blocks` row blocks, in parallel; then adds the blocks'
// partial weight gradients [blocks, width] to dw in block order.
template <typename Body>
void sum_weight_gradients(at::Tensor& dw, int64_t num_rows, Body&& body) {
  const int64_t width = dw.numel();
  const int64_t blocks = std::max<int64_t>(1, std::min(kRowBlocks, num_rows * width / 16384));
  const at::Tensor partial = at::zeros({blocks, width}, at::kFloat);
  float* sums = partial.data_ptr<float>();
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      body(sums + b * width, num_rows * b / blocks, num_rows * (b + 1) / blocks);
  });
  float* out = dw.data_ptr<float>();
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t c = 0; c < width; ++c) out[c] += sums[b * width + c];
  }
}

}  // namespace

at::Tensor rms_norm_reference(const at::Tensor& x, const at::Tensor& w, double eps) {
  const auto x32 = x.to(at::kFloat);
  return (x32 * at::rsqrt(x32.square().mean(-1, true) + eps) * w.to(at::kFloat)).to(x.scalar_type());
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& w, double eps) {
  const PhaseScope phase(Phase::kElementwise, x.device());
  check_rows(x, w, "rms_norm");
  if (gpu::active(x)) return gpu::rms_norm(x, w, eps);
  const int64_t width = x.size(1);
  at::Tensor out = at::empty({x.size(0), width}, x.options());
  with_dtype(x.scalar_type(), "rms_norm", [&](auto zero) {
    using T = decltype(zero);
    const T* in = x.const_data_ptr<T>();
    const T* weight = w.const_data_ptr<T>();
    T* y = out.data_ptr<T>();
    at::parallel_for(0, x.size(0), row_grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        normalise(y + r * width, in + r * x.stride(0), weight, width, eps);
    });
  });
  return out;
}

at::Tensor add_rms_norm(at::Tensor& sum, const at::Tensor& residual, const at::Tensor& x, const at::Tensor& w,
                        double eps) {
  const PhaseScope phase(Phase::kElementwise, x.device());
  check_rows(residual, w, "add_rms_norm");
  TORCH_CHECK_VALUE(residual.sizes() == x.sizes() && sum.sizes() == x.sizes() && residual.is_contiguous() &&
                        x.is_contiguous() && sum.is_contiguous(),
                    "add_rms_norm: expected contiguous tensors of one shape, got ", residual.sizes(), " and ",
                    x.sizes());
  if (gpu::active(x)) return gpu::add_rms_norm(sum, residual, x, w, eps);
  const int64_t width = x.size(1);
  at::Tensor out = at::empty_like(x);
  with_dtype(x.scalar_type(), "add_rms_norm", [&](auto zero) {
    using T = decltype(zero);
    const T* a = residual.const_data_ptr<T>();
    const T* b = x.const_data_ptr<T>();
    const T* weight = w.const_data_ptr<T>();
    T* s = sum.data_ptr<T>();
    T* y = out.data_ptr<T>();
    at::parallel_for(0, x.size(0), row_grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t row = r * width;
#pragma omp simd
        for (int64_t c = 0; c < width; ++c)
          s[row + c] = from_float<T>(to_float(a[row + c]) + to_float(b[row + c]));
        normalise(y + row, s + row, weight, width, eps);
      }
    });
  });
  return out;
}

void rms_norm_heads_(at::Tensor& x, int64_t heads, const at::Tensor& w, double eps) {
  const PhaseScope phase(Phase::kElementwise, x.device());
  check_rows(x, w, "rms_norm_heads_");
  if (gpu::active(x)) return gpu::rms_norm_heads_(x, heads, w, eps);
  const int64_t width = w.numel();
  with_dtype(x.scalar_type(), "rms_norm_heads_", [&](auto zero) {
    using T = decltype(zero);
    T* rows = x.data_ptr<T>();
    const T* weight = w.const_data_ptr<T>();
    at::parallel_for(0, x.size(0), row_grain(heads * width), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        for (int64_t h = 0; h < heads; ++h) {
          T* head = rows + r * x.stride(0) + h * width;
          normalise(head, head, weight, width, eps);
        }
      }
    });
  });
}

at::Tensor rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& w, double eps,
                             at::Tensor dw, const at::Tensor& add_to) {
  const PhaseScope phase(Phase::kElementwise, x.device());
  check_rows(x, w, "rms_norm_backward");
  TORCH_CHECK_VALUE(
      dy.sizes() == x.sizes() && dy.is_contiguous() && (!add_to.defined() || add_to.is_contiguous()),
      "rms_norm_backward: expected contiguous gradients of ", x.sizes(), ", got ", dy.sizes());
  if (gpu::active(x)) return gpu::rms_norm_backward(dy, x, w, eps, dw, add_to);
  const int64_t width = x.size(1);
  at::Tensor dx = at::empty_like(dy);
  with_dtype(x.scalar_type(), "rms_norm_backward", [&](auto zero) {
    using T = decltype(zero);
    const T* grad = dy.const_data_ptr<T>();
    const T* in = x.const_data_ptr<T>();
    const T* weight = w.const_data_ptr<T>();
    const T* base = add_to.defined() ? add_to.const_data_ptr<T>() : nullptr;
    T* out = dx.data_ptr<T>();
    sum_weight_gradients(dw, x.size(0), [&](float* sums, int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        normalise_backward(out + r * width, grad + r * width, in + r * x.stride(0), weight,
                           base == nullptr ? nullptr : base + r * width, sums, width, eps);
      }
    });
  });
  return dx;
}

void rms_norm_heads_backward_(at::Tensor& dy, const at::Tensor& x, int64_t heads, const at::Tensor& w,
                              double eps, at::Tensor dw) {
  const PhaseScope phase(Phase::kElementwise, x.device());
  check_rows(x, w, "rms_norm_heads_backward_");
  if (gpu::active(x)) return gpu::rms_norm_heads_backward_(dy, x, heads, w, eps, dw);
  const int64_t width = w.numel();
  with_dtype(x.scalar_type(), "rms_norm_heads_backward_", [&](auto zero) {
    using T = decltype(zero);
    T* grad = dy.data_ptr<T>();
    const T* in = x.const_data_ptr<T>();
    const T* weight = w.const_data_ptr<T>();
    sum_weight_gradients(dw, x.size(0), [&](float* sums, int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        for (int64_t h = 0; h < heads; ++h) {
          T* head = grad + r * dy.stride(0) + h * width;
          const T* no_addend = nullptr;
          normalise_backward(head, head, in + r * x.stride(0) + h * width, weight, no_addend, sums, width,
                             eps);
        }
      }
    });
  });
}

}  // namespace cream
