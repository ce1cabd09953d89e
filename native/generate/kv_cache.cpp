#include "generate/kv_cache.h"

#include <ATen/Functions.h>

namespace cream {

namespace {

int64_t elements_per_block(const ModelConfig& config) {
  const int64_t padded = round_up(config.head_dim, kLanes);
  return config.num_layers * config.num_kv_heads * kBlockTokens * (config.head_dim + padded);
}

}  // namespace

int64_t KvCache::block_bytes(const ModelConfig& config, at::ScalarType dtype) {
  return elements_per_block(config) * static_cast<int64_t>(c10::elementSize(dtype));
}

KvCache::KvCache(const ModelConfig& config, at::ScalarType dtype, int64_t num_blocks)
    : num_kv_heads_(config.num_kv_heads),
      head_dim_(config.head_dim),
      padded_dim_(round_up(config.head_dim, kLanes)),
      block_elements_(elements_per_block(config)),
      arena_(at::empty({num_blocks * block_elements_}, at::TensorOptions().dtype(dtype))) {
  if (num_blocks > 0) free_.emplace(0, num_blocks);
}

std::optional<KvRegion> KvCache::allocate(int64_t count) {
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

void KvCache::release(KvRegion region) {
  if (region.count == 0) return;
  auto [it, inserted] = free_.emplace(region.begin, region.count);
  TORCH_CHECK(inserted, "kv_cache: block ", region.begin, " was released twice");
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
