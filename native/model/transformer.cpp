#include "model/transformer.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>

#include <cstring>

#include "model/adapter.h"
#include "model/residence.h"
#include "model/rope_cache.h"
#include "ops/dispatch.h"
#include "ops/gpu.h"
#include "ops/linear.h"
#include "ops/pack_tables.h"
#include "ops/packed_attention.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/swiglu.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

// The ids and the head rows as index tensors on the weights' device.
at::Tensor as_index(const std::vector<int64_t>& values) {
  at::Tensor index = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::memcpy(index.data_ptr<int64_t>(), values.data(), values.size() * sizeof(int64_t));
  return index;
}
at::Tensor ids_of(const Pack& pack, const at::Tensor& beside) {
  return gpu::active(beside) ? gpu::tables_of(pack, beside.device()).ids : as_index(pack.ids);
}
at::Tensor head_rows_of(const Pack& pack, const at::Tensor& beside) {
  return gpu::active(beside) ? gpu::tables_of(pack, beside.device()).head_rows : as_index(pack.head_rows);
}

// Rotates the query and key heads of qkv by the rows' positions.
void rotate_(at::Tensor& qkv, const Pack& pack, const ModelConfig& config, const at::Tensor& table,
             bool inverse) {
  const int64_t heads = config.num_heads + config.num_kv_heads;
  if (gpu::active(qkv)) {
    const at::Tensor& positions = gpu::tables_of(pack, qkv.device()).positions;
    return gpu::rope_(qkv, heads, config.head_dim, positions, table, inverse);
  }
  rope_(qkv, heads, config.head_dim, pack.positions.data(), table, inverse);
}

AttentionShape attention_shape(const ModelConfig& config, int64_t layer) {
  return {config.num_heads, config.num_kv_heads, config.head_dim, config.sliding_window[layer]};
}

// The random numbers of one site of an adapter. `rows` are the pack's rows where the input is a selection.
LoraDropout dropout_of(const Pack& pack, int64_t layer, LoraSite LoraLayer::* site,
                       const std::vector<int64_t>* rows) {
  const uint32_t place = site == &LoraLayer::qkv       ? 0
                         : site == &LoraLayer::o       ? 1
                         : site == &LoraLayer::gate_up ? 2
                                                       : 3;
  return {pack.dropout, pack.dropout_key, static_cast<uint32_t>(layer) * 4 + place, pack.first_row, rows};
}

// y, with what the adapter adds for input x.
at::Tensor with_adapter(const Weights& weights, const Pack& pack, at::Tensor y, const at::Tensor& x,
                        int64_t i, LoraSite LoraLayer::* site) {
  if (weights.adapter != nullptr) {
    const auto* rows = x.size(0) == pack.num_rows() ? nullptr : &pack.head_rows;
    lora_add_(y, x, weights.adapter->layers[i].*site, dropout_of(pack, i, site, rows));
  }
  return y;
}

at::Tensor gate_up_of(const Weights& weights, const Pack& pack, int64_t i, const at::Tensor& normed) {
  const LayerWeights& layer = weights.layers[i];
  return with_adapter(weights, pack, linear(normed, layer.gate_up, layer.gate_up_bias), normed, i,
                      &LoraLayer::gate_up);
}

// Adds row r of d to row ids[r] of the embedding's gradient. Threads own columns, so the order of the sums is
// that of the rows.
void add_embedding_gradient(at::Tensor& d_embed, const std::vector<int64_t>& ids, const at::Tensor& d_RC) {
  if (gpu::active(d_RC)) return gpu::add_embedding_gradient(d_embed, ids, d_RC);
  const int64_t width = d_RC.size(1);
  with_dtype(d_RC.scalar_type(), "backward", [&](auto zero) {
    using T = decltype(zero);
    float* to = d_embed.data_ptr<float>();
    const T* from = d_RC.const_data_ptr<T>();
    at::parallel_for(0, width, 64, [&](int64_t begin, int64_t end) {
      for (size_t r = 0; r < ids.size(); ++r) {
        float* sum = to + ids[r] * width;
        const T* row = from + static_cast<int64_t>(r) * width;
#pragma omp simd
        for (int64_t c = begin; c < end; ++c) sum[c] += to_float(row[c]);
      }
    });
  });
}

// One forward over a pack. The residual stream is updated in place unless the backward needs its past values.
class Forward {
 public:
  Forward(const Weights& weights, const Pack& pack, Activations* saved)
      : weights_(weights),
        config_(weights.config),
        pack_(pack),
        saved_(saved),
        angles_(rope_table_for(weights, pack)) {}

  at::Tensor run(const KvObserver& observe_kv) {
    residual_ = weights_.embed.index_select(0, ids_of(pack_, weights_.flat));
    at::Tensor normed = rms_norm(residual_, weights_.layers[0].attention_norm, config_.rms_norm_eps);
    for (int64_t i = 0; i < config_.num_layers; ++i) {
      if (saved_ != nullptr) saved_->layers.emplace_back();
      const bool keep_all = saved_ != nullptr && saved_->recompute.how != Recompute::kFull;
      kept_ = keep_all ? &saved_->layers.back() : nullptr;
      if (saved_ != nullptr) saved_->layers[i].input_RC = residual_;
      const at::Tensor gate_up = up_to_gate(i, normed, observe_kv);
      const auto& layer = weights_.layers[i];
      const at::Tensor act = swiglu(gate_up);
      const at::Tensor mixed = adapted(linear(act, layer.down, layer.down_bias), act, i, &LoraLayer::down);
      const bool last = i + 1 == config_.num_layers;
      normed = add_norm(mixed, last ? weights_.final_norm : weights_.layers[i + 1].attention_norm);
    }
    if (saved_ != nullptr) saved_->output_SC = residual_;
    return normed;
  }

  // A layer's activations from its input, as `run` had them.
  LayerActivations again(int64_t i, const at::Tensor& input_RC) {
    LayerActivations kept;
    kept.input_RC = residual_ = input_RC;
    kept_ = &kept;
    up_to_gate(i, rms_norm(input_RC, weights_.layers[i].attention_norm, config_.rms_norm_eps), nullptr);
    kept_ = nullptr;
    return kept;
  }

 private:
  // The layer until before SwiGLU, for the norm of the residual stream that enters it.
  at::Tensor up_to_gate(int64_t i, const at::Tensor& normed, const KvObserver& observe_kv) {
    const auto& layer = weights_.layers[i];
    const at::Tensor mlp_normed = add_norm(attention(i, normed, observe_kv), layer.mlp_norm);
    const at::Tensor gate_up = gate_up_of(weights_, pack_, i, mlp_normed);
    if (kept_ != nullptr) {
      kept_->middle_RC = residual_;
      if (i >= saved_->recompute.gate_up_layers) kept_->gate_up_RF = gate_up;
      if (saved_->recompute.how == Recompute::kNone) {
        kept_->attention_normed_RC = normed;
        kept_->mlp_normed_RC = mlp_normed;
      }
    }
    return gate_up;
  }

  at::Tensor add_norm(const at::Tensor& x, const at::Tensor& norm) {
    if (saved_ == nullptr) return add_rms_norm_(residual_, x, norm, config_.rms_norm_eps);
    at::Tensor sum = at::empty_like(residual_);
    at::Tensor normed = add_rms_norm(sum, residual_, x, norm, config_.rms_norm_eps);
    residual_ = sum;
    return normed;
  }

  // Returns the o projection; in the last layer of the head rows alone, and drops the other residual rows.
  at::Tensor attention(int64_t i, const at::Tensor& normed, const KvObserver& observe_kv) {
    const auto& layer = weights_.layers[i];
    at::Tensor qkv = adapted(linear(normed, layer.qkv, layer.qkv_bias), normed, i, &LoraLayer::qkv);
    at::Tensor raw;
    if (config_.qk_norm) {
      if (kept_ != nullptr) raw = qkv.narrow(1, 0, config_.q_size() + config_.kv_size()).clone();
      at::Tensor keys = qkv.narrow(1, config_.q_size(), config_.kv_size());
      rms_norm_heads_(qkv, config_.num_heads, layer.q_norm, config_.rms_norm_eps);
      rms_norm_heads_(keys, config_.num_kv_heads, layer.k_norm, config_.rms_norm_eps);
    }
    rotate_(qkv, pack_, config_, angles_, /*inverse=*/false);
    if (observe_kv) {
      const auto heads = [&](int64_t begin) {
        return qkv.narrow(1, begin, config_.kv_size()).unflatten(1, {config_.num_kv_heads, config_.head_dim});
      };
      observe_kv(i, heads(config_.q_size()), heads(config_.q_size() + config_.kv_size()));
    }
    auto result = packed_attention(qkv, pack_, attention_shape(config_, i));
    if (kept_ != nullptr) {
      kept_->qkv_RE = qkv;
      kept_->qk_raw_RE = raw;
      kept_->attention_RE = result.out_RE;
      kept_->lse_RH = result.lse_RH;
    }
    if (i + 1 == config_.num_layers) {
      const auto rows = head_rows_of(pack_, weights_.flat);
      residual_ = residual_.index_select(0, rows);
      const at::Tensor out = result.out_RE.index_select(0, rows);
      return adapted(linear(out, layer.o, layer.o_bias), out, i, &LoraLayer::o);
    }
    return adapted(linear(result.out_RE, layer.o, layer.o_bias), result.out_RE, i, &LoraLayer::o);
  }

  at::Tensor adapted(at::Tensor y, const at::Tensor& x, int64_t i, LoraSite LoraLayer::* site) const {
    return with_adapter(weights_, pack_, std::move(y), x, i, site);
  }

  const Weights& weights_;
  const ModelConfig& config_;
  const Pack& pack_;
  Activations* saved_;
  at::Tensor angles_;
  at::Tensor residual_;
  LayerActivations* kept_ = nullptr;  // of the layer that is computed now; null: keep nothing of it
};

class Backward {
 public:
  Backward(const Weights& weights, const Pack& pack, const Gradients& grads)
      : weights_(weights),
        config_(weights.config),
        pack_(pack),
        grads_(grads),
        angles_(rope_table_for(weights, pack)) {
    if (grads_.weights == nullptr) {  // norms have a gradient that nobody asks for
      unused_ = at::empty({std::max(config_.hidden_size, config_.head_dim)},
                          weights_.flat.options().dtype(at::kFloat));
      frozen_.attention_norm = frozen_.mlp_norm = unused_.narrow(0, 0, config_.hidden_size);
      frozen_.q_norm = frozen_.k_norm = unused_.narrow(0, 0, config_.head_dim);
    }
  }

  void run(Activations& saved, const at::Tensor& d_hidden_SC) {
    at::Tensor d =
        rms_norm_backward(d_hidden_SC, saved.output_SC, weights_.final_norm, config_.rms_norm_eps,
                          grads_.weights != nullptr ? grads_.weights->final_norm : frozen_.attention_norm);
    saved.output_SC.reset();
    for (int64_t i = config_.num_layers - 1; i >= 0; --i) {
      LayerActivations kept = std::move(saved.layers[i]);
      if (saved.recompute.how == Recompute::kFull)
        kept = Forward(weights_, pack_, &saved).again(i, kept.input_RC);
      d = mlp(i, kept, d);
      d = attention(i, kept, d);
    }
    if (grads_.weights != nullptr) add_embedding_gradient(grads_.weights->embed, pack_.ids, d);
  }

 private:
  // Gradient by the residual stream before the MLP, for d after it.
  at::Tensor mlp(int64_t i, LayerActivations& kept, const at::Tensor& d) {
    const auto& layer = weights_.layers[i];
    LayerWeights& grad = gradients_of(i);
    at::Tensor normed = kept.mlp_normed_RC;
    at::Tensor d_gate_up = std::move(kept.gate_up_RF);
    if (!d_gate_up.defined()) {
      normed = normed_again(normed, kept.middle_RC, layer.mlp_norm);
      d_gate_up = gate_up_of(weights_, pack_, i, normed);
    }
    at::Tensor d_act = linear_backward_input(d, layer.down);
    if (has_adapter(i, &LoraLayer::down)) {
      const at::Tensor act = swiglu(d_gate_up);
      through_adapter(d_act, d, act, i, &LoraLayer::down);
    }
    const at::Tensor act = swiglu_backward_(d_gate_up, d_act);
    add_weight_gradient(d, act, grad.down, grad.down_bias);
    if (!normed.defined()) normed = normed_again(normed, kept.middle_RC, layer.mlp_norm);
    add_weight_gradient(d_gate_up, normed, grad.gate_up, grad.gate_up_bias);
    at::Tensor d_normed = linear_backward_input(d_gate_up, layer.gate_up);
    if (has_adapter(i, &LoraLayer::gate_up))
      through_adapter(d_normed, d_gate_up, normed, i, &LoraLayer::gate_up);
    return rms_norm_backward(d_normed, kept.middle_RC, layer.mlp_norm, config_.rms_norm_eps, grad.mlp_norm,
                             d);
  }

  // Gradient by the residual stream before the layer, for d after attention (head rows in the last layer).
  at::Tensor attention(int64_t i, LayerActivations& kept, at::Tensor d) {
    const auto& layer = weights_.layers[i];
    LayerWeights& grad = gradients_of(i);
    const bool last = i + 1 == config_.num_layers;
    const at::Tensor rows = last ? head_rows_of(pack_, weights_.flat) : at::Tensor();
    const at::Tensor attended = last ? kept.attention_RE.index_select(0, rows) : kept.attention_RE;
    at::Tensor d_out = linear_backward_input(d, layer.o);
    if (has_adapter(i, &LoraLayer::o)) through_adapter(d_out, d, attended, i, &LoraLayer::o);
    add_weight_gradient(d, attended, grad.o, grad.o_bias);
    if (last) {
      d = spread(d, rows);
      d_out = spread(d_out, rows);
    }
    at::Tensor d_qkv = packed_attention_backward(d_out, kept.qkv_RE, {kept.attention_RE, kept.lse_RH}, pack_,
                                                 attention_shape(config_, i));
    rotate_(d_qkv, pack_, config_, angles_, /*inverse=*/true);
    if (config_.qk_norm) qk_norm_backward_(d_qkv, kept.qk_raw_RE, layer, grad);
    const at::Tensor normed = normed_again(kept.attention_normed_RC, kept.input_RC, layer.attention_norm);
    add_weight_gradient(d_qkv, normed, grad.qkv, grad.qkv_bias);
    at::Tensor d_normed = linear_backward_input(d_qkv, layer.qkv);
    if (has_adapter(i, &LoraLayer::qkv)) through_adapter(d_normed, d_qkv, normed, i, &LoraLayer::qkv);
    return rms_norm_backward(d_normed, kept.input_RC, layer.attention_norm, config_.rms_norm_eps,
                             grad.attention_norm, d);
  }

  at::Tensor normed_again(const at::Tensor& kept, const at::Tensor& x, const at::Tensor& norm) const {
    return kept.defined() ? kept : rms_norm(x, norm, config_.rms_norm_eps);
  }

  LayerWeights& gradients_of(int64_t i) {
    return grads_.weights != nullptr ? grads_.weights->layers[i] : frozen_;
  }

  void add_weight_gradient(const at::Tensor& dy, const at::Tensor& x, at::Tensor& dw, at::Tensor& dbias) {
    if (grads_.weights != nullptr) linear_backward_weight(dy, x, dw, dbias, grads_.overwrite_matrices);
  }

  bool has_adapter(int64_t i, LoraSite LoraLayer::* site) const {
    return weights_.adapter != nullptr && (weights_.adapter->layers[i].*site).a.defined();
  }

  // Adds the gradient by the input x of an adapter's site to dx, and those of the adapter itself.
  void through_adapter(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& x, int64_t i,
                       LoraSite LoraLayer::* site) {
    const auto* rows = x.size(0) == pack_.num_rows() ? nullptr : &pack_.head_rows;
    lora_backward_(dx, dy, x, weights_.adapter->layers[i].*site, grads_.adapter->layers[i].*site,
                   dropout_of(pack_, i, site, rows));
  }

  void qk_norm_backward_(at::Tensor& d_qkv, const at::Tensor& raw, const LayerWeights& layer,
                         LayerWeights& grad) {
    at::Tensor d_keys = d_qkv.narrow(1, config_.q_size(), config_.kv_size());
    const at::Tensor raw_keys = raw.narrow(1, config_.q_size(), config_.kv_size());
    rms_norm_heads_backward_(d_qkv, raw, config_.num_heads, layer.q_norm, config_.rms_norm_eps, grad.q_norm);
    rms_norm_heads_backward_(d_keys, raw_keys, config_.num_kv_heads, layer.k_norm, config_.rms_norm_eps,
                             grad.k_norm);
  }

  // [S, C] at the head rows of a zero [R, C].
  at::Tensor spread(const at::Tensor& d_SC, const at::Tensor& rows) const {
    return at::zeros({pack_.num_rows(), d_SC.size(1)}, d_SC.options()).index_copy_(0, rows, d_SC);
  }

  const Weights& weights_;
  const ModelConfig& config_;
  const Pack& pack_;
  const Gradients& grads_;
  at::Tensor angles_;
  at::Tensor unused_;
  LayerWeights frozen_;  // gradients of norms where the weights are frozen
};

}  // namespace

at::Tensor forward(const Weights& weights, const Pack& pack, Activations* saved,
                   const KvObserver& observe_kv) {
  check_resident(weights, "forward");
  TORCH_CHECK(pack.num_rows() > 0, "forward: the pack is empty");
  TORCH_CHECK(saved == nullptr || saved->layers.empty(), "forward: activations are in use");
  return Forward(weights, pack, saved).run(observe_kv);
}

void backward(const Weights& weights, const Pack& pack, Activations& saved, const at::Tensor& d_hidden_SC,
              const Gradients& grads) {
  TORCH_CHECK(saved.layers.size() == weights.layers.size(), "backward: no activations of a forward");
  TORCH_CHECK((grads.weights == nullptr) != (grads.adapter == nullptr), "backward: one kind of gradient");
  TORCH_CHECK((grads.adapter == nullptr) == (weights.adapter == nullptr),
              "backward: an adapter's gradients belong to a model with an adapter");
  Backward(weights, pack, grads).run(saved, d_hidden_SC);
  saved.layers.clear();
}

}  // namespace cream
