// Attention of one new token per live sequence over the cached keys and values: the prompt's part is read
// once for all siblings, which stand at the same position because they start together.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "generate/kv_cache.h"

namespace cream {

// Live responses of one prompt: consecutive rows of the batch.
struct DecodeGroup {
  int64_t first_row = 0;
  KvRegion prompt;
  int64_t prompt_length = 0;
  int64_t new_length = 0;           // new tokens of each response, the current one included
  std::vector<KvRegion> responses;  // one per row
};

struct DecodeAttentionShape {
  int64_t num_heads, num_kv_heads, head_dim;
  int64_t window = 0;  // sliding window in tokens, 0 = none
};

// First stores each row's key and value as the last new token of its sequence, then attends.
//   qkv [R, (Hq + 2 Hkv) D] after RoPE, out [R, Hq D]; both contiguous, one dtype
// A row's result does not depend on which other rows are in the batch.
void decode_attention(at::Tensor& out, const at::Tensor& qkv, const KvCache& cache, int64_t layer,
                      const std::vector<DecodeGroup>& groups, const DecodeAttentionShape& shape);

// The attention alone, over what the cache holds, by plain loops in float64.
at::Tensor decode_attention_reference(const at::Tensor& qkv, const KvCache& cache, int64_t layer,
                                      const std::vector<DecodeGroup>& groups,
                                      const DecodeAttentionShape& shape);

}  // namespace cream
