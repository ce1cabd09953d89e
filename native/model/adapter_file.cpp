#include "model/adapter_file.h"

#include <ATen/Functions.h>
#include <c10/util/Exception.h>

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

// W += scale B A for the parts of one merged matrix.
void merge_site(at::Tensor weight, const LoraSite& site, double scale) {
  if (!site.a.defined()) return;
  const int64_t rank = site.a.size(0) / static_cast<int64_t>(site.parts.size());
  for (size_t i = 0; i < site.parts.size(); ++i) {
    const auto& [b, begin] = site.parts[i];
    at::Tensor rows = weight.narrow(0, begin, b.size(0));
    const at::Tensor a = site.a.narrow(0, static_cast<int64_t>(i) * rank, rank);
    rows.copy_(rows.to(at::kFloat).add_(at::mm(b, a), scale));
  }
}

}  // namespace

std::shared_ptr<Model> add_adapter(const Model& base, const LoraOptions& options, uint64_t seed) {
  Adapter adapter = make_adapter(base.weights.config, options, base.dtype, base.device);
  init_adapter(adapter, seed);
  return with_adapter(base, std::move(adapter));
}

std::shared_ptr<Model> load_adapter(const Model& base, const LoraOptions& options, const std::string& path) {
  Adapter adapter = make_adapter(base.weights.config, options, base.dtype, base.device);
  std::vector<std::unique_ptr<safetensors::File>> files;
  files.push_back(std::make_unique<safetensors::File>(path));
  const auto found = find_tensors(files);
  const auto wanted = peft_tensors(adapter, base.weights.config, adapter.master);
  check_tensors(
      found, wanted, [](const std::string&, bool) { return false; }, false, path, "adapter_config.json");
  for (const auto& [name, view] : wanted) {
    const at::Tensor values = at::empty(view.sizes(), at::kFloat);
    read_tensor(*files.front(), name, *found.at(name).entry, values);
    view.copy_(values);
  }
  round_master(adapter);
  return with_adapter(base, std::move(adapter));
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

std::shared_ptr<Model> merge_adapter(const Model& model) {
  adapter_of(model, "mergeAdapter");
  auto merged = clone_model(model);
  Weights& weights = merged->weights;
  const Adapter adapter = std::move(*weights.adapter);
  weights.adapter = nullptr;
  // The factors in float32, as they were trained, not as they were rounded for computing.
  Adapter exact = make_adapter(weights.config, adapter.options, at::kFloat, merged->device);
  exact.flat.copy_(adapter.master);
  const double scale = adapter.options.scale();
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    LayerWeights& layer = weights.layers[i];
    const LoraLayer& lora = exact.layers[i];
    merge_site(layer.qkv, lora.qkv, scale);
    merge_site(layer.o, lora.o, scale);
    merge_site(layer.gate_up, lora.gate_up, scale);
    merge_site(layer.down, lora.down, scale);
  }
  return merged;
}

}  // namespace cream
