#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "model/group_plan.h"
#include "model/model.h"
#include "model/response_pack.h"
#include "model/transformer.h"
#include "ops/device.h"

namespace cream {

namespace {

// Tokens up to the last one that is not padding. What comes after it has no influence on it.
int64_t length_of(const std::vector<int32_t>& ids, int64_t pad_id) {
  auto length = static_cast<int64_t>(ids.size());
  while (length > 0 && ids[static_cast<size_t>(length - 1)] == pad_id) --length;
  return length;
}

}  // namespace

std::vector<std::vector<double>> sequence_rewards(const Model& model, const std::vector<ScoreGroup>& groups,
                                                  int64_t pad_id, int64_t max_tokens_per_batch,
                                                  const CancelFlag& cancelled) {
  TORCH_CHECK_VALUE(max_tokens_per_batch >= 0, "rewards: maxTokensPerBatch must be >= 0, got ",
                    max_tokens_per_batch);
  const c10::InferenceMode no_grad;
  const DeviceScope scope(model.device, model.weights.emulated);
  const ModelConfig& config = model.weights.config;
  TORCH_CHECK_VALUE(config.num_labels == 1,
                    "rewards: the model must be a sequence classifier of one label, it has ",
                    config.num_labels);

  std::vector<std::vector<double>> rewards(groups.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const auto& response : groups[g].responses)
      check_length(config, all_positions(groups[g].prompt_ids, response), "rewards: group", g);
    rewards[g].resize(groups[g].responses.size());
  }

  const auto rows = [&](const ScoreGroup& group, size_t r) { return length_of(group.responses[r], pad_id); };
  const at::Tensor head_C = model.weights.head.view({config.hidden_size}).to(at::kDouble);
  for (const auto& parts : plan_groups(groups, max_tokens_per_batch, rows)) {
    if (cancelled && cancelled->load()) throw Cancelled();

    Pack pack;
    std::vector<int64_t> places;  // of every response, among the head rows
    for (const Part& part : parts) {
      const ScoreGroup& group = groups[part.group];
      const int64_t start = pack.num_rows();
      const int64_t trunk =
          pack.add_trunk(group.prompt_ids.data(), static_cast<int64_t>(group.prompt_ids.size()));
      // Where a response is empty or padding alone, the prompt's own last token counts. It must come before
      // the rows of the responses.
      int64_t prompt_place = -1;
      for (size_t r = part.begin; r < part.end && prompt_place < 0; ++r) {
        if (rows(group, r) > 0) continue;
        prompt_place = static_cast<int64_t>(pack.head_rows.size());
        const int64_t length = length_of(group.prompt_ids, pad_id);
        pack.head_rows.push_back(start + (length == 0 ? 0 : length - 1));
      }
      for (size_t r = part.begin; r < part.end; ++r) {
        const int64_t length = rows(group, r);
        if (length == 0) {
          places.push_back(prompt_place);
          continue;
        }
        pack.add_leaf(trunk, group.responses[r].data(), length);
        places.push_back(static_cast<int64_t>(pack.head_rows.size()));
        pack.head_rows.push_back(pack.num_rows() - 1);
      }
    }
    if (places.empty()) continue;
    const at::Tensor logits_S =
        at::mv(forward(model.weights, pack).to(at::kDouble), head_C).cpu().contiguous();
    const double* logits = logits_S.const_data_ptr<double>();
    size_t index = 0;
    for (const Part& part : parts) {
      for (size_t r = part.begin; r < part.end; ++r)
        rewards[part.group][r] = static_cast<double>(static_cast<float>(logits[places[index++]]));
    }
  }
  return rewards;
}

}  // namespace cream
