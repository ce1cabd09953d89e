#include "ops/packed_attention_cuda.h"

#include <ATen/Functions.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

#include "cuda/kernels/attention.h"
#include "ops/gpu_launch.h"
#include "ops/pack_tables.h"

#ifdef CREAM_CUDA
#include <ATen/Context.h>
#endif

namespace cream::gpu {

namespace {

[[maybe_unused]] thread_local bool deterministic = false;

// Sequences end to end: q [R, Hq, D], k and v [keys, Hkv, D]; views where they can be.
struct Sequences {
  at::Tensor q, k, v;
  const PackTables& tables;
  const AttentionShape& shape;

  double scale() const { return 1.0 / std::sqrt(static_cast<double>(shape.head_dim)); }
};

Sequences sequences_of(const at::Tensor& qkv, const Pack& pack, const AttentionShape& shape) {
  TORCH_CHECK_VALUE(shape.head_dim <= kMaxHeadDim, "packed_attention: heads on the GPU have at most ",
                    kMaxHeadDim, " columns, this model's have ", shape.head_dim);
  const PackTables& tables = tables_of(pack, qkv.device());
  const int64_t q_size = shape.num_heads * shape.head_dim, kv_size = shape.num_kv_heads * shape.head_dim;
  at::Tensor keys = qkv.narrow(1, q_size, 2 * kv_size);
  if (tables.key_rows.defined()) {
    const at::Tensor own = keys;
    keys = at::empty({tables.num_keys, 2 * kv_size}, qkv.options());
    gather_rows(keys.data_ptr(), own.const_data_ptr(), dtype_of(qkv), tables.num_keys, own.stride(0),
                2 * kv_size, tables.key_rows.const_data_ptr<int32_t>(), stream_of(qkv));
  }
  return {qkv.narrow(1, 0, q_size).unflatten(1, {shape.num_heads, shape.head_dim}),
          keys.narrow(1, 0, kv_size).unflatten(1, {shape.num_kv_heads, shape.head_dim}),
          keys.narrow(1, kv_size, kv_size).unflatten(1, {shape.num_kv_heads, shape.head_dim}), tables, shape};
}

VarlenShape varlen_shape(const Sequences& s) {
  return {.dtype = dtype_of(s.q),
          .queries = s.q.size(0),
          .keys = s.k.size(0),
          .sequences = s.tables.query_starts.numel() - 1,
          .heads = s.shape.num_heads,
          .kv_heads = s.shape.num_kv_heads,
          .head_dim = s.shape.head_dim,
          .q_stride = s.q.stride(0),
          .kv_stride = s.k.stride(0),
          .window = s.shape.window,
          .scale = static_cast<float>(s.scale()),
          .query_starts = s.tables.query_starts.const_data_ptr<int32_t>(),
          .key_starts = s.tables.key_starts.const_data_ptr<int32_t>()};
}

#ifdef CREAM_CUDA

bool flash_supports(const Sequences& s) {
  return s.q.is_cuda() && s.q.scalar_type() == at::kBFloat16 && s.shape.head_dim % 8 == 0;
}

// For sequences of one query each the op takes another path, of another layout; a bound of two avoids it.
int64_t max_queries(const Sequences& s) { return std::max<int64_t>(s.tables.max_queries, 2); }

std::optional<int64_t> window_left(const Sequences& s) {
  return s.shape.window == 0 ? std::nullopt : std::optional<int64_t>(s.shape.window - 1);
}

AttentionResult flash_forward(const Sequences& s) {
  const auto [out, lse, rng, unused, mask] = at::_flash_attention_forward(
      s.q, s.k, s.v, s.tables.query_starts, s.tables.key_starts, max_queries(s), s.tables.max_keys,
      /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false, s.scale(), window_left(s),
      window_left(s).has_value() ? std::optional<int64_t>(0) : std::nullopt);
  return {out.reshape({s.q.size(0), -1}), lse.t()};
}

// The op reads this from ATen's global context, and alone of what runs meanwhile.
class FlashDeterminism {
 public:
  FlashDeterminism() : context_(at::globalContext()), before_(context_.deterministicAlgorithms()) {
    context_.setDeterministicAlgorithms(deterministic, /*warn_only=*/false);
  }
  ~FlashDeterminism() { context_.setDeterministicAlgorithms(before_, /*warn_only=*/false); }
  FlashDeterminism(const FlashDeterminism&) = delete;
  FlashDeterminism& operator=(const FlashDeterminism&) = delete;

 private:
  at::Context& context_;
  const bool before_;
};

std::tuple<at::Tensor, at::Tensor, at::Tensor> flash_backward(const at::Tensor& d_out,
                                                              const AttentionResult& forward,
                                                              const Sequences& s) {
  const at::Tensor no_random_state = at::empty({2}, s.tables.ids.options());
  const FlashDeterminism scope;
  return at::_flash_attention_backward(
      d_out.view(s.q.sizes()), s.q, s.k, s.v, forward.out_RE.view(s.q.sizes()),
      forward.lse_RH.t().contiguous(), s.tables.query_starts, s.tables.key_starts, max_queries(s),
      s.tables.max_keys, /*dropout_p=*/0.0, /*is_causal=*/true, no_random_state, no_random_state, s.scale(),
      window_left(s), window_left(s).has_value() ? std::optional<int64_t>(0) : std::nullopt);
}

#endif

AttentionResult plain_forward(const Sequences& s) {
  const int64_t rows = s.q.size(0);
  at::Tensor out = at::empty({rows, s.shape.num_heads * s.shape.head_dim}, s.q.options());
  at::Tensor lse = at::empty({s.shape.num_heads, rows}, s.q.options().dtype(at::kFloat));
  varlen_attention(out.data_ptr(), lse.data_ptr<float>(), s.q.const_data_ptr(), s.k.const_data_ptr(),
                   s.v.const_data_ptr(), varlen_shape(s), stream_of(s.q));
  return {out, lse.t()};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> plain_backward(const at::Tensor& d_out,
                                                              const AttentionResult& forward,
                                                              const Sequences& s) {
  const at::Tensor lse = forward.lse_RH.t().contiguous();
  at::Tensor dq = at::empty(s.q.sizes(), s.q.options()), dk = at::empty(s.k.sizes(), s.q.options());
  at::Tensor dv = at::empty(s.k.sizes(), s.q.options()), delta = at::empty_like(lse);
  varlen_attention_backward(dq.data_ptr(), dk.data_ptr(), dv.data_ptr(), delta.data_ptr<float>(),
                            d_out.const_data_ptr(), s.q.const_data_ptr(), s.k.const_data_ptr(),
                            s.v.const_data_ptr(), forward.out_RE.const_data_ptr(),
                            lse.const_data_ptr<float>(), varlen_shape(s), stream_of(s.q));
  return {dq, dk, dv};
}

}  // namespace

DeterministicScope::DeterministicScope(bool on) : before_(deterministic) { deterministic = on; }
DeterministicScope::~DeterministicScope() { deterministic = before_; }

AttentionResult packed_attention(const at::Tensor& qkv, const Pack& pack, const AttentionShape& shape) {
  const Sequences sequences = sequences_of(qkv, pack, shape);
#ifdef CREAM_CUDA
  if (flash_supports(sequences)) return flash_forward(sequences);
#endif
  return plain_forward(sequences);
}

at::Tensor packed_attention_backward(const at::Tensor& d_out, const at::Tensor& qkv,
                                     const AttentionResult& forward, const Pack& pack,
                                     const AttentionShape& shape) {
  const Sequences s = sequences_of(qkv, pack, shape);
#ifdef CREAM_CUDA
  auto [dq, dk, dv] =
      flash_supports(s) ? flash_backward(d_out, forward, s) : plain_backward(d_out, forward, s);
#else
  auto [dq, dk, dv] = plain_backward(d_out, forward, s);
#endif
  dq = dq.contiguous();
  dk = dk.contiguous();
  dv = dv.contiguous();
  at::Tensor d_qkv = at::empty_like(qkv);
  join_qkv_gradient(d_qkv.data_ptr(), dq.const_data_ptr(), dk.const_data_ptr(), dv.const_data_ptr(),
                    dtype_of(qkv), qkv.size(0), shape.num_heads * shape.head_dim,
                    shape.num_kv_heads * shape.head_dim, s.tables.copy_starts.const_data_ptr<int32_t>(),
                    s.tables.copies.const_data_ptr<int32_t>(), stream_of(qkv));
  return d_qkv;
}

}  // namespace cream::gpu
