#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "model/group_plan.h"
#include "model/model.h"
#include "model/response_pack.h"
#include "model/transformer.h"
#include "ops/device.h"
#include "ops/token_logprobs.h"

namespace cream {

ScoreResult score(const Model& model, const std::vector<ScoreGroup>& groups, int64_t max_tokens_per_batch,
                  const CancelFlag& cancelled, bool share_prompts) {
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
      // The last token is asked for and not read.
      const auto prompt = static_cast<int64_t>(groups[g].prompt_ids.size());
      check_length(config, prompt + response_rows(response.size()), "score: group", g);
    }
    result.logprobs[g].resize(groups[g].responses.size());
    result.token_logprobs[g].resize(groups[g].responses.size());
  }

  const auto rows = [](const ScoreGroup& group, size_t r) {
    return response_rows(group.responses[r].size());
  };
  for (const auto& parts : plan_groups(groups, max_tokens_per_batch, rows, share_prompts)) {
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
