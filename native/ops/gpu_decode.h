// The decode step's kernels on tensors: cuda/kernels/decode.h and sampler.h say what each does.
#pragma once

#include <ATen/core/Tensor.h>

#include "cuda/kernels/decode.h"
#include "cuda/kernels/sampler.h"
#include "ops/sampler.h"

namespace cream::gpu {

SamplerMode sampler_mode(const SamplerOptions& options, int64_t vocab);

void start_slots(const at::Tensor& starts, int64_t count, const Slots& slots);

//   x [rows, width], embed [vocab, width]
void gather_embeddings(at::Tensor& x, const at::Tensor& embed, const int32_t* row_slots, const Slots& slots);

DecodeShape decode_shape(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim,
                         int64_t window, int64_t layer);

void rope_and_store(at::Tensor& qkv, const DecodeShape& shape, const at::Tensor& table,
                    const int32_t* row_slots, const Slots& slots, const at::Tensor& memory);

//   k, v [rows, kv heads, head_dim], one stride between rows; places [rows] int32
void store_keys_values(const at::Tensor& k, const at::Tensor& v, int64_t layer, const at::Tensor& places,
                       const at::Tensor& memory);

void decode_attention(at::Tensor& out, const at::Tensor& qkv, const DecodeShape& shape,
                      const DecodePieces& pieces, const Schedule& schedule, const Slots& slots,
                      const at::Tensor& memory, at::Tensor& scratch,
                      AttentionKernel kernel = AttentionKernel::kAuto);

// logits [rows, V] float32 = hidden [rows, C] head^T [C, V], accumulated and kept in float32.
void float_logits(at::Tensor& logits, const at::Tensor& hidden, const at::Tensor& head);

//   logits [*, V]; sources null: row r reads logits row r
void sample(const at::Tensor& logits, int64_t rows, const int32_t* row_slots, const int32_t* sources,
            SamplerMode mode, const at::Tensor& settings, const Slots& slots, const at::Tensor& stops,
            at::Tensor& scratch);

}  // namespace cream::gpu
