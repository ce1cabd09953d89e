// A low-rank adapter (LoRA) beside a model's frozen weights: all of its matrices as views of one flat buffer.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "model/weights.h"
#include "ops/lora.h"

namespace cream {

// In the order of their merged matrices.
enum class Projection { kQ, kK, kV, kO, kGate, kUp, kDown };
inline constexpr size_t kNumProjections = 7;
// "q_proj", ...: the names of Hugging Face modules.
const char* name_of(Projection projection);

// The adapter of one matrix; rank 0: it has none.
struct LoraFactor {
  int64_t rank = 0;
  double alpha = 0;
};

struct LoraOptions {
  int64_t rank = 16;
  double alpha = 32;
  double dropout = 0;                           // of the adapter's inputs, in training
  bool rank_stabilized = false;                 // scale alpha / sqrt(rank) in place of alpha / rank
  std::array<bool, kNumProjections> targets{};  // by Projection
  // Where matrices differ: [layer][projection], in place of rank, alpha and targets. Empty: they do not.
  std::vector<std::array<LoraFactor, kNumProjections>> modules{};

  LoraFactor factor(int64_t layer, Projection projection) const;
  double scale(const LoraFactor& factor) const;
};

struct LoraLayer {
  LoraSite qkv, o, gate_up, down;
};

struct Adapter {
  LoraOptions options;
  at::Tensor flat;    // [n] the model's dtype
  at::Tensor master;  // [n] float32: what training updates and files hold; `flat` itself when that is float32
  int64_t num_parameters = 0;
  std::vector<LoraLayer> layers;
};

// Zeros. Refuses a rank below 1, no target, modules of another number of layers, and a dropout outside of
// [0, 1).
Adapter make_adapter(const ModelConfig& config, const LoraOptions& options, at::ScalarType dtype,
                     at::Device device);

// The same factors in memory of their own.
std::shared_ptr<Adapter> copied(const Adapter& adapter, const ModelConfig& config);

// As PEFT begins: a uniform in +- 1/sqrt(in) (Kaiming with a = sqrt 5), b zero, so that nothing changes yet.
void init_adapter(Adapter& adapter, uint64_t seed);

// Sets the working weights to the master rounded to nearest.
void round_master(Adapter& adapter);

struct AdaptedMatrix {
  std::string module;  // "model.layers.0.self_attn.q_proj"
  at::Tensor a, b;     // [r, in], [out, r]
  double scale;
};
// As views of `flat`, or of another buffer of its layout.
std::vector<AdaptedMatrix> adapted_matrices(const Adapter& adapter, const ModelConfig& config,
                                            const at::Tensor& flat);

// The same under PEFT's names: "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" [r, in],
// "... lora_B.weight" [out, r].
std::vector<NamedTensor> peft_tensors(const Adapter& adapter, const ModelConfig& config,
                                      const at::Tensor& flat);

}  // namespace cream
