// Hands out runs of blocks of a fixed arena.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace cream {

// Blocks [begin, begin + count) of the arena.
struct KvRegion {
  int64_t begin = 0;
  int64_t count = 0;
};

class BlockArena {
 public:
  explicit BlockArena(int64_t num_blocks);

  // First fit; nothing if no run of free blocks is long enough. A count of 0 always fits.
  std::optional<KvRegion> allocate(int64_t count);
  void release(KvRegion region);

 private:
  std::map<int64_t, int64_t> free_;  // begin -> count; neighbours are merged
};

}  // namespace cream
