// The optimizer on the GPU.
#include <ATen/Functions.h>

#include <cmath>
#include <numeric>

#include "cuda/kernels/adamw.h"
#include "ops/gpu.h"
#include "ops/gpu_launch.h"

namespace cream::gpu {

namespace {

AdamWFactors factors_of(const AdamWUpdate& update) {
  const auto step = static_cast<double>(update.step);
  return {
      .beta1 = static_cast<float>(update.beta1),
      .beta2 = static_cast<float>(update.beta2),
      .one_minus_beta1 = static_cast<float>(1 - update.beta1),
      .one_minus_beta2 = static_cast<float>(1 - update.beta2),
      .step_size = static_cast<float>(update.learning_rate / (1 - std::pow(update.beta1, step))),
      .root_correction = static_cast<float>(1 / std::sqrt(1 - std::pow(update.beta2, step))),
      .epsilon = static_cast<float>(update.epsilon),
      .gradient_scale = static_cast<float>(update.gradient_scale),
      .decayed = static_cast<float>(1 - update.learning_rate * update.weight_decay),
      .decay_size = update.decay_size,
      .key = {uint32_t(update.seed), uint32_t(update.seed >> 32)},
      .step = static_cast<uint32_t>(update.step),
      .first = update.first,
  };
}

// Sums that kernels left, one per block.
at::Tensor sums_of(const at::Tensor& x, at::ScalarType dtype) {
  return at::empty({(x.numel() + kAdamWBlock - 1) / kAdamWBlock}, x.options().dtype(dtype));
}
template <typename T>
T total(const at::Tensor& sums) {
  const at::Tensor values = sums.to(at::kCPU);
  return std::accumulate(values.const_data_ptr<T>(), values.const_data_ptr<T>() + values.numel(), T{0});
}

}  // namespace

double squared_norm(const at::Tensor& gradient) {
  const at::Tensor sums = sums_of(gradient, at::kDouble);
  squared_norms(sums.data_ptr<double>(), gradient.const_data_ptr(), dtype_of(gradient), gradient.numel(),
                stream_of(gradient));
  return total<double>(sums);
}

int64_t adamw_(const AdamWTensors& t, const AdamWUpdate& update) {
  const at::Tensor moved = sums_of(t.weights, at::kLong);
  adamw({.weights = t.weights.data_ptr(),
         .weight_dtype = dtype_of(t.weights),
         .master = t.master.defined() ? t.master.data_ptr<float>() : nullptr,
         .low = t.low.defined() ? static_cast<uint16_t*>(t.low.data_ptr()) : nullptr,
         .gradient = t.gradient.const_data_ptr(),
         .gradient_dtype = dtype_of(t.gradient),
         .m = t.m.data_ptr(),
         .v = t.v.data_ptr(),
         .moment_dtype = dtype_of(t.m),
         .moved = moved.data_ptr<int64_t>(),
         .size = t.weights.numel()},
        factors_of(update), stream_of(t.weights));
  return total<int64_t>(moved);
}

}  // namespace cream::gpu
