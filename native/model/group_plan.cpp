#include "model/group_plan.h"

namespace cream {

namespace {

// Rows per forward when the caller names none: the matrix products are at their best speed, and the widest
// activation of a 100 M model stays under 70 MB.
constexpr int64_t kDefaultTokens = 4096;

}  // namespace

std::vector<std::vector<Part>> plan_groups(const std::vector<ScoreGroup>& groups, int64_t budget,
                                           const RowsOf& rows_of, bool share_prompts) {
  if (budget == 0) budget = kDefaultTokens;
  std::vector<std::vector<Part>> batches;
  int64_t used = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto& [prompt, responses] = groups[g];
    const auto prompt_rows = static_cast<int64_t>(prompt.size());
    int64_t total = prompt_rows;
    for (size_t r = 0; r < responses.size(); ++r) total += rows_of(groups[g], r);

    bool open = false;  // the current batch holds a part of this group
    const bool keep_together = share_prompts && total <= budget;
    if (!batches.empty() && used + total > budget && keep_together) batches.emplace_back(), used = 0;
    for (size_t r = 0; r < responses.size(); ++r) {
      if (!share_prompts) open = false;
      const int64_t rows = rows_of(groups[g], r);
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

}  // namespace cream
