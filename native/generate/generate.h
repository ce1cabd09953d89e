// Batched sampling: N responses per prompt, the prompt computed once and its keys and values shared by its
// responses; continuous batching over a fixed number of slots; a sampler keyed by (seed, prompt key, sample,
// position).
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "generate/logits_processors.h"
#include "model/model.h"

namespace cream {

struct GenerateOptions {
  int64_t num_samples = 1;
  int64_t max_new_tokens = 256;
  double temperature = 1.0;  // 0 = greedy
  double top_p = 1.0;
  int64_t top_k = 0;  // 0 = off
  double min_p =
      0;  // tokens less likely than min_p times the likeliest are cut, after top_k and top_p; 0 = off
  LogitsProcessors processors;
  std::vector<int32_t> stop_ids;
  uint64_t seed = 0;
  int64_t max_live_tokens = 0;     // memory bound for keys and values; 0 = chosen by the engine
  int64_t max_live_sequences = 0;  // 0 = chosen by the engine
  int64_t steps_per_poll = 0;      // of a GPU, between two looks at its slots; 0 = chosen by the engine
};

struct GeneratePrompt {
  std::vector<int32_t> ids;  // not empty
  uint64_t key = 0;          // identifies the prompt in the random stream
  // Tokens that its responses may have, where that is less than the request's: one number for all of them,
  // one for each, or none.
  std::vector<int64_t> max_new_tokens;
};

// Tokens that a response to the prompt may have.
inline int64_t length_limit(const GeneratePrompt& prompt, int64_t sample, const GenerateOptions& options) {
  const auto& own = prompt.max_new_tokens;
  if (own.empty()) return options.max_new_tokens;
  return std::min(own.size() == 1 ? own[0] : own[static_cast<size_t>(sample)], options.max_new_tokens);
}

enum class FinishReason { kStop, kLength };

struct Response {
  int64_t prompt_index;
  int64_t sample;
  std::vector<int32_t> ids;     // the stop token included when it was sampled
  std::vector<float> logprobs;  // of each id under temperature 1 and no truncation
  FinishReason finish_reason;
};

// Calls on_response as responses finish (from the calling thread; it may block: back-pressure). A prompt that
// with its length limit exceeds max_position_embeddings is refused before anything is computed.
void generate(const Model& model, const std::vector<GeneratePrompt>& prompts, const GenerateOptions& options,
              const std::function<void(Response&&)>& on_response, const CancelFlag& cancelled);

}  // namespace cream
