// Keys and values of everything in flight: one arena, from which runs of 16-token blocks are handed out for
// prompts (shared by their responses) and for the new tokens of each response.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "generate/block_arena.h"
#include "model/model_config.h"
#include "ops/simd.h"

namespace cream {

constexpr int64_t kBlockTokens = kLanes;

inline int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }
inline int64_t kv_blocks(int64_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

// The keys and values of one (layer, kv head) of a region, contiguous. Key block b holds the transposed keys
// of tokens 16 b .. 16 b + 15, [D, 16]; values are [tokens, Dp] with D padded to a multiple of 16.
template <typename T>
struct KvView {
  T* keys;
  T* values;
};

class KvCache {
 public:
  KvCache(const ModelConfig& config, at::ScalarType dtype, int64_t num_blocks);

  std::optional<KvRegion> allocate(int64_t count) { return blocks_.allocate(count); }
  void release(KvRegion region) { blocks_.release(region); }

  static int64_t block_bytes(const ModelConfig& config, at::ScalarType dtype);

  template <typename T>
  KvView<T> view(KvRegion region, int64_t layer, int64_t kv_head) const {
    T* base = arena_.mutable_data_ptr<T>() + region.begin * block_elements_ +
              (layer * num_kv_heads_ + kv_head) * region.count * kBlockTokens * (head_dim_ + padded_dim_);
    return {base, base + region.count * kBlockTokens * head_dim_};
  }

  // Writes one token's key and value [D].
  template <typename T>
  void write(KvRegion region, int64_t layer, int64_t kv_head, int64_t token, const T* key,
             const T* value) const {
    const KvView<T> kv = view<T>(region, layer, kv_head);
    T* key_column = kv.keys + token / kBlockTokens * kBlockTokens * head_dim_ + token % kBlockTokens;
    T* value_row = kv.values + token * padded_dim_;
    for (int64_t d = 0; d < head_dim_; ++d) key_column[d * kBlockTokens] = key[d];
    for (int64_t d = 0; d < head_dim_; ++d) value_row[d] = value[d];
    for (int64_t d = head_dim_; d < padded_dim_; ++d) value_row[d] = T(0);
  }

 private:
  int64_t num_kv_heads_, head_dim_, padded_dim_, block_elements_;
  at::Tensor arena_;
  BlockArena blocks_;
};

}  // namespace cream
