// Packed attention on the CPU: one task per (trunk with its leaves, key/value head), float32 inside.
#pragma once

#include "ops/packed_attention.h"

namespace cream {

AttentionResult packed_attention_cpu(const at::Tensor& qkv, const Pack& pack, const AttentionShape& shape);
at::Tensor packed_attention_backward_cpu(const at::Tensor& d_out, const at::Tensor& qkv,
                                         const AttentionResult& forward, const Pack& pack,
                                         const AttentionShape& shape);

}  // namespace cream
