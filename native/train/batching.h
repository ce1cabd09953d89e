// How a step's batch is split into micro-batches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cream {

// Examples [begin, end) of a batch, computed together.
struct MicroBatch {
  size_t begin, end;
};

// Consecutive examples while their rows fit the budget; an example above the budget is alone. Depends on the
// batch and the budget only, never on memory or time, so that a step can be repeated bit by bit.
std::vector<MicroBatch> split_batch(const std::vector<int64_t>& rows, int64_t max_tokens_per_batch);

}  // namespace cream
