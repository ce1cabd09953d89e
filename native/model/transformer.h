// The transformer over a pack of rows: forward, and a hand-written backward that recomputes what is cheap
// (norms, SwiGLU) and adds parameter gradients straight into a flat buffer.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "model/pack.h"
#include "model/weights.h"

namespace cream {

// What the backward computes again instead of keeping it. Selective: the norms (SwiGLU comes with its own
// backward in any case). Full: everything but each layer's input. None: nothing. All three give the same
// bits.
enum class Recompute { kSelective, kFull, kNone };

struct RecomputePlan {
  Recompute how = Recompute::kSelective;
  // Of so many of the first layers the gate and up projections as well: half of a layer's products for three
  // fifths of its memory, the most that a product saves.
  int64_t gate_up_layers = 0;
};

// What the backward needs of one layer; R rows. Opaque to callers.
struct LayerActivations {
  at::Tensor input_RC;      // residual stream that enters the layer
  at::Tensor qkv_RE;        // after bias, q/k norm and RoPE
  at::Tensor qk_raw_RE;     // before q/k norm (only with qk_norm)
  at::Tensor attention_RE;  // attention output before the o projection
  at::Tensor lse_RH;        // float32 log-sum-exp of the attention scores
  at::Tensor middle_RC;     // residual stream after attention
  at::Tensor gate_up_RF;    // before SwiGLU
  // Only without recomputing: what the norms gave.
  at::Tensor attention_normed_RC, mlp_normed_RC;
};

struct Activations {
  RecomputePlan recompute;
  std::vector<LayerActivations> layers;
  at::Tensor output_SC;  // residual stream of the head rows before the final norm
};

// Called per layer with the rotated keys and the values of all rows: [R, Hkv, D] views, valid during the
// call.
using KvObserver = std::function<void(int64_t layer, const at::Tensor& k_RHD, const at::Tensor& v_RHD)>;

// Returns the final hidden states (after the final norm) of pack.head_rows: [S, C], in the weights' dtype.
// With `saved`, keeps what `backward` needs. Must run without grad mode.
at::Tensor forward(const Weights& weights, const Pack& pack, Activations* saved = nullptr,
                   const KvObserver& observe_kv = nullptr);

// Where gradients are added, float32: of all weights, or of the adapter alone. One of them.
struct Gradients {
  Weights* weights = nullptr;
  Adapter* adapter = nullptr;
  // The matrices of all layers and the head are written, whatever they held; the embedding, norms and biases
  // are still added to.
  bool overwrite_matrices = false;
};

// d_hidden_SC: gradient of the loss by forward's result (weights' dtype). Adds the parameter gradients, head
// excluded: the head is the caller's. Releases `saved` as it goes.
void backward(const Weights& weights, const Pack& pack, Activations& saved, const at::Tensor& d_hidden_SC,
              const Gradients& grads);

}  // namespace cream
