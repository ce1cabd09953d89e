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
  int64_t first = 0;  // index of element 0 in the whole, a multiple of 4: random numbers count from it
  uint64_t seed = 0;  // of the rounding of bfloat16 moments
};

// One of `master` and `low` is defined.
struct AdamWTensors {
  at::Tensor weights;  // [n] the working weights
  at::Tensor master;   // [n] float32: `weights` itself, or what bfloat16 weights are rounded from
  at::Tensor
      low;  // [n] int16, only on a GPU: the low halves of a float32 master whose high half is `weights`
  at::Tensor gradient;  // [n] float32, zero afterwards; on a GPU bfloat16 too, and left as it is
  at::Tensor m, v;      // [n] float32, or bfloat16 by ops/stochastic_rounding.h

  AdamWTensors range(int64_t begin, int64_t size) const;
};

// Sum of squares, in float64. Not finite when an element is not.
double squared_norm(const at::Tensor& gradient);

// The update of torch.optim.AdamW (decoupled decay), in float32:
//   w *= 1 - lr decay;  m, v = moving averages of g and g^2;  w -= lr m^ / (sqrt(v^) + epsilon)
// Working weights in bfloat16 receive the master rounded to nearest, ties to even (ties away from zero where
// the master is split). Returns how many of them changed.
int64_t adamw_(const AdamWTensors& tensors, const AdamWUpdate& update);

// A float32 master on the CPU in halves and back, to the bit, a piece at a time.
void split_master(const at::Tensor& master, at::Tensor weights, at::Tensor low);
at::Tensor joined_master(const at::Tensor& weights, const at::Tensor& low);

}  // namespace cream
