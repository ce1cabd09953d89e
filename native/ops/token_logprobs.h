// The head: log-probs of given tokens from final hidden states, chunk by chunk, so that no more than one
// chunk of [rows, V] logits exists; and its gradient, which computes the logits of a chunk again.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace cream {

// Rows of logits at a time where the caller names none: 512 on the CPU, 4096 on a GPU.
inline constexpr int64_t kAutoChunk = 0;

// Asks for log p(token) under the softmax of row `row` of hidden @ head^T. A row may be asked for several
// tokens (the last prompt position of siblings).
struct Target {
  int64_t row;
  int64_t token;
};

struct TokenLogprobs {
  std::vector<float> logprobs;  // one per target
  std::vector<float> lse;       // [S] natural log-sum-exp of each row's logits, float32
};

//   hidden [S, C], head [V, C], one dtype; targets sorted by row. Logits, softmax and log in float32.
TokenLogprobs token_logprobs(const at::Tensor& hidden, const at::Tensor& head,
                             const std::vector<Target>& targets, int64_t chunk_rows = kAutoChunk);

// Gradient of sum_i weight_i * logprob_i: returns d_hidden [S, C] (hidden's dtype) and adds to d_head [V, C]
// (float32, on a GPU bfloat16 too), unless that is undefined: a frozen head. With `overwrite` d_head is
// written instead, whatever it held. `lse` comes from the forward.
at::Tensor token_logprobs_backward(const at::Tensor& hidden, const at::Tensor& head,
                                   const std::vector<Target>& targets, const std::vector<float>& weights,
                                   const std::vector<float>& lse, at::Tensor d_head,
                                   int64_t chunk_rows = kAutoChunk, bool overwrite = false);

// Plain definition: log_softmax of all logits, then gather. [num targets] float32
at::Tensor token_logprobs_reference(const at::Tensor& hidden, const at::Tensor& head,
                                    const std::vector<Target>& targets);

}  // namespace cream
