#include "model/transformer.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>

#include <cstring>

#include "model/rope_cache.h"
#include "ops/dispatch.h"
#include "ops/linear.h"
#include "ops/packed_attention.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/swiglu.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

at::Tensor as_index(const std::vector<int64_t>& values) {
  at::Tensor index = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::memcpy(index.data_ptr<int64_t>(), values.data(), values.size() * sizeof(int64_t));
  return index;
}

AttentionShape attention_shape(const ModelConfig& config, int64_t layer) {
  return {config.num_heads, config.num_kv_heads, config.head_dim, config.sliding_window[layer]};
}

// Adds row r of d to row ids[r] of the embedding's gradient. Threads own columns, so the order of the sums is
// that of the rows.
void add_embedding_gradient(at::Tensor& d_embed, const std::vector<int64_t>& ids, const at::Tensor& d_RC) {
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
    residual_ = weights_.embed.index_select(0, as_index(pack_.ids));
    at::Tensor normed = rms_norm(residual_, weights_.layers[0].attention_norm, config_.rms_norm_eps);
    for (int64_t i = 0; i < config_.num_layers; ++i) {
      if (saved_ != nullptr) saved_->layers.emplace_back();
      const at::Tensor attended = attention(i, normed, observe_kv);
      normed = add_norm(attended, weights_.layers[i].mlp_norm);
      if (saved_ != nullptr) saved_->layers[i].middle_RC = residual_;
      const at::Tensor mixed = mlp(i, normed);
      const bool last = i + 1 == config_.num_layers;
      normed = add_norm(mixed, last ? weights_.final_norm : weights_.layers[i + 1].attention_norm);
    }
    if (saved_ != nullptr) saved_->output_SC = residual_;
    return normed;
  }

 private:
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
    at::Tensor qkv = linear(normed, layer.qkv, layer.qkv_bias);
    at::Tensor raw;
    if (config_.qk_norm) {
      if (saved_ != nullptr) raw = qkv.narrow(1, 0, config_.q_size() + config_.kv_size()).clone();
      at::Tensor keys = qkv.narrow(1, config_.q_size(), config_.kv_size());
      rms_norm_heads_(qkv, config_.num_heads, layer.q_norm, config_.rms_norm_eps);
      rms_norm_heads_(keys, config_.num_kv_heads, layer.k_norm, config_.rms_norm_eps);
    }
    rope_(qkv, config_.num_heads + config_.num_kv_heads, config_.head_dim, pack_.positions.data(), angles_);
    if (observe_kv) {
      const auto heads = [&](int64_t begin) {
        return qkv.narrow(1, begin, config_.kv_size()).unflatten(1, {config_.num_kv_heads, config_.head_dim});
      };
      observe_kv(i, heads(config_.q_size()), heads(config_.q_size() + config_.kv_size()));
    }
    auto result = packed_attention(qkv, pack_, attention_shape(config_, i));
    if (saved_ != nullptr) {
      auto& kept = saved_->layers[i];
      kept.input_RC = residual_;
      kept.qkv_RE = qkv;
      kept.qk_raw_RE = raw;
      kept.attention_RE = result.out_RE;
      kept.lse_RH = result.lse_RH;
    }
    if (i + 1 == config_.num_layers) {
      const auto rows = as_index(pack_.head_rows);
      residual_ = residual_.index_select(0, rows);
      return linear(result.out_RE.index_select(0, rows), layer.o, layer.o_bias);
    }
    return linear(result.out_RE, layer.o, layer.o_bias);
  }

  at::Tensor mlp(int64_t i, const at::Tensor& normed) {
    const auto& layer = weights_.layers[i];
    const at::Tensor gate_up = linear(normed, layer.gate_up, layer.gate_up_bias);
    if (saved_ != nullptr) saved_->layers[i].gate_up_RF = gate_up;
    return linear(swiglu(gate_up), layer.down, layer.down_bias);
  }

  const Weights& weights_;
  const ModelConfig& config_;
  const Pack& pack_;
  Activations* saved_;
  at::Tensor angles_;
  at::Tensor residual_;
};

class Backward {
 public:
  Backward(const Weights& weights, const Pack& pack, Weights& grads)
      : weights_(weights),
        config_(weights.config),
        pack_(pack),
        grads_(grads),
        angles_(rope_table_for(weights, pack)) {}

  void run(Activations& saved, const at::Tensor& d_hidden_SC) {
    at::Tensor d = rms_norm_backward(d_hidden_SC, saved.output_SC, weights_.final_norm, config_.rms_norm_eps,
                                     grads_.final_norm);
    saved.output_SC.reset();
    for (int64_t i = config_.num_layers - 1; i >= 0; --i) {
      d = attention(i, saved.layers[i], mlp(i, saved.layers[i], d));
      saved.layers[i] = {};
    }
    add_embedding_gradient(grads_.embed, pack_.ids, d);
  }

 private:
  // Gradient by the residual stream before the MLP, for d after it.
  at::Tensor mlp(int64_t i, LayerActivations& kept, const at::Tensor& d) {
    const auto& layer = weights_.layers[i];
    auto& grad = grads_.layers[i];
    at::Tensor d_gate_up = std::move(kept.gate_up_RF);
    const at::Tensor act = swiglu_backward_(d_gate_up, linear_backward_input(d, layer.down));
    linear_backward_weight(d, act, grad.down, grad.down_bias);
    const at::Tensor normed = rms_norm(kept.middle_RC, layer.mlp_norm, config_.rms_norm_eps);
    linear_backward_weight(d_gate_up, normed, grad.gate_up, grad.gate_up_bias);
    return rms_norm_backward(linear_backward_input(d_gate_up, layer.gate_up), kept.middle_RC, layer.mlp_norm,
                             config_.rms_norm_eps, grad.mlp_norm, d);
  }

  // Gradient by the residual stream before the layer, for d after attention (head rows in the last layer).
  at::Tensor attention(int64_t i, LayerActivations& kept, at::Tensor d) {
    const auto& layer = weights_.layers[i];
    auto& grad = grads_.layers[i];
    at::Tensor d_out = linear_backward_input(d, layer.o);
    if (i + 1 == config_.num_layers) {
      const auto rows = as_index(pack_.head_rows);
      linear_backward_weight(d, kept.attention_RE.index_select(0, rows), grad.o, grad.o_bias);
      d = spread(d, rows);
      d_out = spread(d_out, rows);
    } else {
      linear_backward_weight(d, kept.attention_RE, grad.o, grad.o_bias);
    }
    at::Tensor d_qkv = packed_attention_backward(d_out, kept.qkv_RE, {kept.attention_RE, kept.lse_RH}, pack_,
                                                 attention_shape(config_, i));
    rope_(d_qkv, config_.num_heads + config_.num_kv_heads, config_.head_dim, pack_.positions.data(), angles_,
          /*inverse=*/true);
    if (config_.qk_norm) qk_norm_backward_(d_qkv, kept.qk_raw_RE, layer, grad);
    const at::Tensor normed = rms_norm(kept.input_RC, layer.attention_norm, config_.rms_norm_eps);
    linear_backward_weight(d_qkv, normed, grad.qkv, grad.qkv_bias);
    return rms_norm_backward(linear_backward_input(d_qkv, layer.qkv), kept.input_RC, layer.attention_norm,
                             config_.rms_norm_eps, grad.attention_norm, d);
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
  Weights& grads_;
  at::Tensor angles_;
};

}  // namespace

at::Tensor forward(const Weights& weights, const Pack& pack, Activations* saved,
                   const KvObserver& observe_kv) {
  TORCH_CHECK(pack.num_rows() > 0, "forward: the pack is empty");
  TORCH_CHECK(saved == nullptr || saved->layers.empty(), "forward: activations are in use");
  return Forward(weights, pack, saved).run(observe_kv);
}

void backward(const Weights& weights, const Pack& pack, Activations& saved, const at::Tensor& d_hidden_SC,
              Weights& grads) {
  TORCH_CHECK(saved.layers.size() == weights.layers.size(), "backward: no activations of a forward");
  Backward(weights, pack, grads).run(saved, d_hidden_SC);
  saved.layers.clear();
}

}  // namespace cream
