// AdamW over flat buffers. A block takes kAdamWBlock elements, so that every sum has a fixed order.
#pragma once

#include <cstdint>

#include "cuda/types.h"

namespace cream::gpu {

constexpr int64_t kAdamWBlock = 16384;

// The scalars of one update: see Factors in ops/adamw.cpp.
struct AdamWFactors {
  float beta1, beta2, one_minus_beta1, one_minus_beta2, step_size, root_correction, epsilon, gradient_scale;
  float decayed;  // factor of the weights in [0, decay_size)
  int64_t decay_size;
};

// sums[b] = sum of the squares of block b, in float64.
void squared_norms(double* sums, const float* gradient, int64_t size, Stream stream);

// One update; the gradient is zero afterwards; moved[b] = how many working weights of block b changed.
//   weights: float32 and the master itself, or bfloat16 that receive the master rounded to nearest even
void adamw(void* weights, Dtype dtype, float* master, float* gradient, float* m, float* v, int64_t* moved,
           int64_t size, const AdamWFactors& factors, Stream stream);

// The same with the float32 master kept in 32 bits per weight: bfloat16 weights, which are the master rounded
// to nearest with ties away from zero, and the master's low 16 bits. The master is exact.
void adamw_split(void* weights, uint16_t* low, float* gradient, float* m, float* v, int64_t* moved,
                 int64_t size, const AdamWFactors& factors, Stream stream);

}  // namespace cream::gpu
