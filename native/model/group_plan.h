// Prompts with their responses cut into forward passes of bounded size.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "model/model.h"

namespace cream {

// Responses [begin, end) of a group.
struct Part {
  size_t group, begin, end;
};

// Rows that response r of a group costs beside its prompt.
using RowsOf = std::function<int64_t(const ScoreGroup& group, size_t r)>;

// Parts of one forward each. Groups keep their order; a new batch begins when the next response would exceed
// the budget, and a group whose responses do not fit beside its prompt is continued in the next batch. budget
// 0: the engine's choice. Without sharing every response is a part of its own.
std::vector<std::vector<Part>> plan_groups(const std::vector<ScoreGroup>& groups, int64_t budget,
                                           const RowsOf& rows_of, bool share_prompts = true);

}  // namespace cream
