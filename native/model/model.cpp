#include "model/model.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>

#include "model/adapter.h"
#include "model/read_tensors.h"
#include "model/residence.h"
#include "model/safetensors.h"
#include "model/upload.h"
#include "ops/device.h"
#include "ops/dispatch.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

using safetensors::Dtype;
using safetensors::Error;

constexpr char kHead[] = "lm_head.weight";
constexpr char kEmbedding[] = "model.embed_tokens.weight";

// Buffers that older checkpoints carry and that are computed from the config.
bool is_rotary_buffer(const std::string& name) {
  constexpr std::string_view kSuffix = ".rotary_emb.inv_freq";
  return name.size() > kSuffix.size() &&
         name.compare(name.size() - kSuffix.size(), kSuffix.size(), kSuffix) == 0;
}

// Buffers that are computed, and the second copy of a tied head.
bool may_be_there(const std::string& name, bool is_tied) {
  return is_rotary_buffer(name) || (is_tied && name == kHead);
}

// A tied model may carry its head a second time; another head than the embedding would be ignored in silence.
void check_tied_head(const safetensors::File& file, const safetensors::Entry& entry,
                     const at::Tensor& embed) {
  if (embed.sizes() != at::IntArrayRef(entry.shape))
    throw Error(file.path() + ": tensor " + kHead + " has shape " + shape_text(entry.shape) + ", expected " +
                shape_text(embed.sizes()));
  const at::Tensor head = at::empty(embed.sizes(), embed.options().device(at::kCPU));
  read_tensor(file, kHead, entry, head);
  if (!head.equal(embed.cpu()))
    throw Error(file.path() + ": " + kHead + " differs from " + kEmbedding +
                ", but config.json says tie_word_embeddings: true; set it to false to use this head");
}

Dtype file_dtype(at::ScalarType dtype) { return dtype == at::kFloat ? Dtype::kF32 : Dtype::kBF16; }

// The bytes of a view, brought to the host when they are asked for. `held` is the tensor that is there.
safetensors::Piece bytes_on_host(const at::Tensor& view, const std::shared_ptr<at::Tensor>& held) {
  return [view, held](uint64_t begin, uint64_t size) {
    if (begin == 0) *held = view.cpu().contiguous();
    return std::string_view(static_cast<const char*>(held->const_data_ptr()) + begin, size);
  };
}

}  // namespace

CheckpointFiles open_checkpoint(const ModelConfig& config, const std::vector<std::string>& paths) {
  TORCH_CHECK_VALUE(!paths.empty(), "files must name at least one safetensors file");
  CheckpointFiles checkpoint;
  for (const auto& path : paths) checkpoint.files.push_back(std::make_unique<safetensors::File>(path));
  checkpoint.tensors = find_tensors(checkpoint.files);
  // The shapes are compared on a device without memory: a wrong config costs no allocation of its size.
  const auto shapes = hugging_face_tensors(make_weights(config, at::kFloat, at::kMeta));
  check_tensors(checkpoint.tensors, shapes, may_be_there, config.tie_word_embeddings, paths.front(),
                "config.json");
  return checkpoint;
}

std::shared_ptr<Model> load_model(const ModelConfig& config, const std::vector<std::string>& paths,
                                  at::ScalarType dtype, at::Device device, bool emulated) {
  const DeviceScope scope(device);
  const auto [files, found] = open_checkpoint(config, paths);
  Weights weights = make_weights(config, dtype, device);
  weights.emulated = emulated;
  std::optional<Upload> upload;
  if (!device.is_cpu() || emulated) upload.emplace(device);
  for (const auto& [name, view] : hugging_face_tensors(weights)) {
    const Found& place = found.at(name);
    if (upload) {
      upload->read(*place.file, name, *place.entry, view);
    } else {
      read_tensor(*place.file, name, *place.entry, view);
    }
  }
  upload.reset();
  if (config.tie_word_embeddings) {
    const auto head = found.find(kHead);
    if (head != found.end()) check_tied_head(*head->second.file, *head->second.entry, weights.embed);
  }
  return std::make_shared<Model>(Model{std::move(weights), dtype, device});
}

std::shared_ptr<Model> random_model(const ModelConfig& config, uint64_t seed, at::ScalarType dtype,
                                    at::Device device, bool emulated) {
  const DeviceScope scope(device, emulated);
  Weights weights = make_weights(config, dtype, device);
  init_weights(weights, seed);
  return std::make_shared<Model>(Model{std::move(weights), dtype, device});
}

std::shared_ptr<Model> clone_model(const Model& model) {
  check_resident(model.weights, "clone");
  Weights weights = make_weights(model.weights.config, model.dtype, model.device);
  weights.emulated = model.weights.emulated;
  weights.flat.copy_(model.weights.flat);
  if (model.weights.adapter != nullptr) weights.adapter = copied(*model.weights.adapter, weights.config);
  return std::make_shared<Model>(Model{std::move(weights), model.dtype, model.device});
}

std::vector<std::string> save_model(const Model& model, const std::string& directory,
                                    uint64_t max_shard_bytes) {
  check_resident(model.weights, "save");
  const auto held = std::make_shared<at::Tensor>();  // of a device, one tensor at a time
  std::vector<safetensors::Source> sources;
  for (const auto& [name, view] : hugging_face_tensors(model.weights))
    sources.push_back({name, file_dtype(model.dtype), view.sizes().vec(), bytes_on_host(view, held)});
  return safetensors::write_checkpoint(directory, sources, max_shard_bytes);
}

}  // namespace cream
