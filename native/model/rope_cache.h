// The rotation table of a model, computed once and grown when longer sequences come.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/pack.h"
#include "model/weights.h"

namespace cream {

// float32 [>= num_positions, D] on the weights' device (ops/rope.h). For the engine thread only.
at::Tensor rope_table_for(const Weights& weights, int64_t num_positions);
at::Tensor rope_table_for(const Weights& weights, const Pack& pack);

}  // namespace cream
