#include "model/response_pack.h"

#include <c10/util/Exception.h>

namespace cream {

void check_length(const ModelConfig& config, int64_t positions, const char* where, size_t index) {
  TORCH_CHECK_VALUE(positions <= config.max_position_embeddings, where, " ", index,
                    ": prompt and response take ", positions, " positions, but the model has ",
                    config.max_position_embeddings, "; shorten or drop it");
}

void ResponsePack::add(const std::vector<int32_t>& prompt,
                       const std::vector<const std::vector<int32_t>*>& group) {
  const auto prompt_length = static_cast<int64_t>(prompt.size());
  const int64_t start = pack.num_rows();
  const bool single = group.size() == 1;

  int64_t trunk = -1;
  if (single) {
    std::vector<int32_t> sequence(prompt);
    const auto& response = *group[0];
    sequence.insert(sequence.end(), response.begin(), response.end() - (response.empty() ? 0 : 1));
    trunk = pack.add_trunk(sequence.data(), static_cast<int64_t>(sequence.size()));
  } else {
    trunk = pack.add_trunk(prompt.data(), prompt_length);
  }

  const auto head_row = static_cast<int64_t>(pack.head_rows.size());
  bool asked = false;
  for (const auto* response : group) {
    const auto length = static_cast<int64_t>(response->size());
    responses.push_back({static_cast<int64_t>(targets.size()), 0, length});
    if (length == 0) continue;
    targets.push_back({head_row, response->front()});
    asked = true;
  }
  if (asked) pack.head_rows.push_back(start + prompt_length - 1);

  size_t index = responses.size() - group.size();
  for (const auto* response : group) {
    ResponseTargets& mine = responses[index++];
    mine.rest = static_cast<int64_t>(targets.size());
    const int64_t rows = response_rows(response->size());
    if (rows == 0) continue;
    if (!single) pack.add_leaf(trunk, response->data(), rows);
    const int64_t first_row = single ? start + prompt_length : pack.num_rows() - rows;
    for (int64_t i = 0; i < rows; ++i) {
      targets.push_back(
          {static_cast<int64_t>(pack.head_rows.size()), (*response)[static_cast<size_t>(i) + 1]});
      pack.head_rows.push_back(first_row + i);
    }
  }
}

}  // namespace cream
