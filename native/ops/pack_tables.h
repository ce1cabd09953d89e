// What the GPU's ops must know of a pack, on the device: made and copied there once per pack, in one piece.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/pack.h"

namespace cream::gpu {

struct PackTables {
  at::Tensor ids;        // [R] int64
  at::Tensor positions;  // [R] int32
  at::Tensor head_rows;  // [S] int64

  // Attention. Each segment is a sequence: its queries are its own rows; its keys are, one after another, its
  // trunk's rows (of a leaf) and its own.
  at::Tensor query_starts, key_starts;  // [segments + 1] int32
  at::Tensor key_rows;             // [keys] int32: the row of each key; undefined when it is its own index
  at::Tensor copy_starts, copies;  // [R + 1], [keys] int32: which keys each row is, in ascending order
  int64_t max_queries = 0, max_keys = 0;
  int64_t num_keys = 0;
};

// The pack's tables on `device`; made at the first call for a pack, which must not change afterwards.
const PackTables& tables_of(const Pack& pack, at::Device device);

}  // namespace cream::gpu
