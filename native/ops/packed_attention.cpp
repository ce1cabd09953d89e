#include "ops/packed_attention.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <limits>

#include "ops/attention_plan.h"
#include "ops/dispatch.h"
#include "ops/vector_math.h"

// A trunk, and every leaf against itself, is one causal call; all leaves of a trunk against the trunk are one
// call without mask. A leaf's two results are merged by their log-sum-exp, which is exact; the backward is the
// same two calls with the merged output and log-sum-exp.

namespace cream {

namespace {

struct Heads {
  at::Tensor q, k, v;  // [B, H, T, D] views or copies
};

double scale_of(const AttentionShape& shape) { return 1.0 / std::sqrt(static_cast<double>(shape.head_dim)); }

// [B, T, heads * D] -> [B, H, T, D], each key/value head repeated for the query heads that read it.
at::Tensor as_heads(const at::Tensor& x_BTE, int64_t heads, int64_t head_dim, int64_t repeat) {
  at::Tensor x = x_BTE.unflatten(-1, {heads, head_dim}).transpose(1, 2);
  if (repeat == 1) return x;
  return x.unsqueeze(2).expand({-1, -1, repeat, -1, -1}).flatten(1, 2);
}

// The gradient of as_heads' repetition: [B, H, T, D] -> [B, T, Hkv * D].
at::Tensor fold_heads(const at::Tensor& d_BHTD, int64_t repeat) {
  at::Tensor d = d_BHTD;
  if (repeat > 1) d = d.unflatten(1, {-1, repeat}).sum(2);
  return d.transpose(1, 2).flatten(2, 3);
}

class Attention {
 public:
  Attention(const AttentionShape& shape, const Pack& pack)
      : shape_(shape), plan_(plan_attention(pack, shape.window)), repeat_(shape.num_heads / shape.num_kv_heads) {}

  AttentionResult forward(const at::Tensor& qkv) const {
    const int64_t rows = qkv.size(0);
    AttentionResult result{at::empty({rows, q_size()}, qkv.options()),
                           at::empty({rows, shape_.num_heads}, qkv.options().dtype(at::kFloat))};
    for (const auto& call : plan_.calls) {
      const auto heads = gather(qkv, call);
      auto [out, lse] = at::_scaled_dot_product_flash_attention_for_cpu(
          heads.q, heads.k, heads.v, 0.0, call.causal, mask(call, qkv.scalar_type()), scale_of(shape_));
      store(result, call, out.transpose(1, 2), lse.transpose(1, 2));
    }
    return result;
  }

  at::Tensor backward(const at::Tensor& d_out, const at::Tensor& qkv, const AttentionResult& forward) const {
    at::Tensor d_qkv = at::zeros_like(qkv);
    for (const auto& call : plan_.calls) {
      const auto heads = gather(qkv, call);
      const auto rows_out = gather_rows(forward.out_RE, call.queries);
      const auto rows_lse = gather_rows(forward.lse_RH, call.queries);
      const auto rows_d_out = gather_rows(d_out, call.queries, /*zero_padding=*/true);
      auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          as_heads(rows_d_out, shape_.num_heads, shape_.head_dim, 1), heads.q, heads.k, heads.v,
          as_heads(rows_out, shape_.num_heads, shape_.head_dim, 1), rows_lse.transpose(1, 2), 0.0, call.causal,
          mask(call, qkv.scalar_type()), scale_of(shape_));
      add_rows(d_qkv, call.queries, 0, dq.transpose(1, 2).flatten(2, 3));
      add_rows(d_qkv, call.keys, q_size(), fold_heads(dk, repeat_));
      add_rows(d_qkv, call.keys, q_size() + kv_size(), fold_heads(dv, repeat_));
    }
    return d_qkv;
  }

 private:
  int64_t q_size() const { return shape_.num_heads * shape_.head_dim; }
  int64_t kv_size() const { return shape_.num_kv_heads * shape_.head_dim; }

  Heads gather(const at::Tensor& qkv, const AttentionCall& call) const {
    const auto keys = gather_rows(qkv.narrow(1, q_size(), 2 * kv_size()), call.keys);
    return {as_heads(gather_rows(qkv.narrow(1, 0, q_size()), call.queries), shape_.num_heads, shape_.head_dim, 1),
            as_heads(keys.narrow(-1, 0, kv_size()), shape_.num_kv_heads, shape_.head_dim, repeat_),
            as_heads(keys.narrow(-1, kv_size(), kv_size()), shape_.num_kv_heads, shape_.head_dim, repeat_)};
  }

  static std::optional<at::Tensor> mask(const AttentionCall& call, at::ScalarType dtype) {
    if (!call.mask.defined()) return std::nullopt;
    return call.mask.to(dtype);
  }

  void store(AttentionResult& result, const AttentionCall& call, const at::Tensor& out_BTHD,
             const at::Tensor& lse_BTH) const {
    const at::Tensor out = out_BTHD.contiguous();
    const at::Tensor lse = lse_BTH.contiguous();
    with_dtype(out.scalar_type(), "packed_attention", [&](auto zero) {
      using T = decltype(zero);
      store_rows(result.out_RE.data_ptr<T>(), result.lse_RH.data_ptr<float>(), call, out.const_data_ptr<T>(),
                 lse.const_data_ptr<float>());
    });
  }

  template <typename T>
  void store_rows(T* to, float* to_lse, const AttentionCall& call, const T* from, const float* from_lse) const {
    const int64_t heads = shape_.num_heads;
    const int64_t dim = shape_.head_dim;
    const auto& queries = call.queries;
    at::parallel_for(0, queries.count * queries.padded, row_grain(q_size()), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (i % queries.padded >= queries.length_of(i / queries.padded)) continue;
        const int64_t row = queries.row_of(i / queries.padded) + i % queries.padded;
        for (int64_t h = 0; h < heads; ++h) {
          T* a = to + row * heads * dim + h * dim;
          const T* b = from + i * heads * dim + h * dim;
          float& lse_a = to_lse[row * heads + h];
          const float lse_b = from_lse[i * heads + h];
          if (!call.merge) {
            for (int64_t c = 0; c < dim; ++c) a[c] = b[c];
            lse_a = lse_b;
            continue;
          }
          const float top = std::max(lse_a, lse_b);
          const float sum = std::exp(lse_a - top) + std::exp(lse_b - top);
          const float share_a = std::exp(lse_a - top) / sum;
          const float share_b = std::exp(lse_b - top) / sum;
#pragma omp simd
          for (int64_t c = 0; c < dim; ++c) a[c] = from_float<T>(share_a * to_float(a[c]) + share_b * to_float(b[c]));
          lse_a = top + std::log(sum);
        }
      }
    });
  }

  AttentionShape shape_;
  AttentionPlan plan_;
  int64_t repeat_;
};

void check(const at::Tensor& qkv, const Pack& pack, const AttentionShape& shape) {
  const int64_t columns = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim;
  TORCH_CHECK_VALUE(qkv.dim() == 2 && qkv.size(0) == pack.num_rows() && qkv.size(1) == columns && qkv.is_contiguous(),
                    "packed_attention: qkv must be a contiguous [", pack.num_rows(), ", ", columns, "], got ",
                    qkv.sizes());
}

}  // namespace

AttentionResult packed_attention(const at::Tensor& qkv, const Pack& pack, const AttentionShape& shape) {
  check(qkv, pack, shape);
  return Attention(shape, pack).forward(qkv);
}

at::Tensor packed_attention_backward(const at::Tensor& d_out, const at::Tensor& qkv, const AttentionResult& forward,
                                     const Pack& pack, const AttentionShape& shape) {
  check(qkv, pack, shape);
  return Attention(shape, pack).backward(d_out, qkv, forward);
}

AttentionResult packed_attention_reference(const at::Tensor& qkv, const Pack& pack, const AttentionShape& shape) {
  check(qkv, pack, shape);
  const int64_t q_size = shape.num_heads * shape.head_dim;
  const int64_t kv_size = shape.num_kv_heads * shape.head_dim;
  const int64_t repeat = shape.num_heads / shape.num_kv_heads;
  const auto x = qkv.to(at::kDouble);
  std::vector<at::Tensor> outs, lses;
  for (const auto& segment : pack.segments) {
    const auto rows = x.narrow(0, segment.row, segment.length);
    auto keys = rows.narrow(1, q_size, 2 * kv_size);
    const int64_t before = segment.prefix < 0 ? 0 : pack.segments[segment.prefix].length;
    if (before > 0) {
      keys = at::cat({x.narrow(0, pack.segments[segment.prefix].row, before).narrow(1, q_size, 2 * kv_size), keys});
    }
    const auto q = as_heads(rows.narrow(1, 0, q_size).unsqueeze(0), shape.num_heads, shape.head_dim, 1)[0];
    const auto k =
        as_heads(keys.narrow(1, 0, kv_size).unsqueeze(0), shape.num_kv_heads, shape.head_dim, repeat)[0];
    const auto v =
        as_heads(keys.narrow(1, kv_size, kv_size).unsqueeze(0), shape.num_kv_heads, shape.head_dim, repeat)[0];
    const auto scores =
        at::matmul(q, k.transpose(1, 2)) * scale_of(shape) + attention_mask(segment.length, before, shape.window);
    outs.push_back(at::matmul(scores.softmax(-1), v).transpose(0, 1).flatten(1));
    lses.push_back(scores.logsumexp(-1).transpose(0, 1));
  }
  return {at::cat(outs).to(qkv.scalar_type()), at::cat(lses).to(at::kFloat)};
}

}  // namespace cream
