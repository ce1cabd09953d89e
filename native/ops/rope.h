// Rotary position embedding, half-split layout as in transformers: (x1, x2) -> (x1 c - x2 s, x2 c + x1 s).
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "model/model_config.h"

namespace cream {

// Inverse frequencies [D / 2] with the config's scaling (none, linear, llama3); float64 inside, float32 out.
std::vector<float> rope_inverse_frequencies(const ModelConfig& config);

// cos and sin of position p are rows p of one float32 table [max_position + 1, D]: D/2 cosines, then D/2
// sines.
at::Tensor rope_table(const ModelConfig& config, int64_t num_positions);

// Rotates `heads` heads of width D in place, starting at column 0 of x.
//   x [R, >= heads * D] float32 or bfloat16, row stride free; positions [R] int32; table from rope_table
// inverse: rotates back (the gradient).
void rope_(at::Tensor& x, int64_t heads, int64_t head_dim, const int32_t* positions, const at::Tensor& table,
           bool inverse = false);

}  // namespace cream
