#include "ops/attention_plan.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "ops/dispatch.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

// Runs are batched while padding wastes at most an eighth of the longest, and a batch holds at most this
// many rows, so that its padded copies stay small.
constexpr int64_t kMaxBatchRows = 8192;

bool fits(const RowRuns& runs, int64_t length) {
  return length == runs.padded || (length >= runs.padded - runs.padded / 8 && length >= 16);
}

// One call with an explicit mask per segment whose context is longer than the window.
void plan_windowed(const Pack& pack, const Segment& segment, int64_t window, AttentionPlan& plan);

// Batches pairs of (query run, key run) of like lengths. Sorted by length, ties by row: a fixed order.
struct Run {
  int64_t query_row, query_length, key_row, key_length;
};

void add_batches(std::vector<Run> runs, bool causal, bool merge, AttentionPlan& plan) {
  std::stable_sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) {
    return a.key_length != b.key_length ? a.key_length > b.key_length : a.query_length > b.query_length;
  });
  AttentionCall call{{}, {}, causal, merge, {}};
  const auto flush = [&] {
    if (call.queries.count > 0) plan.calls.push_back(std::move(call));
    call = AttentionCall{{}, {}, causal, merge, {}};
  };
  for (const auto& run : runs) {
    // Padding keys are safe only where causality hides them from every real query.
    const bool keys_match = causal ? true : run.key_length == call.keys.padded;
    const bool fits_batch = call.queries.count > 0 && keys_match && fits(call.queries, run.query_length) &&
                            (call.queries.count + 1) * std::max(call.queries.padded, call.keys.padded) <= kMaxBatchRows;
    if (!fits_batch) flush();
    call.queries.add(run.query_row, run.query_length);
    call.keys.add(run.key_row, run.key_length);
  }
  flush();
}

}  // namespace

void RowRuns::add(int64_t row, int64_t length) {
  ++count;
  padded = std::max(padded, length);
  rows.push_back(row);
  lengths.push_back(length);
}

at::Tensor attention_mask(int64_t length, int64_t before, int64_t window) {
  at::Tensor mask = at::zeros({length, before + length}, at::kFloat);
  float* values = mask.data_ptr<float>();
  for (int64_t i = 0; i < length; ++i) {
    for (int64_t j = 0; j < before + length; ++j) {
      const bool seen = j <= before + i && (window == 0 || j > before + i - window);
      if (!seen) values[i * (before + length) + j] = -std::numeric_limits<float>::infinity();
    }
  }
  return mask;
}

AttentionPlan plan_attention(const Pack& pack, int64_t window) {
  AttentionPlan plan;
  std::vector<Run> own, prefixed;
  for (size_t i = 0; i < pack.segments.size(); ++i) {
    const auto& segment = pack.segments[i];
    const int64_t before = segment.prefix < 0 ? 0 : pack.segments[segment.prefix].length;
    if (window > 0 && before + segment.length > window) {
      plan_windowed(pack, segment, window, plan);
      continue;
    }
    own.push_back({segment.row, segment.length, segment.row, segment.length});
    if (segment.prefix < 0) continue;
    const auto& trunk = pack.segments[segment.prefix];
    // Siblings follow each other: one run of queries for all of them.
    if (!prefixed.empty() && prefixed.back().key_row == trunk.row &&
        prefixed.back().query_row + prefixed.back().query_length == segment.row) {
      prefixed.back().query_length += segment.length;
    } else {
      prefixed.push_back({segment.row, segment.length, trunk.row, trunk.length});
    }
  }
  add_batches(std::move(own), /*causal=*/true, /*merge=*/false, plan);
  add_batches(std::move(prefixed), /*causal=*/false, /*merge=*/true, plan);
  return plan;
}

namespace {

void plan_windowed(const Pack& pack, const Segment& segment, int64_t window, AttentionPlan& plan) {
  AttentionCall call{{}, {}, /*causal=*/false, /*merge=*/false, {}};
  call.queries.add(segment.row, segment.length);
  const auto own_mask = attention_mask(segment.length, 0, window);
  if (segment.prefix < 0) {
    call.keys.add(segment.row, segment.length);
    call.mask = own_mask;
    plan.calls.push_back(std::move(call));
    return;
  }
  const auto& trunk = pack.segments[segment.prefix];
  const auto mask = attention_mask(segment.length, trunk.length, window);
  call.keys.add(segment.row, segment.length);
  call.mask = own_mask;
  plan.calls.push_back(call);

  // Queries past the window see nothing of the trunk: only the first ones take part.
  const int64_t seeing = std::min(segment.length, window - 1);
  if (seeing <= 0) return;
  AttentionCall prefix{{}, {}, /*causal=*/false, /*merge=*/true, {}};
  prefix.queries.add(segment.row, seeing);
  prefix.keys.add(trunk.row, trunk.length);
  prefix.mask = mask.narrow(0, 0, seeing).narrow(1, 0, trunk.length).contiguous();
  plan.calls.push_back(std::move(prefix));
}

bool evenly_spaced(const RowRuns& runs) {
  const int64_t step = runs.count > 1 ? runs.rows[1] - runs.rows[0] : 1;
  if (step <= 0) return false;
  for (int64_t i = 0; i < runs.count; ++i) {
    if (runs.lengths[i] != runs.padded || runs.rows[i] != runs.rows[0] + i * step) return false;
  }
  return true;
}

}  // namespace

at::Tensor gather_rows(const at::Tensor& x, const RowRuns& runs, bool zero_padding) {
  const int64_t width = x.size(1);
  if (evenly_spaced(runs)) {
    const int64_t step = runs.count > 1 ? runs.rows[1] - runs.rows[0] : 0;
    return x.as_strided({runs.count, runs.padded, width}, {step * x.stride(0), x.stride(0), 1},
                        x.storage_offset() + runs.rows[0] * x.stride(0));
  }
  at::Tensor out = at::empty({runs.count, runs.padded, width}, x.options());
  const auto* from = static_cast<const char*>(x.const_data_ptr());
  auto* to = static_cast<char*>(out.data_ptr());
  const int64_t row_bytes = width * static_cast<int64_t>(x.element_size());
  const int64_t stride_bytes = x.stride(0) * static_cast<int64_t>(x.element_size());
  at::parallel_for(0, runs.count * runs.padded, row_grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t run = i / runs.padded;
      const int64_t offset = i % runs.padded;
      const bool padding = offset >= runs.lengths[run];
      if (padding && zero_padding) {
        std::memset(to + i * row_bytes, 0, row_bytes);
      } else {
        std::memcpy(to + i * row_bytes, from + (runs.rows[run] + (padding ? 0 : offset)) * stride_bytes, row_bytes);
      }
    }
  });
  return out;
}

void add_rows(at::Tensor& x, const RowRuns& runs, int64_t column, const at::Tensor& d) {
  const at::Tensor rows = d.contiguous();
  const int64_t width = rows.size(2);
  with_dtype(x.scalar_type(), "add_rows", [&](auto zero) {
    using T = decltype(zero);
    T* to = x.data_ptr<T>();
    const T* from = rows.const_data_ptr<T>();
    at::parallel_for(0, runs.count * runs.padded, row_grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t run = i / runs.padded;
        if (i % runs.padded >= runs.lengths[run]) continue;
        T* y = to + (runs.rows[run] + i % runs.padded) * x.stride(0) + column;
        const T* dy = from + i * width;
#pragma omp simd
        for (int64_t c = 0; c < width; ++c) y[c] = from_float<T>(to_float(y[c]) + to_float(dy[c]));
      }
    });
  });
}

}  // namespace cream
