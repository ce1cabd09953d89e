// The architecture of a decoder-only transformer as its config describes it: Llama 2/3, Mistral, Qwen2,
// Qwen3 are settings of one implementation. lib/data/model-config.ts reads config.json and fills this.
#pragma once

#include <cstdint>
#include <vector>

namespace cream {

enum class RopeScaling { kNone, kLinear, kLlama3 };

struct ModelConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-5;

  double rope_theta = 10000.0;
  RopeScaling rope_scaling = RopeScaling::kNone;
  double rope_factor = 1.0;
  double rope_low_freq_factor = 1.0;                     // llama3
  double rope_high_freq_factor = 4.0;                    // llama3
  int64_t rope_original_max_position_embeddings = 8192;  // llama3

  bool qkv_bias = false;  // Qwen2; Llama with attention_bias
  bool o_bias = false;    // Llama with attention_bias
  bool mlp_bias = false;
  bool qk_norm = false;  // Qwen3: RMSNorm over head_dim of every query and key head, before RoPE
  bool tie_word_embeddings = false;

  // Sequence classification: rows of score.weight, the head in place of a vocabulary's; 0 = a language model.
  int64_t num_labels = 0;

  // Sliding window of each layer in tokens (a position attends to itself and the window - 1 before it);
  // 0 = the whole context. Size num_layers.
  std::vector<int64_t> sliding_window;

  int64_t q_size() const { return num_heads * head_dim; }
  int64_t kv_size() const { return num_kv_heads * head_dim; }
  int64_t qkv_size() const { return q_size() + 2 * kv_size(); }
};

}  // namespace cream
