// Causal attention over a pack (model/pack.h): trunks attend to themselves, leaves to their trunk and
// themselves.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/pack.h"

namespace cream {

struct AttentionShape {
  int64_t num_heads, num_kv_heads, head_dim;
  int64_t window = 0;  // sliding window in tokens, 0 = none
};

//   qkv [R, (Hq + 2 Hkv) D] -> out [R, Hq D], lse [R, Hq] float32 (natural log-sum-exp of the scaled scores)
// Scores are scaled by 1/sqrt(D). Query head h reads key/value head h / (Hq / Hkv).
struct AttentionResult {
  at::Tensor out_RE, lse_RH;
};
AttentionResult packed_attention(const at::Tensor& qkv, const Pack& pack, const AttentionShape& shape);
AttentionResult packed_attention_reference(const at::Tensor& qkv, const Pack& pack,
                                           const AttentionShape& shape);

// Gradient by qkv, [R, (Hq + 2 Hkv) D], for d_out [R, Hq D].
at::Tensor packed_attention_backward(const at::Tensor& d_out, const at::Tensor& qkv,
                                     const AttentionResult& forward, const Pack& pack,
                                     const AttentionShape& shape);

}  // namespace cream
