#include "generate/decoder.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include "model/adapter.h"
#include "model/rope_cache.h"
#include "ops/dispatch.h"
#include "ops/linear_rows.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/swiglu.h"

namespace cream {

namespace {

template <typename T>
void gather_rows(at::Tensor& out, const at::Tensor& table, const std::vector<int32_t>& ids) {
  const int64_t width = table.size(1);
  T* to = out.mutable_data_ptr<T>();
  const T* from = table.const_data_ptr<T>();
  for (size_t r = 0; r < ids.size(); ++r) std::copy_n(from + ids[r] * width, width, to + int64_t(r) * width);
}

// y += scale (x a^T) b^T, part by part: as lora_add_, but by linear_rows.
void add_adapter(at::Tensor& y, const at::Tensor& x, const LoraSite& site) {
  if (!site.a.defined()) return;
  at::Tensor t = at::empty({x.size(0), site.a.size(0)}, x.options());
  linear_rows(t, x, site.a);
  for (const LoraSite::Part& part : site.parts) {
    at::Tensor product = at::empty({x.size(0), part.b.size(0)}, x.options());
    linear_rows(product, t.narrow(1, part.row, part.b.size(1)).contiguous(), part.b);
    y.narrow(1, part.begin, part.b.size(0)).add_(product, part.scale);
  }
}

}  // namespace

Decoder::Decoder(const Weights& weights, int64_t max_rows, int64_t num_positions)
    : weights_(weights), config_(weights.config), angles_(rope_table_for(weights, num_positions)) {
  const auto rows = [&](int64_t width) { return at::empty({max_rows, width}, weights.flat.options()); };
  residual_ = rows(config_.hidden_size);
  qkv_ = rows(config_.qkv_size());
  attended_ = rows(config_.q_size());
  mixed_ = rows(config_.hidden_size);
  gate_up_ = rows(2 * config_.intermediate_size);
}

at::Tensor Decoder::step(const std::vector<int32_t>& tokens, const std::vector<DecodeGroup>& groups,
                         const KvCache& cache) {
  const int64_t num_rows = static_cast<int64_t>(tokens.size());
  positions_.clear();
  for (const DecodeGroup& group : groups) {
    positions_.insert(positions_.end(), group.responses.size(),
                      static_cast<int32_t>(group.prompt_length + group.new_length - 1));
  }
  TORCH_CHECK(positions_.size() == tokens.size(), "decoder: ", tokens.size(), " tokens for ",
              positions_.size(), " sequences");

  const auto live = [&](const at::Tensor& buffer) { return buffer.narrow(0, 0, num_rows); };
  at::Tensor residual = live(residual_), qkv = live(qkv_), attended = live(attended_), mixed = live(mixed_),
             gate_up = live(gate_up_);
  with_dtype(residual.scalar_type(), "decoder",
             [&](auto zero) { gather_rows<decltype(zero)>(residual, weights_.embed, tokens); });

  const auto adapt = [&](at::Tensor& y, const at::Tensor& x, int64_t i, LoraSite LoraLayer::* site) {
    if (weights_.adapter != nullptr) add_adapter(y, x, weights_.adapter->layers[i].*site);
  };
  const double eps = config_.rms_norm_eps;
  at::Tensor normed = rms_norm(residual, weights_.layers[0].attention_norm, eps);
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    const LayerWeights& layer = weights_.layers[i];
    linear_rows(qkv, normed, layer.qkv, layer.qkv_bias);
    adapt(qkv, normed, i, &LoraLayer::qkv);
    if (config_.qk_norm) {
      at::Tensor keys = qkv.narrow(1, config_.q_size(), config_.kv_size());
      rms_norm_heads_(qkv, config_.num_heads, layer.q_norm, eps);
      rms_norm_heads_(keys, config_.num_kv_heads, layer.k_norm, eps);
    }
    rope_(qkv, config_.num_heads + config_.num_kv_heads, config_.head_dim, positions_.data(), angles_);
    decode_attention(attended, qkv, cache, i, groups,
                     {config_.num_heads, config_.num_kv_heads, config_.head_dim, config_.sliding_window[i]});
    linear_rows(mixed, attended, layer.o, layer.o_bias);
    adapt(mixed, attended, i, &LoraLayer::o);
    normed = add_rms_norm_(residual, mixed, layer.mlp_norm, eps);
    linear_rows(gate_up, normed, layer.gate_up, layer.gate_up_bias);
    adapt(gate_up, normed, i, &LoraLayer::gate_up);
    const at::Tensor act = swiglu(gate_up);
    linear_rows(mixed, act, layer.down, layer.down_bias);
    adapt(mixed, act, i, &LoraLayer::down);
    const bool last = i + 1 == config_.num_layers;
    normed = add_rms_norm_(residual, mixed,
                           last ? weights_.final_norm : weights_.layers[i + 1].attention_norm, eps);
  }
  return normed;
}

}  // namespace cream
