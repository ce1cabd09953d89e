#include "ops/gpu_decode.h"

#include <ATen/Functions.h>

#include "ops/gpu_launch.h"
#include "ops/linear_rows.h"

namespace cream::gpu {

namespace {

const KvMemory* memory_of(const at::Tensor& memory) {
  return static_cast<const KvMemory*>(memory.const_data_ptr());
}

}  // namespace

SamplerMode sampler_mode(const SamplerOptions& options, int64_t vocab) {
  if (options.temperature == 0.0f) return SamplerMode::kGreedy;
  const bool by_rank = options.top_k > 0 && options.top_k < vocab;
  return by_rank || options.top_p < 1.0f ? SamplerMode::kTruncated : SamplerMode::kPlain;
}

void start_slots(const at::Tensor& starts, int64_t count, const Slots& slots) {
  start_slots(static_cast<const SlotStart*>(starts.const_data_ptr()), count, slots, stream_of(starts));
}

void gather_embeddings(at::Tensor& x, const at::Tensor& embed, const int32_t* row_slots, const Slots& slots) {
  gather_embeddings(x.data_ptr(), embed.const_data_ptr(), dtype_of(x), x.size(0), x.size(1), row_slots, slots,
                    stream_of(x));
}

DecodeShape decode_shape(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim,
                         int64_t window, int64_t layer) {
  return {dtype_of(qkv), qkv.size(0), heads, kv_heads, head_dim, window, layer};
}

void rope_and_store(at::Tensor& qkv, const DecodeShape& shape, const at::Tensor& table,
                    const int32_t* row_slots, const Slots& slots, const at::Tensor& memory) {
  rope_and_store(qkv.data_ptr(), shape, table.const_data_ptr<float>(), row_slots, slots, memory_of(memory),
                 stream_of(qkv));
}

void store_keys_values(const at::Tensor& k, const at::Tensor& v, int64_t layer, const at::Tensor& places,
                       const at::Tensor& memory) {
  const DecodeShape shape{dtype_of(k), k.size(0), 0, k.size(1), k.size(2), 0, layer};
  store_keys_values(k.const_data_ptr(), v.const_data_ptr(), k.stride(0), shape,
                    places.const_data_ptr<int32_t>(), memory_of(memory), stream_of(k));
}

void decode_attention(at::Tensor& out, const at::Tensor& qkv, const DecodeShape& shape,
                      const DecodePieces& pieces, const Schedule& schedule, const Slots& slots,
                      const at::Tensor& memory, at::Tensor& scratch, AttentionKernel kernel) {
  decode_attention(out.data_ptr(), qkv.const_data_ptr(), shape, pieces, schedule, slots, memory_of(memory),
                   scratch.data_ptr(), kernel, stream_of(qkv));
}

void float_logits(at::Tensor& logits, const at::Tensor& hidden, const at::Tensor& head) {
  if (!hidden.is_cuda()) {
    linear_rows(logits, hidden, head);
  } else if (hidden.scalar_type() == at::kFloat) {
    at::mm_out(logits, hidden, head.t());
  } else {
    at::mm_out(logits, hidden, head.t(), at::kFloat);
  }
}

void sample(const at::Tensor& logits, int64_t rows, const int32_t* row_slots, const int32_t* sources,
            SamplerMode mode, const at::Tensor& settings, const Slots& slots, const at::Tensor& stops,
            at::Tensor& scratch) {
  const SamplerRows batch{
      logits.const_data_ptr(), dtype_of(logits), logits.size(1), rows, row_slots, sources};
  sample(batch, mode, static_cast<const SamplerSettings*>(settings.const_data_ptr()), slots,
         static_cast<const uint32_t*>(stops.const_data_ptr()), scratch.data_ptr(), stream_of(logits));
}

}  // namespace cream::gpu
