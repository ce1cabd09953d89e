// Draws one token per row of logits without sorting, and reports its untempered, untruncated log-prob.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace cream {

struct SamplerOptions {
  float temperature = 1.0f;  // 0 = greedy: the largest logit, the lowest id among equals
  float top_p = 1.0f;        // smallest set of most likely tokens whose mass reaches top_p (after temperature
                             // and top_k), lower ids first among equals; the token that crosses is kept
  int64_t top_k = 0;         // 0 = off
  float min_p = 0.0f;        // then those at least min_p times as likely as the likeliest; 0 = off
};

// Refuses a temperature, top_p, top_k or min_p outside of its range, by name.
void check_sampler_options(const SamplerOptions& options);

// uniforms: one number in (0, 1) per row; the choice is the inverse of the kept tokens' cumulative mass in id
// order.
struct Sampled {
  std::vector<int32_t> ids;
  std::vector<float> logprobs;  // log softmax(logits)[id]
};
//   logits [B, V] float32 or bfloat16, contiguous
// Logits without a finite maximum (NaN, +inf, all -inf) are refused. Softmax and sums in float32 or better.
Sampled sample(const at::Tensor& logits, const std::vector<float>& uniforms, const SamplerOptions& options);

// Draw i from row rows[i]: several draws from one row cost no copies of it.
Sampled sample_rows(const at::Tensor& logits, const std::vector<int64_t>& rows,
                    const std::vector<float>& uniforms, const SamplerOptions& options);

// log softmax(logits[rows[i]])[ids[i]], as `sample` reports it.
std::vector<float> logprobs_of(const at::Tensor& logits, const std::vector<int64_t>& rows,
                               const std::vector<int32_t>& ids);

// The distribution that `sample` draws from, by sorting: [B, V] float64. The plain definition.
at::Tensor sampling_distribution_reference(const at::Tensor& logits, const SamplerOptions& options);

}  // namespace cream
