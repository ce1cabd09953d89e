#include "train/batching.h"

namespace cream {

std::vector<MicroBatch> split_batch(const std::vector<int64_t>& rows, int64_t max_tokens_per_batch) {
  std::vector<MicroBatch> parts;
  int64_t used = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (parts.empty() || used + rows[i] > max_tokens_per_batch) {
      parts.push_back({i, i});
      used = 0;
    }
    parts.back().end = i + 1;
    used += rows[i];
  }
  return parts;
}

}  // namespace cream
