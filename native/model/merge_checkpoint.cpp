#include "model/merge_checkpoint.h"

#include <ATen/Functions.h>

#include <map>
#include <memory>

#include "model/adapter_file.h"
#include "model/model.h"
#include "model/read_tensors.h"
#include "model/safetensors.h"

namespace cream {

namespace {

using safetensors::Dtype;

at::ScalarType scalar_type(Dtype dtype) {
  return dtype == Dtype::kF32 ? at::kFloat : dtype == Dtype::kF16 ? at::kHalf : at::kBFloat16;
}

Dtype file_dtype(at::ScalarType dtype) {
  return dtype == at::kFloat ? Dtype::kF32 : dtype == at::kHalf ? Dtype::kF16 : Dtype::kBF16;
}

std::string_view bytes_of(const at::Tensor& tensor, uint64_t begin, uint64_t size) {
  return {static_cast<const char*>(tensor.const_data_ptr()) + begin, size};
}

}  // namespace

std::vector<std::string> merge_checkpoint(const ModelConfig& config, const std::vector<std::string>& paths,
                                          const LoraOptions& options, const std::string& adapter_file,
                                          std::optional<at::ScalarType> dtype, const std::string& directory,
                                          uint64_t max_shard_bytes) {
  const CheckpointFiles checkpoint = open_checkpoint(config, paths);
  const Adapter adapter = read_adapter(config, options, adapter_file, at::kFloat, at::kCPU);
  std::map<std::string, AdaptedMatrix> matrices;
  for (auto& matrix : adapted_matrices(adapter, config, adapter.master))
    matrices.emplace(matrix.module + ".weight", std::move(matrix));

  const auto held = std::make_shared<at::Tensor>();  // the tensor that is being written
  std::vector<safetensors::Source> sources;
  for (const auto& [name, place] : checkpoint.tensors) {
    const auto& [file, entry] = place;
    const auto found = matrices.find(name);
    const Dtype written = dtype ? file_dtype(*dtype) : entry->dtype;
    safetensors::Piece bytes = safetensors::in_memory(file->data(*entry));
    if (found != matrices.end() || written != entry->dtype) {
      const AdaptedMatrix* matrix = found == matrices.end() ? nullptr : &found->second;
      bytes = [=, name = name, file = file, entry = entry](uint64_t begin, uint64_t size) {
        if (begin == 0) {
          const at::Tensor weight = at::empty(entry->shape, at::kFloat);
          read_tensor(*file, name, *entry, weight);
          *held = (matrix == nullptr ? weight : merged_weight(weight, *matrix)).to(scalar_type(written));
          if (!held->isfinite().all().item<bool>())
            throw safetensors::Error(file->path() + ": tensor " + name +
                                     (matrix == nullptr ? "" : " with the adapter added") + " does not fit " +
                                     std::string(safetensors::name_of(written)) +
                                     "; write bfloat16 or float32 (--dtype)");
        }
        return bytes_of(*held, begin, size);
      };
    }
    sources.push_back({name, written, entry->shape, std::move(bytes)});
  }
  return safetensors::write_checkpoint(directory, sources, max_shard_bytes);
}

}  // namespace cream
