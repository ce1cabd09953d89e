#include "model/rope_cache.h"

#include <algorithm>

#include "ops/rope.h"

namespace cream {

at::Tensor rope_table_for(const Weights& weights, int64_t num_positions) {
  at::Tensor& table = *weights.rope_table;
  if (!table.defined() || table.size(0) < num_positions) {
    const int64_t known = table.defined() ? table.size(0) : 256;
    table = rope_table(weights.config, std::max(num_positions, 2 * known)).to(weights.flat.device());
  }
  return table;
}

at::Tensor rope_table_for(const Weights& weights, const Pack& pack) {
  const auto last = std::max_element(pack.positions.begin(), pack.positions.end());
  return rope_table_for(weights, last == pack.positions.end() ? 1 : int64_t{*last} + 1);
}

}  // namespace cream
