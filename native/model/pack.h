// Token sequences laid end to end without padding: "packed". Sequences that share a prompt are stored as a
// trunk (the prompt, once) and its leaves (what follows the prompt), so that the prompt is computed once.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace cream {

namespace gpu {
struct PackTables;
}

// A run of consecutive rows. A trunk (prefix = -1) attends to itself causally. A leaf attends to all rows
// of its trunk and to itself causally; its first position is the trunk's length. The leaves of a trunk
// follow it directly, in order, and a leaf has no leaves.
struct Segment {
  int64_t row = 0;      // first row in the pack
  int64_t length = 0;   // >= 1
  int64_t prefix = -1;  // index of the trunk among the pack's segments
};

struct Pack {
  std::vector<int64_t> ids;        // [R] token ids
  std::vector<int32_t> positions;  // [R] position of each row in its sequence (trunk length + offset)
  std::vector<Segment> segments;
  std::vector<int64_t> head_rows;  // [S] strictly ascending rows whose final hidden state is wanted

  // Training of an adapter: thinning of its inputs. No effect without an adapter.
  double dropout = 0;
  uint64_t dropout_key = 0;
  int64_t first_row = 0;  // rows of the batch before this pack

  // Of a finished pack: what ops on a GPU need of it there (ops/pack_tables.h).
  mutable std::shared_ptr<const gpu::PackTables> tables;

  int64_t num_rows() const { return static_cast<int64_t>(ids.size()); }
  // Appends a segment and returns its index; ids are copied.
  int64_t add_trunk(const int32_t* ids, int64_t length);
  int64_t add_leaf(int64_t trunk, const int32_t* ids, int64_t length);
};

}  // namespace cream
