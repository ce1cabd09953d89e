#include "ops/packed_attention.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <limits>

#include "ops/gpu.h"
#include "ops/packed_attention_cpu.h"
#include "ops/packed_attention_cuda.h"
#include "ops/phases.h"

namespace cream {

namespace {

void check(const at::Tensor& qkv, const Pack& pack, const AttentionShape& shape) {
  const int64_t columns = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim;
  TORCH_CHECK_VALUE(
      qkv.dim() == 2 && qkv.size(0) == pack.num_rows() && qkv.size(1) == columns && qkv.is_contiguous(),
      "packed_attention: qkv must be a contiguous [", pack.num_rows(), ", ", columns, "], got ", qkv.sizes());
}

// Additive mask [length, before + length]: query i sees keys (before + i - window, before + i].
at::Tensor attention_mask(int64_t length, int64_t before, int64_t window) {
  at::Tensor mask = at::zeros({length, before + length}, at::kDouble);
  auto* values = mask.data_ptr<double>();
  for (int64_t i = 0; i < length; ++i) {
    for (int64_t j = 0; j < before + length; ++j) {
      const bool seen = j <= before + i && (window == 0 || j > before + i - window);
      if (!seen) values[i * (before + length) + j] = -std::numeric_limits<double>::infinity();
    }
  }
  return mask;
}

// [T, heads * D] -> [heads, T, D], each key/value head repeated for the query heads that read it.
at::Tensor as_heads(const at::Tensor& x_TE, int64_t heads, int64_t repeat) {
  return x_TE.unflatten(1, {heads, -1}).transpose(0, 1).repeat_interleave(repeat, 0);
}

}  // namespace

AttentionResult packed_attention(const at::Tensor& qkv, const Pack& pack, const AttentionShape& shape) {
  const PhaseScope phase(Phase::kAttention, qkv.device());
  check(qkv, pack, shape);
  if (gpu::active(qkv)) return gpu::packed_attention(qkv, pack, shape);
  return packed_attention_cpu(qkv, pack, shape);
}

at::Tensor packed_attention_backward(const at::Tensor& d_out, const at::Tensor& qkv,
                                     const AttentionResult& forward, const Pack& pack,
                                     const AttentionShape& shape) {
  const PhaseScope phase(Phase::kAttention, qkv.device());
  check(qkv, pack, shape);
  TORCH_CHECK_VALUE(d_out.sizes() == forward.out_RE.sizes() && d_out.is_contiguous(),
                    "packed_attention_backward: d_out must be a contiguous ", forward.out_RE.sizes(),
                    ", got ", d_out.sizes());
  if (gpu::active(qkv)) return gpu::packed_attention_backward(d_out, qkv, forward, pack, shape);
  return packed_attention_backward_cpu(d_out, qkv, forward, pack, shape);
}

AttentionResult packed_attention_reference(const at::Tensor& qkv, const Pack& pack,
                                           const AttentionShape& shape) {
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
      keys = at::cat(
          {x.narrow(0, pack.segments[segment.prefix].row, before).narrow(1, q_size, 2 * kv_size), keys});
    }
    const auto q = as_heads(rows.narrow(1, 0, q_size), shape.num_heads, 1);
    const auto k = as_heads(keys.narrow(1, 0, kv_size), shape.num_kv_heads, repeat);
    const auto v = as_heads(keys.narrow(1, kv_size, kv_size), shape.num_kv_heads, repeat);
    const auto scores = at::matmul(q, k.transpose(1, 2)) / std::sqrt(double(shape.head_dim)) +
                        attention_mask(segment.length, before, shape.window);
    outs.push_back(at::matmul(scores.softmax(-1), v).transpose(0, 1).flatten(1));
    lses.push_back(scores.logsumexp(-1).transpose(0, 1));
  }
  return {at::cat(outs).to(qkv.scalar_type()), at::cat(lses).to(at::kFloat)};
}

}  // namespace cream
