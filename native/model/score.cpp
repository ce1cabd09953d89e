#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "model/model.h"
#include "model/response_pack.h"
#include "model/transformer.h"
#include "ops/device.h"
#include "ops/token_logprobs.h"

namespace cream {

namespace {

// Rows per forward when the caller names none: the matrix products are at their best speed, and the widest
// activation of a 100 M model stays under 70 MB.
constexpr int64_t kDefaultTokens = 4096;

// Responses [begin, end) of a group.
struct Part {
  size_t group, begin, end;
};

// Parts of one forward. Groups keep their order; a new batch begins when the next response would exceed the
// budget, and a group whose responses do not fit beside its prompt is continued in the next batch.
std::vector<std::vector<Part>> plan(const std::vector<ScoreGroup>& groups, int64_t budget) {
  std::vector<std::vector<Part>> batches;
  int64_t used = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto& [prompt, responses] = groups[g];
    const auto prompt_rows = static_cast<int64_t>(prompt.size());
    int64_t total = prompt_rows;
    for (const auto& response : responses) total += response_rows(response.size());

    bool open = false;  // the current batch holds a part of this group
    if (!batches.empty() && used + total > budget && total <= budget) batches.emplace_back(), used = 0;
    for (size_t r = 0; r < responses.size(); ++r) {
      const int64_t rows = response_rows(responses[r].size());
      const int64_t needed = rows + (open ? 0 : prompt_rows);
      if (batches.empty() || (used > 0 && used + needed > budget)) {
        batches.emplace_back();
        used = 0;
        open = false;
      }
      if (!open) {
        batches.back().push_back({g, r, r});
        used += prompt_rows;
        open = true;
      }
      batches.back().back().end = r + 1;
      used += rows;
    }
  }
  return batches;
}

}  // namespace

ScoreResult score(const Model& model, const std::vector<ScoreGroup>& groups, int64_t max_tokens_per_batch,
                  const CancelFlag& cancelled) {
  TORCH_CHECK_VALUE(max_tokens_per_batch >= 0, "score: maxTokensPerBatch must be >= 0, got ",
                    max_tokens_per_batch);
  const c10::InferenceMode no_grad;
  const DeviceScope scope(model.device, model.weights.emulated);
  const ModelConfig& config = model.weights.config;

  ScoreResult result;
  result.logprobs.resize(groups.size());
  result.token_logprobs.resize(groups.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const auto& response : groups[g].responses) {
      check_length(config, groups[g].prompt_ids, response, "score: group", g);
    }
    result.logprobs[g].resize(groups[g].responses.size());
    result.token_logprobs[g].resize(groups[g].responses.size());
  }

  for (const auto& parts : plan(groups, max_tokens_per_batch == 0 ? kDefaultTokens : max_tokens_per_batch)) {
    if (cancelled && cancelled->load()) throw Cancelled();

    ResponsePack packed;
    for (const Part& part : parts) {
      std::vector<const std::vector<int32_t>*> responses;
      for (size_t r = part.begin; r < part.end; ++r) responses.push_back(&groups[part.group].responses[r]);
      packed.add(groups[part.group].prompt_ids, responses);
    }
    if (packed.targets.empty()) continue;
    const auto hidden_SC = forward(model.weights, packed.pack);
    const auto scored = token_logprobs(hidden_SC, model.weights.head, packed.targets);

    size_t index = 0;
    for (const Part& part : parts) {
      for (size_t r = part.begin; r < part.end; ++r) {
        const ResponseTargets& targets = packed.responses[index++];
        auto& tokens = result.token_logprobs[part.group][r];
        double sum = 0;
        for (int64_t t = 0; t < targets.length; ++t) {
          tokens.push_back(scored.logprobs[static_cast<size_t>(targets.at(t))]);
          sum += tokens.back();
        }
        result.logprobs[part.group][r] = sum;
      }
    }
  }
  return result;
}

}  // namespace cream
