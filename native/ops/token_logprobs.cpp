#include "ops/token_logprobs.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/gpu.h"
#include "ops/linear.h"
#include "ops/phases.h"
#include "ops/token_logprobs_tiled.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

// Refuses what does not fit together, and puts in the device's own chunk where none was named.
void check(const at::Tensor& hidden, const at::Tensor& head, const std::vector<Target>& targets,
           int64_t& chunk_rows) {
  if (chunk_rows == kAutoChunk) chunk_rows = gpu::active(hidden) ? 4096 : 512;
  TORCH_CHECK_VALUE(hidden.dim() == 2 && head.dim() == 2 && hidden.size(1) == head.size(1),
                    "token_logprobs: hidden must be [S, C] and head [V, C], got ", hidden.sizes(), " and ",
                    head.sizes());
  TORCH_CHECK_VALUE(hidden.scalar_type() == head.scalar_type() &&
                        (head.scalar_type() == at::kFloat || head.scalar_type() == at::kBFloat16),
                    "token_logprobs: hidden and head must be both float32 or both bfloat16, got ",
                    hidden.scalar_type(), " and ", head.scalar_type());
  TORCH_CHECK_VALUE(chunk_rows >= 1, "token_logprobs: chunk_rows must be >= 1, got ", chunk_rows);
  int64_t previous = 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    TORCH_CHECK_VALUE(targets[i].row >= previous && targets[i].row < hidden.size(0),
                      "token_logprobs: target ", i, " must have a row in [", previous, ", ", hidden.size(0),
                      "), got ", targets[i].row);
    TORCH_CHECK_VALUE(targets[i].token >= 0 && targets[i].token < head.size(0), "token_logprobs: target ", i,
                      " must be a token in [0, ", head.size(0), "), got ", targets[i].token);
    previous = targets[i].row;
  }
}

float log_sum_exp(const float* row, int64_t size) {
  constexpr int64_t kBlock = 1024;  // float32 sums stay short; their total is float64
  float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
  for (int64_t v = 0; v < size; ++v) top = std::max(top, row[v]);

  double sum = 0;
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, size);
    float partial = 0;
#pragma omp simd reduction(+ : partial)
    for (int64_t v = begin; v < end; ++v) partial += fast_exp(row[v] - top);
    sum += partial;
  }
  return top + static_cast<float>(std::log(sum));
}

// row = scale * exp(row - lse)
void scale_softmax(float* row, int64_t size, float lse, float scale) {
#pragma omp simd
  for (int64_t v = 0; v < size; ++v) row[v] = scale * fast_exp(row[v] - lse);
}

// First target of each row of [begin, end), and one past the last target: size end - begin + 1.
std::vector<size_t> row_targets(const std::vector<Target>& targets, int64_t begin, int64_t end) {
  std::vector<size_t> starts;
  auto at = std::lower_bound(targets.begin(), targets.end(), begin,
                             [](const Target& target, int64_t row) { return target.row < row; });
  for (int64_t row = begin; row <= end; ++row) {
    while (at != targets.end() && at->row < row) ++at;
    starts.push_back(static_cast<size_t>(at - targets.begin()));
  }
  return starts;
}

std::vector<int64_t> all_row_targets(const std::vector<Target>& targets, int64_t rows) {
  const auto starts = row_targets(targets, 0, rows);
  return {starts.begin(), starts.end()};
}

// Calls body(begin, end, logits [end - begin, V]) for each chunk of rows; one buffer serves all chunks.
// Logits are float32 for bfloat16 operands too: rounding them would move log-probs by up to 0.03.
template <typename Body>
void for_chunks(const at::Tensor& hidden, const at::Tensor& head, int64_t chunk_rows, const Body& body) {
  const int64_t rows = hidden.size(0);
  const auto buffer = at::empty({std::min(chunk_rows, rows), head.size(0)}, at::kFloat);
  for (int64_t begin = 0; begin < rows; begin += chunk_rows) {
    const int64_t end = std::min(begin + chunk_rows, rows);
    auto logits = buffer.narrow(0, 0, end - begin);
    cream::linear_out(logits, hidden.narrow(0, begin, end - begin), head);
    body(begin, end, logits);
  }
}

}  // namespace

TokenLogprobs token_logprobs(const at::Tensor& hidden, const at::Tensor& head,
                             const std::vector<Target>& targets, int64_t chunk_rows) {
  const PhaseScope phase(Phase::kHead, hidden.device());
  check(hidden, head, targets, chunk_rows);
  if (gpu::active(hidden)) {
    return gpu::token_logprobs(hidden, head, targets, all_row_targets(targets, hidden.size(0)), chunk_rows);
  }
  if (tiled_head_supports(hidden, head)) return token_logprobs_tiled(hidden, head, targets, chunk_rows);

  const int64_t vocab = head.size(0);
  TokenLogprobs result;
  result.logprobs.resize(targets.size());
  result.lse.resize(static_cast<size_t>(hidden.size(0)));
  for_chunks(hidden, head, chunk_rows, [&](int64_t begin, int64_t end, const at::Tensor& logits) {
    const auto starts = row_targets(targets, begin, end);
    const auto* data = logits.const_data_ptr<float>();
    at::parallel_for(0, end - begin, 1, [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r) {
        const float* row = data + r * vocab;
        const float lse = log_sum_exp(row, vocab);
        result.lse[static_cast<size_t>(begin + r)] = lse;
        for (size_t i = starts[static_cast<size_t>(r)]; i < starts[static_cast<size_t>(r) + 1]; ++i) {
          result.logprobs[i] = row[targets[i].token] - lse;
        }
      }
    });
  });
  return result;
}

at::Tensor token_logprobs_backward(const at::Tensor& hidden, const at::Tensor& head,
                                   const std::vector<Target>& targets, const std::vector<float>& weights,
                                   const std::vector<float>& lse, at::Tensor d_head, int64_t chunk_rows,
                                   bool overwrite) {
  const PhaseScope phase(Phase::kHead, hidden.device());
  check(hidden, head, targets, chunk_rows);
  TORCH_CHECK_VALUE(weights.size() == targets.size(), "token_logprobs_backward: there must be ",
                    targets.size(), " weights, one per target, got ", weights.size());
  TORCH_CHECK_VALUE(static_cast<int64_t>(lse.size()) == hidden.size(0),
                    "token_logprobs_backward: lse must have one value per row (", hidden.size(0), "), got ",
                    lse.size());
  TORCH_CHECK_VALUE(
      !d_head.defined() || (d_head.sizes() == head.sizes() &&
                            (d_head.scalar_type() == at::kFloat ||
                             (gpu::active(hidden) && d_head.scalar_type() == hidden.scalar_type()))),
      "token_logprobs_backward: d_head must be float32 ", head.sizes(), ", got ", d_head.scalar_type(), " ",
      d_head.sizes());
  if (gpu::active(hidden)) {
    return gpu::token_logprobs_backward(hidden, head, targets, all_row_targets(targets, hidden.size(0)),
                                        weights, lse, d_head, chunk_rows, overwrite);
  }
  if (overwrite && d_head.defined()) d_head.zero_();
  if (tiled_head_supports(hidden, head)) {
    return token_logprobs_tiled_backward(hidden, head, targets, weights, lse, d_head, chunk_rows);
  }

  const int64_t vocab = head.size(0);
  auto d_hidden = at::empty_like(hidden);
  for_chunks(hidden, head, chunk_rows, [&](int64_t begin, int64_t end, const at::Tensor& logits) {
    const auto starts = row_targets(targets, begin, end);
    float* data = logits.data_ptr<float>();
    at::parallel_for(0, end - begin, 1, [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r) {
        float* row = data + r * vocab;
        const size_t first = starts[static_cast<size_t>(r)], last = starts[static_cast<size_t>(r) + 1];
        float total = 0;
        for (size_t i = first; i < last; ++i) total += weights[i];
        scale_softmax(row, vocab, lse[static_cast<size_t>(begin + r)], -total);
        for (size_t i = first; i < last; ++i) row[targets[i].token] += weights[i];
      }
    });
    d_hidden.narrow(0, begin, end - begin).copy_(linear_backward_input(logits, head));
    if (d_head.defined()) linear_backward_weight(logits, hidden.narrow(0, begin, end - begin), d_head);
  });
  return d_hidden;
}

at::Tensor token_logprobs_reference(const at::Tensor& hidden, const at::Tensor& head,
                                    const std::vector<Target>& targets) {
  int64_t whole = 1;
  check(hidden, head, targets, whole);
  std::vector<int64_t> rows, tokens;
  for (const Target& target : targets) {
    rows.push_back(target.row);
    tokens.push_back(target.token);
  }
  const auto logits = at::mm(hidden.to(at::kDouble), head.to(at::kDouble).t());
  const auto index = at::tensor(rows, at::kLong), column = at::tensor(tokens, at::kLong);
  return at::log_softmax(logits, -1)
      .index_select(0, index)
      .gather(1, column.unsqueeze(1))
      .squeeze(1)
      .to(at::kFloat);
}

}  // namespace cream
