#include "model/adapter_file.h"

#include <ATen/Functions.h>
#include <c10/util/Exception.h>

#include <map>

#include "model/read_tensors.h"

namespace cream {

namespace {

constexpr char kFile[] = "adapter_model.safetensors";

std::shared_ptr<Model> with_adapter(const Model& base, Adapter adapter) {
  Weights weights = base.weights;  // the tensors are shared
  weights.adapter = std::make_shared<Adapter>(std::move(adapter));
  return std::make_shared<Model>(Model{std::move(weights), base.dtype, base.device});
}

const Adapter& adapter_of(const Model& model, const char* verb) {
  TORCH_CHECK_VALUE(model.weights.adapter != nullptr, verb, ": the model has no adapter");
  return *model.weights.adapter;
}

}  // namespace

std::shared_ptr<Model> add_adapter(const Model& base, const LoraOptions& options, uint64_t seed) {
  Adapter adapter = make_adapter(base.weights.config, options, base.dtype, base.device);
  init_adapter(adapter, seed);
  return with_adapter(base, std::move(adapter));
}

Adapter read_adapter(const ModelConfig& config, const LoraOptions& options, const std::string& path,
                     at::ScalarType dtype, at::Device device) {
  Adapter adapter = make_adapter(config, options, dtype, device);
  std::vector<std::unique_ptr<safetensors::File>> files;
  files.push_back(std::make_unique<safetensors::File>(path));
  const auto found = find_tensors(files);
  const auto wanted = peft_tensors(adapter, config, adapter.master);
  // What VeLoRA compresses activations by in training; it adds nothing to what is computed.
  constexpr auto kMayBeThere = [](const std::string& name, bool) {
    return name.ends_with(".lora_velora_embed");
  };
  check_tensors(found, wanted, kMayBeThere, false, path, "adapter_config.json");
  for (const auto& [name, view] : wanted) {
    const at::Tensor values = at::empty(view.sizes(), at::kFloat);
    read_tensor(*files.front(), name, *found.at(name).entry, values);
    view.copy_(values);
  }
  round_master(adapter);
  return adapter;
}

std::shared_ptr<Model> load_adapter(const Model& base, const LoraOptions& options, const std::string& path) {
  return with_adapter(base, read_adapter(base.weights.config, options, path, base.dtype, base.device));
}

void save_adapter(const Model& model, const std::string& directory) {
  const Adapter& adapter = adapter_of(model, "saveAdapter");
  std::vector<at::Tensor> on_cpu;  // keeps the bytes alive
  std::vector<safetensors::Source> tensors;
  for (const auto& [name, view] : peft_tensors(adapter, model.weights.config, adapter.master)) {
    on_cpu.push_back(view.cpu().contiguous());
    tensors.push_back({name, safetensors::Dtype::kF32, view.sizes().vec(),
                       safetensors::in_memory(on_cpu.back().const_data_ptr())});
  }
  safetensors::write(directory + "/" + kFile, tensors, {{"format", "pt"}});
}

// In the order in which PEFT 0.21 computes, so that the bits are the same: the product in float32, times the
// scale, plus the weight, each rounded to float32.
at::Tensor merged_weight(const at::Tensor& weight, const AdaptedMatrix& matrix) {
  return at::mm(matrix.b, matrix.a).mul_(matrix.scale).add_(weight.to(at::kFloat));
}

std::shared_ptr<Model> merge_adapter(const Model& model) {
  adapter_of(model, "mergeAdapter");
  auto merged = clone_model(model);
  Weights& weights = merged->weights;
  const Adapter adapter = std::move(*weights.adapter);
  weights.adapter = nullptr;
  std::map<std::string, at::Tensor> by_name;
  for (const auto& [name, view] : hugging_face_tensors(weights)) by_name.emplace(name, view);
  // The factors in float32, as they were trained, not as they were rounded for computing.
  for (const AdaptedMatrix& matrix : adapted_matrices(adapter, weights.config, adapter.master)) {
    const at::Tensor& weight = by_name.at(matrix.module + ".weight");
    weight.copy_(merged_weight(weight, matrix));
  }
  return merged;
}

}  // namespace cream
