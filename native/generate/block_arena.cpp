#include "generate/block_arena.h"

#include <c10/util/Exception.h>

#include <iterator>

namespace cream {

BlockArena::BlockArena(int64_t num_blocks) {
  if (num_blocks > 0) free_.emplace(0, num_blocks);
}

std::optional<KvRegion> BlockArena::allocate(int64_t count) {
  if (count == 0) return KvRegion{};
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    const auto [begin, available] = *it;
    if (available < count) continue;
    free_.erase(it);
    if (available > count) free_.emplace(begin + count, available - count);
    return KvRegion{begin, count};
  }
  return std::nullopt;
}

void BlockArena::release(KvRegion region) {
  if (region.count == 0) return;
  auto [it, inserted] = free_.emplace(region.begin, region.count);
  TORCH_CHECK(inserted, "block_arena: block ", region.begin, " was released twice");
  const auto next = std::next(it);
  if (next != free_.end() && it->first + it->second == next->first) {
    it->second += next->second;
    free_.erase(next);
  }
  if (it == free_.begin()) return;
  const auto previous = std::prev(it);
  if (previous->first + previous->second == it->first) {
    previous->second += it->second;
    free_.erase(it);
  }
}

}  // namespace cream
