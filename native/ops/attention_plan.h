// Which attention calls cover a pack: segments of like length are batched, alone ones are read in place.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/pack.h"

namespace cream {

// A batch of `count` row runs, each padded to `padded` rows.
struct RowRuns {
  int64_t count = 0;
  int64_t padded = 0;
  std::vector<int64_t> rows;     // first row of each run
  std::vector<int64_t> lengths;  // <= padded

  int64_t row_of(int64_t i) const { return rows[i]; }
  int64_t length_of(int64_t i) const { return lengths[i]; }
  void add(int64_t row, int64_t length);
};

struct AttentionCall {
  RowRuns queries;
  RowRuns keys;       // the same number of runs
  bool causal;        // run i of the queries attends causally to run i of the keys (equal rows)
  bool merge;         // the query rows hold a result already: merge by log-sum-exp
  at::Tensor mask;    // [T, S] float32 of 0 and -inf, or undefined
};

struct AttentionPlan {
  std::vector<AttentionCall> calls;  // in the order in which they must run
};

AttentionPlan plan_attention(const Pack& pack, int64_t window);

// Query i of `length` sees keys (before + i - window, before + i]; [length, before + length] of 0 and -inf.
at::Tensor attention_mask(int64_t length, int64_t before, int64_t window);

// x [R, E] -> [count, padded, E]: a view when the runs are evenly spaced and unpadded, else a copy. Padding
// rows repeat the run's first row, or are zero.
at::Tensor gather_rows(const at::Tensor& x, const RowRuns& runs, bool zero_padding = false);

// Adds d [count, padded, E] to columns [column, column + E) of the runs' rows of x [R, >= E].
void add_rows(at::Tensor& x, const RowRuns& runs, int64_t column, const at::Tensor& d);

}  // namespace cream
