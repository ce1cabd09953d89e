// Learning rates that differ by what a parameter is.
#pragma once

#include <cstdint>
#include <vector>

#include "model/adapter.h"
#include "model/weights.h"

namespace cream {

// Factors of the learning rate.
struct RateFactors {
  double embeddings = 1, head = 1;
  double norms = 1;        // norms and biases: everything that is not a matrix
  double layer_decay = 1;  // once for every layer above: the last layer has none, the embeddings one for each

  bool all_one() const { return embeddings == 1 && head == 1 && norms == 1 && layer_decay == 1; }
};

// Elements [begin, begin + size) of a flat buffer.
struct ParameterRange {
  int64_t begin, size;
  double rate_factor;
};

// The flat buffer of a model's weights, or of an adapter, as consecutive ranges of one factor each. Begins
// are multiples of 32. Refuses factors below 0, a factor of a tied head, and of an adapter any but
// layer_decay.
std::vector<ParameterRange> parameter_ranges(const Weights& weights, const RateFactors& factors);
std::vector<ParameterRange> parameter_ranges(const Adapter& adapter, const RateFactors& factors);

}  // namespace cream
