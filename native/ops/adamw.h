// AdamW over flat buffers: one pass for the norm of the gradient, one for the update. Both run in fixed
// blocks, so the result does not depend on the number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace cream {

struct AdamWUpdate {
  double learning_rate = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  double gradient_scale = 1;  // of clipping
  int64_t step = 1;           // from 1; bias correction
  int64_t decay_size = 0;     // weight decay acts on [0, decay_size)
};

// Sum of squares, in float64. Not finite when an element is not.
double squared_norm(const at::Tensor& gradient);

// The update of torch.optim.AdamW (decoupled decay), in float32:
//   w *= 1 - lr decay;  m, v = moving averages of g and g^2;  w -= lr m^ / (sqrt(v^) + epsilon)
//   gradient, m, v, master  [n] float32; the gradient is zero afterwards
//   weights  [n] the working weights: `master` itself, or bfloat16 that receive master rounded to nearest
//   even
// Returns how many working weights changed.
int64_t adamw_(const at::Tensor& weights, const at::Tensor& master, const at::Tensor& gradient,
               const at::Tensor& m, const at::Tensor& v, const AdamWUpdate& update);

}  // namespace cream
