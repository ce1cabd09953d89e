// All parameters of a model as views of one flat buffer, so that the optimizer, copies, norms and
// checkpoints of training state see one tensor. The same layout over another buffer holds gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "model/model_config.h"

namespace cream {

// Merged matrices: qkv rows are all query heads, then key heads, then value heads; gate_up rows are gate,
// then up. A tensor is undefined where the architecture lacks it. Linear weights are [out, in].
struct LayerWeights {
  at::Tensor attention_norm;  // [C]
  at::Tensor qkv;             // [(Hq + 2 Hkv) D, C]
  at::Tensor qkv_bias;        // [(Hq + 2 Hkv) D]
  at::Tensor q_norm;          // [D]
  at::Tensor k_norm;          // [D]
  at::Tensor o;               // [C, Hq D]
  at::Tensor o_bias;          // [C]
  at::Tensor mlp_norm;        // [C]
  at::Tensor gate_up;         // [2 F, C]
  at::Tensor gate_up_bias;    // [2 F]
  at::Tensor down;            // [C, F]
  at::Tensor down_bias;       // [C]
};

struct Adapter;

// Weights on a device may leave it for host memory. What is there stays when they come back, for as long as
// nothing trains them: to leave again costs nothing then.
struct Residence {
  at::Tensor host;       // the bytes of the weights; undefined where they have none
  bool is_away = false;  // they are in `host` alone
};

struct Weights {
  ModelConfig config;
  at::Tensor flat;             // [n]; parameters start at multiples of 64 bytes, the gaps stay zero
  int64_t decay_size = 0;      // flat[0, decay_size) are matrices (weight decay); the rest norms and biases
  int64_t num_parameters = 0;  // without the gaps; a tied head counts once

  at::Tensor embed;       // [V, C]
  at::Tensor final_norm;  // [C]
  at::Tensor head;        // [V, C], the same tensor as embed when tied; [num_labels, C] of a classifier
  std::vector<LayerWeights> layers;

  // Added to the frozen weights wherever they are applied; null without one.
  std::shared_ptr<Adapter> adapter;

  // Ops take the GPU's path, its kernels emulated on the CPU (docs/native.md).
  bool emulated = false;

  // Where the bytes of `flat` are (model/residence.h); shared by copies of this struct.
  std::shared_ptr<Residence> residence = std::make_shared<Residence>();

  // Rotations by position, grown on demand (model/rope_cache.h); shared by copies of this struct.
  std::shared_ptr<at::Tensor> rope_table = std::make_shared<at::Tensor>();
};

// Zero-filled weights of this layout. The flat size does not depend on the dtype.
Weights make_weights(const ModelConfig& config, at::ScalarType dtype, at::Device device);

// The same without memory behind it yet.
Weights make_hollow_weights(const ModelConfig& config, at::ScalarType dtype, at::Device device);

// Deterministic random initialisation (counter-based in the seed, the same on every device and thread
// count): matrices N(0, 1/sqrt(fan_in)), o and down divided by sqrt(2 layers), embed and head N(0, 0.02),
// norms 1, biases 0.
void init_weights(Weights& weights, uint64_t seed);

// The parameters under their Hugging Face names ("model.layers.0.self_attn.q_proj.weight", ...), each a
// view into the merged tensors, in the order in which transformers writes them. A tied head is not listed.
struct NamedTensor {
  std::string name;
  at::Tensor view;
};
std::vector<NamedTensor> hugging_face_tensors(const Weights& weights);

}  // namespace cream
