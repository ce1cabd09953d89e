// The head for bfloat16 on CPUs whose units take bfloat16 and give float32 (ops/bfloat16_tiles.h):
// logits exist only as float32 tiles in the cache. They are neither rounded to bfloat16 nor written to
// memory.
#pragma once

#include "ops/token_logprobs.h"

namespace cream {

bool tiled_head_supports(const at::Tensor& hidden, const at::Tensor& head);

// As token_logprobs and token_logprobs_backward.
TokenLogprobs token_logprobs_tiled(const at::Tensor& hidden, const at::Tensor& head,
                                   const std::vector<Target>& targets, int64_t chunk_rows);
at::Tensor token_logprobs_tiled_backward(const at::Tensor& hidden, const at::Tensor& head,
                                         const std::vector<Target>& targets,
                                         const std::vector<float>& weights, const std::vector<float>& lse,
                                         at::Tensor d_head, int64_t chunk_rows);

}  // namespace cream
