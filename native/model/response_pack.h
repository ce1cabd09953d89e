// Prompts with their responses as one pack, and where the log-prob of every response token comes from. The
// last token of a response needs no row; the first token of each response is predicted by the prompt's last
// row, which is there once for all responses of a prompt. A prompt with a single response is one trunk.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model_config.h"
#include "model/pack.h"
#include "ops/token_logprobs.h"

namespace cream {

// The targets of one response: `first` for its first token, `rest`, `rest + 1`, ... for the others.
struct ResponseTargets {
  int64_t first = 0, rest = 0;
  int64_t length = 0;  // tokens of the response; 0: no targets

  int64_t at(int64_t token) const { return token == 0 ? first : rest + token - 1; }
};

struct ResponsePack {
  Pack pack;
  std::vector<Target> targets;             // sorted by row; rows count pack.head_rows
  std::vector<ResponseTargets> responses;  // in the order added

  // Appends a prompt (not empty) and its responses (each may be empty).
  void add(const std::vector<int32_t>& prompt, const std::vector<const std::vector<int32_t>*>& group);
};

// Rows that a response of `length` tokens costs beside its prompt.
inline int64_t response_rows(size_t length) { return length == 0 ? 0 : static_cast<int64_t>(length) - 1; }

// Refuses a sequence that takes more positions than the model has; `where` and `index` begin the message.
void check_length(const ModelConfig& config, int64_t positions, const char* where, size_t index);

// Positions that every token of prompt and response takes.
inline int64_t all_positions(const std::vector<int32_t>& prompt, const std::vector<int32_t>& response) {
  return static_cast<int64_t>(prompt.size() + response.size());
}

}  // namespace cream
