// Models with an adapter: made, read and written in PEFT's format, merged. They share the base's weights.
#pragma once

#include <memory>
#include <string>

#include "model/adapter.h"
#include "model/model.h"

namespace cream {

// The base's weights (shared, frozen by whoever trains the adapter) with a new adapter that changes nothing
// yet.
std::shared_ptr<Model> add_adapter(const Model& base, const LoraOptions& options, uint64_t seed);

// The tensors of an adapter_model.safetensors. Every tensor of the options must be there once
// with its shape, and nothing else; float32, bfloat16 and float16 are read, NaN and infinity refused by name.
Adapter read_adapter(const ModelConfig& config, const LoraOptions& options, const std::string& path,
                     at::ScalarType dtype, at::Device device);

// A model with them over the base's weights.
std::shared_ptr<Model> load_adapter(const Model& base, const LoraOptions& options, const std::string& path);

// Writes `directory`/adapter_model.safetensors, float32, flushed to disk. Refuses a model without an adapter.
void save_adapter(const Model& model, const std::string& directory);

// W + scale B A in float32, for a weight of any dtype.
at::Tensor merged_weight(const at::Tensor& weight, const AdaptedMatrix& matrix);

// A model of its own whose weights are W + scale B A, added in float32 and rounded once to the model's dtype.
std::shared_ptr<Model> merge_adapter(const Model& model);

}  // namespace cream
