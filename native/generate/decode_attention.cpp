#include "generate/decode_attention.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <limits>

#include "ops/dispatch.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

constexpr int64_t kMaxSiblings = 16;  // rows of one task; more siblings make several tasks

// scores[m][16 n ..] = q[m] . keys of block n, for M rows and N blocks.
template <typename T, int M, int N>
void score_tile(const float* q, const T* keys, int64_t head_dim, float* scores, int64_t stride) {
  Floats sums[M][N] = {};
  const int64_t block = head_dim * kBlockTokens;
  for (int64_t d = 0; d < head_dim; ++d) {
    for (int n = 0; n < N; ++n) {
      const Floats key = load16(keys + n * block + d * kBlockTokens);
      for (int m = 0; m < M; ++m) sums[m][n] += splat(q[m * head_dim + d]) * key;
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int n = 0; n < N; ++n) store16(scores + m * stride + n * kBlockTokens, sums[m][n]);
  }
}

// M rows against all blocks, N at a time: M x N independent sums hide the latency of the multiply-add.
template <typename T, int M, int N>
void score_rows(const float* q, const T* keys, int64_t num_blocks, int64_t head_dim, float* scores,
                int64_t stride) {
  const int64_t block = head_dim * kBlockTokens;
  int64_t b = 0;
  for (; b + N <= num_blocks; b += N) {
    score_tile<T, M, N>(q, keys + b * block, head_dim, scores + b * kBlockTokens, stride);
  }
  if constexpr (N > 1) {
    if (b < num_blocks) {
      score_rows<T, M, N / 2>(q, keys + b * block, num_blocks - b, head_dim, scores + b * kBlockTokens,
                              stride);
    }
  }
}

template <typename T>
void score(const float* q, int64_t rows, const T* keys, int64_t num_blocks, int64_t head_dim, float* scores,
           int64_t stride) {
  while (rows > 0) {
    const int64_t step = rows >= 8 ? 8 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
    switch (step) {
      case 8:
        score_rows<T, 8, 1>(q, keys, num_blocks, head_dim, scores, stride);
        break;
      case 4:
        score_rows<T, 4, 2>(q, keys, num_blocks, head_dim, scores, stride);
        break;
      case 2:
        score_rows<T, 2, 4>(q, keys, num_blocks, head_dim, scores, stride);
        break;
      default:
        score_rows<T, 1, 8>(q, keys, num_blocks, head_dim, scores, stride);
        break;
    }
    q += step * head_dim;
    scores += step * stride;
    rows -= step;
  }
}

// out[m][16 c ..] += sum over tokens of p[m][token] * values[token][16 c ..], M rows and C chunks.
template <typename T, int M, int C>
void mix_tile(const float* p, int64_t stride, const T* values, int64_t tokens, int64_t padded_dim,
              float* out) {
  Floats sums[M][C];
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < C; ++c) sums[m][c] = load16(out + m * padded_dim + c * kLanes);
  }
  for (int64_t t = 0; t < tokens; ++t) {
    for (int c = 0; c < C; ++c) {
      const Floats value = load16(values + t * padded_dim + c * kLanes);
      for (int m = 0; m < M; ++m) sums[m][c] += splat(p[m * stride + t]) * value;
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < C; ++c) store16(out + m * padded_dim + c * kLanes, sums[m][c]);
  }
}

template <typename T, int M>
void mix_rows(const float* p, int64_t stride, const T* values, int64_t tokens, int64_t padded_dim,
              float* out) {
  int64_t d = 0;
  for (; d + 4 * kLanes <= padded_dim; d += 4 * kLanes) {
    mix_tile<T, M, 4>(p, stride, values + d, tokens, padded_dim, out + d);
  }
  for (; d < padded_dim; d += kLanes) mix_tile<T, M, 1>(p, stride, values + d, tokens, padded_dim, out + d);
}

template <typename T>
void mix(const float* p, int64_t stride, int64_t rows, const T* values, int64_t tokens, int64_t padded_dim,
         float* out) {
  while (rows > 0) {
    const int64_t step = rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
    switch (step) {
      case 4:
        mix_rows<T, 4>(p, stride, values, tokens, padded_dim, out);
        break;
      case 2:
        mix_rows<T, 2>(p, stride, values, tokens, padded_dim, out);
        break;
      default:
        mix_rows<T, 1>(p, stride, values, tokens, padded_dim, out);
        break;
    }
    p += step * stride;
    out += step * padded_dim;
    rows -= step;
  }
}

// The visible tokens [begin, end) of a stretch of keys and values, and the blocks that hold them.
struct Span {
  int64_t begin, end;

  int64_t first_block() const { return begin / kBlockTokens; }
  int64_t num_blocks() const { return end > begin ? kv_blocks(end) - first_block() : 0; }
  int64_t width() const { return num_blocks() * kBlockTokens; }
  int64_t lead() const {
    return num_blocks() > 0 ? begin % kBlockTokens : 0;
  }  // hidden tokens of the first block
};

// Scores of hidden tokens become -inf.
void hide(float* scores, const Span& span) {
  const float hidden = -std::numeric_limits<float>::infinity();
  const int64_t visible_end = span.lead() + (span.end - span.begin);
  for (int64_t i = 0; i < span.lead(); ++i) scores[i] = hidden;
  for (int64_t i = visible_end; i < span.width(); ++i) scores[i] = hidden;
}

// Replaces scores by exp(score - max) and returns their sum. width is a multiple of 16.
float exponentiate(float* scores, int64_t width) {
  Floats best = load16(scores);
  for (int64_t i = kLanes; i < width; i += kLanes) best = max16(load16(scores + i), best);
  const float max = max_lanes(best);
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) scores[i] = fast_exp(scores[i] - max);
  Floats sum{};
  for (int64_t i = 0; i < width; i += kLanes) sum += load16(scores + i);
  return sum_lanes(sum);
}

struct Task {
  const DecodeGroup* group;
  int64_t kv_head;
  int64_t first, count;  // siblings
};

struct Scratch {
  std::vector<float> queries, scores, sums, mixed;
};

template <typename T>
void run_task(const Task& task, T* out, const T* qkv, const KvCache& cache, int64_t layer,
              const DecodeAttentionShape& shape, Scratch& scratch) {
  const DecodeGroup& group = *task.group;
  const int64_t qkv_stride = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim;
  const T* first_row = qkv + (group.first_row + task.first) * qkv_stride;
  for (int64_t i = 0; i < task.count; ++i) {
    const T* key = first_row + i * qkv_stride + (shape.num_heads + task.kv_head) * shape.head_dim;
    cache.write(group.responses[task.first + i], layer, task.kv_head, group.new_length - 1, key,
                key + shape.num_kv_heads * shape.head_dim);
  }
  const int64_t head_dim = shape.head_dim;
  const int64_t padded_dim = round_up(head_dim, kLanes);
  const int64_t per_kv = shape.num_heads / shape.num_kv_heads;  // query heads that share this kv head
  const int64_t rows = task.count * per_kv;

  const int64_t length = group.prompt_length + group.new_length;
  const int64_t visible_from = shape.window > 0 ? std::max<int64_t>(0, length - shape.window) : 0;
  const Span prompt{std::min(visible_from, group.prompt_length), group.prompt_length};
  const Span fresh{std::max<int64_t>(0, visible_from - group.prompt_length), group.new_length};
  const int64_t stride = prompt.width() + fresh.width();

  scratch.queries.resize(rows * head_dim);
  scratch.scores.resize(rows * stride);
  scratch.sums.resize(rows);
  scratch.mixed.assign(rows * padded_dim, 0.0f);
  float* queries = scratch.queries.data();
  float* scores = scratch.scores.data();
  float* mixed = scratch.mixed.data();

  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  for (int64_t i = 0; i < task.count; ++i) {
    const T* q = first_row + i * qkv_stride + task.kv_head * per_kv * head_dim;
    float* scaled = queries + i * per_kv * head_dim;
    for (int64_t d = 0; d < per_kv * head_dim; ++d) scaled[d] = to_float(q[d]) * scale;
  }

  KvView<T> shared{};
  if (prompt.num_blocks() > 0) {
    shared = cache.view<T>(group.prompt, layer, task.kv_head);
    score(queries, rows, shared.keys + prompt.first_block() * kBlockTokens * head_dim, prompt.num_blocks(),
          head_dim, scores, stride);
  }
  for (int64_t i = 0; i < task.count; ++i) {
    const KvView<T> own = cache.view<T>(group.responses[task.first + i], layer, task.kv_head);
    float* own_scores = scores + i * per_kv * stride + prompt.width();
    score(queries + i * per_kv * head_dim, per_kv, own.keys + fresh.first_block() * kBlockTokens * head_dim,
          fresh.num_blocks(), head_dim, own_scores, stride);
  }
  for (int64_t r = 0; r < rows; ++r) {
    hide(scores + r * stride, prompt);
    hide(scores + r * stride + prompt.width(), fresh);
    scratch.sums[r] = exponentiate(scores + r * stride, stride);
  }

  if (prompt.num_blocks() > 0) {
    mix(scores + prompt.lead(), stride, rows, shared.values + prompt.begin * padded_dim,
        prompt.end - prompt.begin, padded_dim, mixed);
  }
  for (int64_t i = 0; i < task.count; ++i) {
    const KvView<T> own = cache.view<T>(group.responses[task.first + i], layer, task.kv_head);
    mix(scores + i * per_kv * stride + prompt.width() + fresh.lead(), stride, per_kv,
        own.values + fresh.begin * padded_dim, fresh.end - fresh.begin, padded_dim,
        mixed + i * per_kv * padded_dim);
  }

  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = group.first_row + task.first + r / per_kv;
    T* result = out + (row * shape.num_heads + task.kv_head * per_kv + r % per_kv) * head_dim;
    const float inverse = 1.0f / scratch.sums[r];
    for (int64_t d = 0; d < head_dim; ++d) result[d] = from_float<T>(mixed[r * padded_dim + d] * inverse);
  }
}

}  // namespace

void decode_attention(at::Tensor& out, const at::Tensor& qkv, const KvCache& cache, int64_t layer,
                      const std::vector<DecodeGroup>& groups, const DecodeAttentionShape& shape) {
  std::vector<Task> tasks;
  for (const DecodeGroup& group : groups) {
    const int64_t siblings = static_cast<int64_t>(group.responses.size());
    for (int64_t head = 0; head < shape.num_kv_heads; ++head) {
      for (int64_t first = 0; first < siblings; first += kMaxSiblings) {
        tasks.push_back({&group, head, first, std::min(kMaxSiblings, siblings - first)});
      }
    }
  }
  with_dtype(qkv.scalar_type(), "decode_attention", [&](auto zero) {
    using T = decltype(zero);
    T* result = out.mutable_data_ptr<T>();
    const T* rows = qkv.const_data_ptr<T>();
    at::parallel_for(0, static_cast<int64_t>(tasks.size()), 1, [&](int64_t begin, int64_t end) {
      Scratch scratch;
      for (int64_t i = begin; i < end; ++i) {
        run_task(tasks[i], result, rows, cache, layer, shape, scratch);
      }
    });
  });
}

at::Tensor decode_attention_reference(const at::Tensor& qkv, const KvCache& cache, int64_t layer,
                                      const std::vector<DecodeGroup>& groups,
                                      const DecodeAttentionShape& shape) {
  const int64_t head_dim = shape.head_dim;
  const int64_t padded_dim = round_up(head_dim, kLanes);
  const int64_t per_kv = shape.num_heads / shape.num_kv_heads;
  at::Tensor out = at::empty({qkv.size(0), shape.num_heads * head_dim}, at::kDouble);
  with_dtype(qkv.scalar_type(), "decode_attention_reference", [&](auto zero) {
    using T = decltype(zero);
    for (const DecodeGroup& group : groups) {
      const int64_t length = group.prompt_length + group.new_length;
      const int64_t visible_from = shape.window > 0 ? std::max<int64_t>(0, length - shape.window) : 0;
      for (size_t i = 0; i < group.responses.size(); ++i) {
        for (int64_t head = 0; head < shape.num_heads; ++head) {
          const int64_t row = group.first_row + static_cast<int64_t>(i);
          const T* q = qkv.const_data_ptr<T>() + row * qkv.stride(0) + head * head_dim;
          std::vector<double> scores;
          const auto locate = [&](int64_t position) {
            const bool in_prompt = position < group.prompt_length;
            const auto kv =
                cache.view<T>(in_prompt ? group.prompt : group.responses[i], layer, head / per_kv);
            return std::pair(kv, in_prompt ? position : position - group.prompt_length);
          };
          for (int64_t position = visible_from; position < length; ++position) {
            const auto [kv, token] = locate(position);
            const T* key = kv.keys + token / kBlockTokens * kBlockTokens * head_dim + token % kBlockTokens;
            double dot = 0;
            for (int64_t d = 0; d < head_dim; ++d) dot += double(q[d]) * double(key[d * kBlockTokens]);
            scores.push_back(dot / std::sqrt(double(head_dim)));
          }
          const double max = *std::max_element(scores.begin(), scores.end());
          double sum = 0;
          for (double& s : scores) sum += s = std::exp(s - max);
          double* result = out.data_ptr<double>() + (row * shape.num_heads + head) * head_dim;
          std::fill_n(result, head_dim, 0.0);
          for (int64_t position = visible_from; position < length; ++position) {
            const auto [kv, token] = locate(position);
            for (int64_t d = 0; d < head_dim; ++d) {
              result[d] += scores[position - visible_from] / sum * double(kv.values[token * padded_dim + d]);
            }
          }
        }
      }
    }
  });
  return out;
}

}  // namespace cream
