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
      arena_(at::empty({num_blocks * block_elements_}, at::TensorOptions().dtype(dtype))),
      blocks_(num_blocks) {}

}  // namespace cream
