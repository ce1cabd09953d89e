// AdamW over flat buffers. A block takes kAdamWBlock elements, so that every sum has a fixed order.
#pragma once

#include <cstdint>

#include "cuda/types.h"

namespace cream::gpu {

constexpr int64_t kAdamWBlock = 16384;

// The scalars of one update: see Factors in ops/adamw.cpp.
struct AdamWFactors {
  float beta1, beta2, one_minus_beta1, one_minus_beta2, step_size, root_correction, epsilon, gradient_scale;
  float decayed;       // factor of the weights in [0, decay_size)
  int64_t decay_size;  // counts from the buffers' first element
  // Random numbers that round bfloat16 moments: ops/stochastic_rounding.h.
  uint32_t key[2];
  uint32_t step;
  int64_t first;  // index of the buffers' first element in the whole; a multiple of 4
};

// The buffers of `size` elements. With `low`, the float32 master is kept in 32 bits per weight: bfloat16
// weights, which are the master rounded to nearest with ties away from zero, and the master's low 16 bits,
// exact. Else `master` is a buffer of its own (or the weights themselves, float32), and bfloat16 weights
// receive it rounded to nearest even.
struct AdamWBuffers {
  void* weights;
  Dtype weight_dtype;
  float* master;
  uint16_t* low;
  const void* gradient;
  Dtype gradient_dtype;
  void *m, *v;
  Dtype moment_dtype;
  int64_t* moved;  // [blocks]: how many working weights of the block changed
  int64_t size;
};

void adamw(const AdamWBuffers& buffers, const AdamWFactors& factors, Stream stream);

// sums[b] = sum of the squares of block b, in float64.
void squared_norms(double* sums, const void* gradient, Dtype dtype, int64_t size, Stream stream);

}  // namespace cream::gpu
