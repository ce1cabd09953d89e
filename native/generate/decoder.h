// One step of the transformer for a batch of single tokens over cached keys and values.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "generate/decode_attention.h"
#include "generate/kv_cache.h"
#include "model/weights.h"

namespace cream {

class Decoder {
 public:
  // Positions 0 .. num_positions - 1 can be decoded, max_rows rows at a time.
  Decoder(const Weights& weights, int64_t max_rows, int64_t num_positions);

  // Feeds tokens[r] to the sequences that `groups` describe (rows in their order), at the last of each
  // sequence's new_length new tokens: writes their keys and values, and returns the final hidden states [R,
  // C], valid until the next call.
  at::Tensor step(const std::vector<int32_t>& tokens, const std::vector<DecodeGroup>& groups,
                  const KvCache& cache);

 private:
  const Weights& weights_;
  const ModelConfig& config_;
  at::Tensor angles_;
  at::Tensor residual_, qkv_, attended_, mixed_, gate_up_;  // [max_rows, ...]
  std::vector<int32_t> positions_;
};

}  // namespace cream
