#include "ops/token_logprobs_tiled.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/bfloat16_tiles.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

using c10::BFloat16;
namespace blas = at::native::cpublas;

// Tiles hold logits transposed, [vocabulary, rows]: the head's rows are the left operand as they lie in
// memory, the softmax runs down the columns in full vectors, and the tile is the left operand of the head's
// gradient.
constexpr int64_t kForwardTile = 64;    // tokens; with 512 rows 128 KiB of logits
constexpr int64_t kBackwardTile = 256;  // tokens; long enough sums for the gradient by the hidden states

// hidden [rows, width] as right operand [K = width, N = padded]; missing rows are zero.
void pack_transposed(const BFloat16* hidden, int64_t rows, int64_t width, int64_t padded, BFloat16* out) {
  const auto* pairs = reinterpret_cast<const uint32_t*>(hidden);
  auto* to = reinterpret_cast<uint32_t*>(out);
  constexpr int64_t kBlock = 16;
  at::parallel_for(0, width / 2, kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t r0 = 0; r0 < padded; r0 += kBlock) {
      for (int64_t k = begin; k < end; ++k) {
        for (int64_t r = r0; r < r0 + kBlock; ++r)
          to[k * padded + r] = r < rows ? pairs[r * (width / 2) + k] : 0;
      }
    }
  });
}

// Targets of rows [begin, end), by token: a tile finds those of its tokens together.
std::vector<size_t> by_token(const std::vector<Target>& targets, int64_t begin, int64_t end) {
  const auto row_less = [](const Target& target, int64_t row) { return target.row < row; };
  const auto first = std::lower_bound(targets.begin(), targets.end(), begin, row_less);
  const auto last = std::lower_bound(first, targets.end(), end, row_less);
  std::vector<size_t> order;
  for (auto at = first; at != last; ++at) order.push_back(static_cast<size_t>(at - targets.begin()));
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return targets[a].token < targets[b].token; });
  return order;
}

// Calls body(i) for the targets whose token lies in [begin, end).
template <typename Body>
void for_tokens(const std::vector<Target>& targets, const std::vector<size_t>& order, int64_t begin,
                int64_t end, const Body& body) {
  auto at = std::lower_bound(order.begin(), order.end(), begin,
                             [&](size_t i, int64_t token) { return targets[i].token < token; });
  for (; at != order.end() && targets[*at].token < end; ++at) body(*at);
}

// Running softmax statistics of `padded` rows over part of the vocabulary.
struct Statistics {
  std::vector<float> max, sum;
  explicit Statistics(int64_t padded)
      : max(static_cast<size_t>(padded), -std::numeric_limits<float>::infinity()),
        sum(static_cast<size_t>(padded), 0) {}

  // tile [count, padded]
  void add(const float* tile, int64_t count, int64_t padded, float* scratch) {
    float* top = scratch;
    float* partial = scratch + padded;
    std::copy_n(max.data(), padded, top);
    for (int64_t v = 0; v < count; ++v) {
      const float* row = tile + v * padded;
#pragma omp simd
      for (int64_t r = 0; r < padded; ++r) top[r] = row[r] > top[r] ? row[r] : top[r];
    }
    std::fill_n(partial, padded, 0.0f);
    for (int64_t v = 0; v < count; ++v) {
      const float* row = tile + v * padded;
#pragma omp simd
      for (int64_t r = 0; r < padded; ++r) partial[r] += fast_exp(row[r] - top[r]);
    }
    for (int64_t r = 0; r < padded; ++r) {
      sum[r] = sum[r] * fast_exp(max[r] - top[r]) + partial[r];
      max[r] = top[r];
    }
  }
};

// dlogits^T = weight-scaled softmax, still without the targets' own terms, in place.
void scale_softmax(float* tile, int64_t count, int64_t padded, const float* lse, const float* scale) {
  for (int64_t v = 0; v < count; ++v) {
    float* row = tile + v * padded;
#pragma omp simd
    for (int64_t r = 0; r < padded; ++r) row[r] = scale[r] * fast_exp(row[r] - lse[r]);
  }
}

// tile [count, padded] rounded to bfloat16: as it is (transposed [count, padded]) and with rows first
// (straight [padded, stride], tokens beyond count zero).
void round_tile(const float* tile, int64_t count, int64_t padded, int64_t stride, BFloat16* transposed,
                BFloat16* straight) {
  for (int64_t v = 0; v < count; ++v) {
#pragma omp simd
    for (int64_t r = 0; r < padded; ++r) {
      transposed[v * padded + r] = from_float<BFloat16>(tile[v * padded + r]);
    }
  }
  const auto* from = reinterpret_cast<const uint16_t*>(transposed);
  auto* to = reinterpret_cast<uint32_t*>(straight);
  constexpr int64_t kBlock = 16;
  for (int64_t v0 = 0; v0 < stride; v0 += 2 * kBlock) {
    for (int64_t r = 0; r < padded; ++r) {
      for (int64_t v = v0; v < std::min(v0 + 2 * kBlock, stride); v += 2) {
        const uint32_t low = v < count ? from[v * padded + r] : 0;
        const uint32_t high = v + 1 < count ? from[(v + 1) * padded + r] : 0;
        to[(r * stride + v) / 2] = low | high << 16;
      }
    }
  }
}

// Parts of the vocabulary, one per thread, in whole tiles.
int64_t part_size(int64_t vocab, int64_t tile) {
  return align((vocab + at::get_num_threads() - 1) / at::get_num_threads(), tile);
}

}  // namespace

bool tiled_head_supports(const at::Tensor& hidden, const at::Tensor& head) {
  return has_bfloat16_tiles() && head.scalar_type() == at::kBFloat16 && head.device().is_cpu() &&
         head.size(1) % 2 == 0 && head.is_contiguous() && hidden.is_contiguous();
}

TokenLogprobs token_logprobs_tiled(const at::Tensor& hidden, const at::Tensor& head,
                                   const std::vector<Target>& targets, int64_t chunk_rows) {
  const int64_t num_rows = hidden.size(0), width = hidden.size(1), vocab = head.size(0);
  const auto* head_data = head.const_data_ptr<BFloat16>();
  TokenLogprobs result;
  result.logprobs.resize(targets.size());
  result.lse.resize(static_cast<size_t>(num_rows));

  const int64_t most = align(std::min(chunk_rows, num_rows), kRowAlignment);
  const int64_t part = part_size(vocab, kForwardTile);
  const int64_t parts = (vocab + part - 1) / part;
  std::vector<BFloat16> packed(static_cast<size_t>(most * width));
  for (int64_t begin = 0; begin < num_rows; begin += chunk_rows) {
    const int64_t rows = std::min(chunk_rows, num_rows - begin);
    const int64_t padded = align(rows, kRowAlignment);
    const auto order = by_token(targets, begin, begin + rows);
    pack_transposed(hidden.const_data_ptr<BFloat16>() + begin * width, rows, width, padded, packed.data());

    std::vector<Statistics> statistics(static_cast<size_t>(parts), Statistics(padded));
    at::parallel_for(0, parts, 1, [&](int64_t from, int64_t to) {
      std::vector<float> tile(static_cast<size_t>(kForwardTile * padded)),
          scratch(static_cast<size_t>(2 * padded));
      for (int64_t p = from; p < to; ++p) {
        for (int64_t v = p * part; v < std::min(vocab, (p + 1) * part); v += kForwardTile) {
          const int64_t count = std::min(kForwardTile, vocab - v);
          blas::brgemm(count, padded, width, width, padded, padded, false, head_data + v * width,
                       packed.data(), tile.data());
          statistics[static_cast<size_t>(p)].add(tile.data(), count, padded, scratch.data());
          for_tokens(targets, order, v, v + count, [&](size_t i) {
            result.logprobs[i] =
                tile[static_cast<size_t>((targets[i].token - v) * padded + targets[i].row - begin)];
          });
        }
      }
      blas::brgemm_release();
    });

    for (int64_t r = 0; r < rows; ++r) {
      const auto at = static_cast<size_t>(r);
      float top = -std::numeric_limits<float>::infinity();
      for (const auto& mine : statistics) top = std::max(top, mine.max[at]);
      double sum = 0;
      for (const auto& mine : statistics)
        sum += static_cast<double>(mine.sum[at]) * std::exp(double(mine.max[at]) - top);
      result.lse[static_cast<size_t>(begin + r)] = top + static_cast<float>(std::log(sum));
    }
  }
  for (size_t i = 0; i < targets.size(); ++i)
    result.logprobs[i] -= result.lse[static_cast<size_t>(targets[i].row)];
  return result;
}

at::Tensor token_logprobs_tiled_backward(const at::Tensor& hidden, const at::Tensor& head,
                                         const std::vector<Target>& targets,
                                         const std::vector<float>& weights, const std::vector<float>& lse,
                                         at::Tensor d_head, int64_t chunk_rows) {
  const int64_t num_rows = hidden.size(0), width = hidden.size(1), vocab = head.size(0);
  const auto* head_data = head.const_data_ptr<BFloat16>();
  auto* d_head_data = d_head.defined() ? d_head.data_ptr<float>() : nullptr;
  auto d_hidden = at::empty_like(hidden);

  const int64_t most = align(std::min(chunk_rows, num_rows), kRowAlignment);
  const int64_t part = part_size(vocab, kBackwardTile);
  const int64_t parts = (vocab + part - 1) / part;
  std::vector<BFloat16> packed(static_cast<size_t>(most * width)),
      packed_rows(static_cast<size_t>(most * width));
  const auto sums = at::empty({parts, most, width}, at::kFloat);  // gradient by the hidden states, per part
  for (int64_t begin = 0; begin < num_rows; begin += chunk_rows) {
    const int64_t rows = std::min(chunk_rows, num_rows - begin);
    const int64_t padded = align(rows, kRowAlignment);
    const auto order = by_token(targets, begin, begin + rows);
    const auto* hidden_data = hidden.const_data_ptr<BFloat16>() + begin * width;
    pack_transposed(hidden_data, rows, width, padded, packed.data());
    pack_rows(hidden_data, rows, width, width, padded, packed_rows.data());

    std::vector<float> scale(static_cast<size_t>(padded), 0), row_lse(static_cast<size_t>(padded), 0);
    std::copy_n(lse.begin() + begin, rows, row_lse.begin());
    for (const size_t i : order) scale[static_cast<size_t>(targets[i].row - begin)] -= weights[i];

    at::parallel_for(0, parts, 1, [&](int64_t from, int64_t to) {
      std::vector<float> tile(static_cast<size_t>(kBackwardTile * padded));
      std::vector<BFloat16> transposed(tile.size()), straight(tile.size());
      std::vector<BFloat16> packed_head(static_cast<size_t>(kBackwardTile * width));
      for (int64_t p = from; p < to; ++p) {
        float* sum = sums.data_ptr<float>() + p * most * width;
        for (int64_t v = p * part; v < std::min(vocab, (p + 1) * part); v += kBackwardTile) {
          const int64_t count = std::min(kBackwardTile, vocab - v);
          const int64_t even = align(count, 2);
          blas::brgemm(count, padded, width, width, padded, padded, false, head_data + v * width,
                       packed.data(), tile.data());
          scale_softmax(tile.data(), count, padded, row_lse.data(), scale.data());
          for_tokens(targets, order, v, v + count, [&](size_t i) {
            tile[static_cast<size_t>((targets[i].token - v) * padded + targets[i].row - begin)] += weights[i];
          });
          round_tile(tile.data(), count, padded, even, transposed.data(), straight.data());
          if (d_head_data != nullptr) {
            blas::brgemm(count, width, padded, padded, width, width, true, transposed.data(),
                         packed_rows.data(), d_head_data + v * width);
          }
          pack_rows(head_data + v * width, count, width, width, even, packed_head.data());
          blas::brgemm(padded, width, even, even, width, width, v > p * part, straight.data(),
                       packed_head.data(), sum);
        }
      }
      blas::brgemm_release();
    });

    auto* out = d_hidden.data_ptr<BFloat16>() + begin * width;
    const float* first = sums.const_data_ptr<float>();
    at::parallel_for(0, rows * width, 4096, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        float total = first[i];
        for (int64_t p = 1; p < parts; ++p) total += first[p * most * width + i];
        out[i] = from_float<BFloat16>(total);
      }
    });
  }
  return d_hidden;
}

}  // namespace cream
