#include "model/pack.h"

#include <c10/util/Exception.h>

namespace cream {

namespace {

int64_t append(Pack& pack, const int32_t* ids, int64_t length, int64_t first_position, int64_t prefix) {
  TORCH_CHECK(length >= 1, "pack: a segment needs at least one row");
  TORCH_CHECK(pack.tables == nullptr, "pack: it is in use");
  pack.segments.push_back({pack.num_rows(), length, prefix});
  for (int64_t i = 0; i < length; ++i) {
    pack.ids.push_back(ids[i]);
    pack.positions.push_back(static_cast<int32_t>(first_position + i));
  }
  return static_cast<int64_t>(pack.segments.size()) - 1;
}

}  // namespace

int64_t Pack::add_trunk(const int32_t* trunk_ids, int64_t length) {
  return append(*this, trunk_ids, length, 0, -1);
}

int64_t Pack::add_leaf(int64_t trunk, const int32_t* leaf_ids, int64_t length) {
  const auto last = segments.empty() ? Segment{} : segments.back();
  const bool follows =
      !segments.empty() && (last.prefix == trunk || static_cast<int64_t>(segments.size()) - 1 == trunk);
  TORCH_CHECK(follows && segments[trunk].prefix < 0, "pack: a leaf must follow its trunk or a sibling");
  return append(*this, leaf_ids, length, segments[trunk].length, trunk);
}

}  // namespace cream
