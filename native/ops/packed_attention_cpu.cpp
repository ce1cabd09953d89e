#include "ops/packed_attention_cpu.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>

#include "ops/dispatch.h"
#include "ops/small_gemm.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

constexpr int64_t kQueryBlock = 64;
constexpr float kHidden = -std::numeric_limits<float>::infinity();

// A float32 matrix of scratch memory whose rows are padded to a multiple of kGemmWidth; padding is zero.
class Matrix {
 public:
  void resize(int64_t rows, int64_t columns) {
    rows_ = rows;
    stride_ = padded_width(columns);
    if (rows * stride_ > capacity_) {
      capacity_ = rows * stride_;
      values_.reset(static_cast<float*>(std::aligned_alloc(64, capacity_ * sizeof(float))));
    }
  }
  void zero() { std::fill_n(values_.get(), rows_ * stride_, 0.0f); }
  float* row(int64_t r) { return values_.get() + r * stride_; }
  int64_t stride() const { return stride_; }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> values_;
  int64_t rows_ = 0, stride_ = 0, capacity_ = 0;
};

// Keys and values of one segment for one head: what queries of the segment itself or of its leaves read.
struct KeyBlock {
  int64_t length = 0;
  Matrix keys, keys_t, values, values_t;  // [S, D], [D, S]
  Matrix d_keys, d_values;                // [S, D]
};

// Which columns of a key block the queries of one block see: query i (of the segment, from 0) sees key j when
// low(i) <= j < high(i).
struct Visibility {
  int64_t offset;  // position of query 0 minus position of key 0
  int64_t length;  // of the key block
  int64_t window;  // 0 = all
  int64_t low(int64_t i) const {
    return window == 0 ? 0 : std::clamp<int64_t>(offset + i - window + 1, 0, length);
  }
  int64_t high(int64_t i) const { return std::clamp<int64_t>(offset + i + 1, 0, length); }
};

template <typename T>
class Kernel {
 public:
  Kernel(const Pack& pack, const AttentionShape& shape)
      : pack_(pack),
        shape_(shape),
        repeat_(shape.num_heads / shape.num_kv_heads),
        row_size_((shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim),
        scale_(1.0f / std::sqrt(static_cast<float>(shape.head_dim))) {
    for (int64_t i = 0; i < static_cast<int64_t>(pack.segments.size()); ++i) {
      if (pack.segments[i].prefix < 0) trunks_.push_back(i);
    }
    trunks_.push_back(static_cast<int64_t>(pack.segments.size()));
  }

  void forward(const T* qkv, T* out, float* lse) const {
    for_each_task(
        [&](int64_t trunk, int64_t kv_head, Scratch& s) { forward_task(qkv, out, lse, trunk, kv_head, s); });
  }

  void backward(const T* d_out, const T* qkv, const T* out, const float* lse, T* d_qkv) const {
    for_each_task([&](int64_t trunk, int64_t kv_head, Scratch& s) {
      backward_task(d_out, qkv, out, lse, d_qkv, trunk, kv_head, s);
    });
  }

 private:
  struct Scratch {
    KeyBlock trunk, own;
    Matrix queries, scores_trunk, scores_own, result;  // scores become probabilities in place
    Matrix d_result, d_scores, d_queries;
  };

  // Tasks write disjoint outputs, so the order in which threads take them does not change a bit.
  template <typename Task>
  void for_each_task(Task&& task) const {
    const int64_t groups = static_cast<int64_t>(trunks_.size()) - 1;
    const int64_t tasks = groups * shape_.num_kv_heads;
    std::atomic<int64_t> next{0};
    at::parallel_for(0, std::min<int64_t>(tasks, at::get_num_threads()), 1, [&](int64_t, int64_t) {
      Scratch scratch;
      for (int64_t i = next++; i < tasks; i = next++)
        task(i / shape_.num_kv_heads, i % shape_.num_kv_heads, scratch);
    });
  }

  int64_t k_column(int64_t kv_head) const { return (shape_.num_heads + kv_head) * shape_.head_dim; }
  int64_t v_column(int64_t kv_head) const {
    return (shape_.num_heads + shape_.num_kv_heads + kv_head) * shape_.head_dim;
  }

  // rows x D of a row-major source, times `factor`, into a padded matrix.
  void load(Matrix& to, const T* from, int64_t rows, int64_t from_stride, float factor) const {
    to.resize(rows, shape_.head_dim);
    for (int64_t r = 0; r < rows; ++r) {
      float* y = to.row(r);
      const T* x = from + r * from_stride;
#pragma omp simd
      for (int64_t c = 0; c < shape_.head_dim; ++c) y[c] = to_float(x[c]) * factor;
      for (int64_t c = shape_.head_dim; c < to.stride(); ++c) y[c] = 0;
    }
  }

  static void transpose(Matrix& to, Matrix& from, int64_t rows, int64_t columns) {
    to.resize(columns, rows);
    for (int64_t c = 0; c < columns; ++c) {
      float* y = to.row(c);
      for (int64_t r = 0; r < rows; ++r) y[r] = from.row(r)[c];
      for (int64_t r = rows; r < to.stride(); ++r) y[r] = 0;
    }
  }

  void load_keys(KeyBlock& block, const T* qkv, const Segment& segment, int64_t kv_head,
                 bool for_backward) const {
    const T* rows = qkv + segment.row * row_size_;
    block.length = segment.length;
    load(block.keys, rows + k_column(kv_head), segment.length, row_size_, 1.0f);
    load(block.values, rows + v_column(kv_head), segment.length, row_size_, 1.0f);
    transpose(block.keys_t, block.keys, segment.length, shape_.head_dim);
    if (!for_backward) return;
    transpose(block.values_t, block.values, segment.length, shape_.head_dim);
    block.d_keys.resize(segment.length, shape_.head_dim);
    block.d_keys.zero();
    block.d_values.resize(segment.length, shape_.head_dim);
    block.d_values.zero();
  }

  // Columns [begin, end) of a key block that any query of the block [first, first + count) sees; the begin is
  // rounded down to the padding, so that matrices stay aligned.
  static std::pair<int64_t, int64_t> columns_of(const Visibility& seen, int64_t first, int64_t count) {
    const int64_t begin = seen.low(first) / kGemmWidth * kGemmWidth;
    return {begin, std::max(begin, seen.high(first + count - 1))};
  }

  // Scaled scores of a block of queries (scratch.queries) against a key block, -inf where hidden.
  void score_block(Matrix& scores, KeyBlock& block, const Visibility& seen, Matrix& queries, int64_t first,
                   int64_t count) const {
    const auto [begin, end] = columns_of(seen, first, count);
    scores.resize(count, block.length);
    if (end == begin) return;
    small_gemm(count, padded_width(end - begin), shape_.head_dim, queries.row(0), queries.stride(), 1,
               block.keys_t.row(0) + begin, block.keys_t.stride(), scores.row(0) + begin, scores.stride(),
               false);
    for (int64_t r = 0; r < count; ++r) {
      float* row = scores.row(r);
      for (int64_t c = begin; c < seen.low(first + r); ++c) row[c] = kHidden;
      for (int64_t c = seen.high(first + r); c < begin + padded_width(end - begin); ++c) row[c] = kHidden;
    }
  }

  static float row_max(const float* row, int64_t begin, int64_t end, float top) {
#pragma omp simd reduction(max : top)
    for (int64_t c = begin; c < end; ++c) top = row[c] > top ? row[c] : top;
    return top;
  }

  static float exponentiate(float* row, int64_t begin, int64_t end, float shift) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = begin; c < end; ++c) {
      row[c] = fast_exp(row[c] - shift);
      sum += row[c];
    }
    return sum;
  }

  void forward_task(const T* qkv, T* out, float* lse, int64_t group, int64_t kv_head, Scratch& s) const {
    for (int64_t i = trunks_[group]; i < trunks_[group + 1]; ++i) {
      const Segment& segment = pack_.segments[i];
      const bool is_leaf = segment.prefix >= 0;
      KeyBlock& own = is_leaf ? s.own : s.trunk;
      load_keys(own, qkv, segment, kv_head, /*for_backward=*/false);
      const Visibility sees_own{0, segment.length, shape_.window};
      const Visibility sees_trunk{is_leaf ? s.trunk.length : 0, is_leaf ? s.trunk.length : 0, shape_.window};
      for (int64_t head = kv_head * repeat_; head < (kv_head + 1) * repeat_; ++head) {
        for (int64_t first = 0; first < segment.length; first += kQueryBlock) {
          const int64_t count = std::min(kQueryBlock, segment.length - first);
          const int64_t row = segment.row + first;
          load(s.queries, qkv + row * row_size_ + head * shape_.head_dim, count, row_size_, scale_);
          if (is_leaf) score_block(s.scores_trunk, s.trunk, sees_trunk, s.queries, first, count);
          score_block(s.scores_own, own, sees_own, s.queries, first, count);
          attend(s, own, sees_trunk, sees_own, is_leaf, first, count,
                 out + row * shape_.num_heads * shape_.head_dim, lse + row * shape_.num_heads, head);
        }
      }
    }
  }

  // Softmax over both score blocks, times values, into out and lse of one head.
  void attend(Scratch& s, KeyBlock& own, const Visibility& sees_trunk, const Visibility& sees_own,
              bool is_leaf, int64_t first, int64_t count, T* out, float* lse, int64_t head) const {
    const auto [own_begin, own_end] = columns_of(sees_own, first, count);
    const auto [trunk_begin, trunk_end] = columns_of(sees_trunk, first, count);
    const int64_t own_stop = own_begin + padded_width(own_end - own_begin);
    const int64_t trunk_stop = trunk_begin + padded_width(trunk_end - trunk_begin);
    float inverse_sums[kQueryBlock];
    for (int64_t r = 0; r < count; ++r) {
      float top = row_max(s.scores_own.row(r), own_begin, own_stop, kHidden);
      if (is_leaf) top = row_max(s.scores_trunk.row(r), trunk_begin, trunk_stop, top);
      float sum = exponentiate(s.scores_own.row(r), own_begin, own_stop, top);
      if (is_leaf) sum += exponentiate(s.scores_trunk.row(r), trunk_begin, trunk_stop, top);
      inverse_sums[r] = 1.0f / sum;
      lse[r * shape_.num_heads + head] = top + std::log(sum);
    }
    s.result.resize(count, shape_.head_dim);
    multiply(s.result, s.scores_own, own.values, own_begin, own_end, count, /*accumulate=*/false);
    if (is_leaf) multiply(s.result, s.scores_trunk, s.trunk.values, trunk_begin, trunk_end, count, true);
    for (int64_t r = 0; r < count; ++r) {
      const float* x = s.result.row(r);
      T* y = out + (r * shape_.num_heads + head) * shape_.head_dim;
#pragma omp simd
      for (int64_t c = 0; c < shape_.head_dim; ++c) y[c] = from_float<T>(x[c] * inverse_sums[r]);
    }
  }

  // to [count, D] (+)= scores[:, begin:end] values[begin:end]
  void multiply(Matrix& to, Matrix& scores, Matrix& values, int64_t begin, int64_t end, int64_t count,
                bool accumulate) const {
    small_gemm(count, to.stride(), end - begin, scores.row(0) + begin, scores.stride(), 1, values.row(begin),
               values.stride(), to.row(0), to.stride(), accumulate);
  }

  void backward_task(const T* d_out, const T* qkv, const T* out, const float* lse, T* d_qkv, int64_t group,
                     int64_t kv_head, Scratch& s) const {
    for (int64_t i = trunks_[group]; i < trunks_[group + 1]; ++i) {
      const Segment& segment = pack_.segments[i];
      const bool is_leaf = segment.prefix >= 0;
      KeyBlock& own = is_leaf ? s.own : s.trunk;
      load_keys(own, qkv, segment, kv_head, /*for_backward=*/true);
      for (int64_t head = kv_head * repeat_; head < (kv_head + 1) * repeat_; ++head) {
        for (int64_t first = 0; first < segment.length; first += kQueryBlock) {
          backward_block(d_out, qkv, out, lse, d_qkv, segment, own, is_leaf, head, first, s);
        }
      }
      if (is_leaf) store_keys(own, d_qkv, segment, kv_head);
    }
    store_keys(s.trunk, d_qkv, pack_.segments[trunks_[group]], kv_head);
  }

  void backward_block(const T* d_out, const T* qkv, const T* out, const float* lse, T* d_qkv,
                      const Segment& segment, KeyBlock& own, bool is_leaf, int64_t head, int64_t first,
                      Scratch& s) const {
    const int64_t dim = shape_.head_dim;
    const int64_t count = std::min(kQueryBlock, segment.length - first);
    const int64_t row = segment.row + first;
    const int64_t out_stride = shape_.num_heads * dim;
    load(s.queries, qkv + row * row_size_ + head * dim, count, row_size_, scale_);
    load(s.result, out + row * out_stride + head * dim, count, out_stride, 1.0f);
    load(s.d_result, d_out + row * out_stride + head * dim, count, out_stride, 1.0f);
    float deltas[kQueryBlock], shifts[kQueryBlock];
    for (int64_t r = 0; r < count; ++r) {
      float dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t c = 0; c < dim; ++c) dot += s.result.row(r)[c] * s.d_result.row(r)[c];
      deltas[r] = dot;
      shifts[r] = lse[(row + r) * shape_.num_heads + head];
    }
    s.d_queries.resize(count, dim);
    const Visibility sees_own{0, segment.length, shape_.window};
    backward_keys(own, sees_own, s.scores_own, first, count, deltas, shifts, /*accumulate=*/false, s);
    if (is_leaf) {
      const Visibility sees_trunk{s.trunk.length, s.trunk.length, shape_.window};
      backward_keys(s.trunk, sees_trunk, s.scores_trunk, first, count, deltas, shifts, /*accumulate=*/true,
                    s);
    }
    for (int64_t r = 0; r < count; ++r) {
      T* y = d_qkv + (row + r) * row_size_ + head * dim;
      const float* x = s.d_queries.row(r);
#pragma omp simd
      for (int64_t c = 0; c < dim; ++c) y[c] = from_float<T>(x[c] * scale_);
    }
  }

  // One block of queries against one key block: adds to d_keys, d_values and (or sets) d_queries / scale.
  void backward_keys(KeyBlock& block, const Visibility& seen, Matrix& probs, int64_t first, int64_t count,
                     const float* deltas, const float* shifts, bool accumulate, Scratch& s) const {
    const auto [begin, end] = columns_of(seen, first, count);
    if (end == begin) return;
    const int64_t width = padded_width(end - begin);
    score_block(probs, block, seen, s.queries, first, count);
    s.d_scores.resize(count, block.length);
    small_gemm(count, width, shape_.head_dim, s.d_result.row(0), s.d_result.stride(), 1,
               block.values_t.row(0) + begin, block.values_t.stride(), s.d_scores.row(0) + begin,
               s.d_scores.stride(), false);
    for (int64_t r = 0; r < count; ++r) {
      float* p = probs.row(r);
      float* d = s.d_scores.row(r);
#pragma omp simd
      for (int64_t c = begin; c < begin + width; ++c) {
        p[c] = fast_exp(p[c] - shifts[r]);
        d[c] = p[c] * (d[c] - deltas[r]);
      }
    }
    multiply(s.d_queries, s.d_scores, block.keys, begin, end, count, accumulate);
    small_gemm(end - begin, block.d_keys.stride(), count, s.d_scores.row(0) + begin, 1, s.d_scores.stride(),
               s.queries.row(0), s.queries.stride(), block.d_keys.row(begin), block.d_keys.stride(), true);
    small_gemm(end - begin, block.d_values.stride(), count, probs.row(0) + begin, 1, probs.stride(),
               s.d_result.row(0), s.d_result.stride(), block.d_values.row(begin), block.d_values.stride(),
               true);
  }

  void store_keys(KeyBlock& block, T* d_qkv, const Segment& segment, int64_t kv_head) const {
    for (int64_t r = 0; r < segment.length; ++r) {
      T* row = d_qkv + (segment.row + r) * row_size_;
      T* d_key = row + k_column(kv_head);
      T* d_value = row + v_column(kv_head);
#pragma omp simd
      for (int64_t c = 0; c < shape_.head_dim; ++c) {
        d_key[c] = from_float<T>(block.d_keys.row(r)[c]);
        d_value[c] = from_float<T>(block.d_values.row(r)[c]);
      }
    }
  }

  const Pack& pack_;
  const AttentionShape shape_;
  const int64_t repeat_;
  const int64_t row_size_;
  const float scale_;
  std::vector<int64_t> trunks_;  // segment index of each trunk, and the number of segments
};

}  // namespace

AttentionResult packed_attention_cpu(const at::Tensor& qkv, const Pack& pack, const AttentionShape& shape) {
  AttentionResult result{at::empty({qkv.size(0), shape.num_heads * shape.head_dim}, qkv.options()),
                         at::empty({qkv.size(0), shape.num_heads}, at::kFloat)};
  with_dtype(qkv.scalar_type(), "packed_attention", [&](auto zero) {
    using T = decltype(zero);
    Kernel<T>(pack, shape)
        .forward(qkv.const_data_ptr<T>(), result.out_RE.data_ptr<T>(), result.lse_RH.data_ptr<float>());
  });
  return result;
}

at::Tensor packed_attention_backward_cpu(const at::Tensor& d_out, const at::Tensor& qkv,
                                         const AttentionResult& forward, const Pack& pack,
                                         const AttentionShape& shape) {
  at::Tensor d_qkv = at::empty_like(qkv);
  with_dtype(qkv.scalar_type(), "packed_attention_backward", [&](auto zero) {
    using T = decltype(zero);
    Kernel<T>(pack, shape)
        .backward(d_out.const_data_ptr<T>(), qkv.const_data_ptr<T>(), forward.out_RE.const_data_ptr<T>(),
                  forward.lse_RH.const_data_ptr<float>(), d_qkv.data_ptr<T>());
  });
  return d_qkv;
}

}  // namespace cream
