// Where to cut a distribution: the most likely tokens whose mass (or number) reaches a target, without
// sorting.
#pragma once

#include <cstdint>
#include <vector>

namespace cream {

// Keeps every token with a logit above `value`, and of those equal to it the `ties` with the lowest ids.
struct Cut {
  float value;
  int64_t ties;
};

// The smallest set of tokens in order of (logit descending, id ascending) whose weights sum to `target` or
// more.
//   logits [size], weights [size] (nullptr: every weight is 1); size a multiple of 16, padded with logits of
//   -inf
// The weight is a function of the logit. All tokens if the target is never reached. `scratch` is reused
// between calls.
Cut find_cut(const float* logits, const float* weights, int64_t size, double target,
             std::vector<float>& scratch);

}  // namespace cream
