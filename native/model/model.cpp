#include "model/model.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "model/safetensors.h"
#include "ops/dispatch.h"
#include "ops/vector_math.h"

namespace cream {

namespace {

using safetensors::Dtype;
using safetensors::Error;

constexpr size_t kListed = 5;  // tensors named in one message
constexpr char kHead[] = "lm_head.weight";
constexpr char kEmbedding[] = "model.embed_tokens.weight";

std::string shape_text(at::IntArrayRef shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

std::string listing(const std::vector<std::string>& items) {
  std::string text;
  for (size_t i = 0; i < std::min(items.size(), kListed); ++i) text += (i > 0 ? ", " : "") + items[i];
  if (items.size() > kListed) text += " and " + std::to_string(items.size() - kListed) + " more";
  return text;
}

// Buffers that older checkpoints carry and that are computed from the config.
bool is_rotary_buffer(const std::string& name) {
  constexpr std::string_view kSuffix = ".rotary_emb.inv_freq";
  return name.size() > kSuffix.size() &&
         name.compare(name.size() - kSuffix.size(), kSuffix.size(), kSuffix) == 0;
}

float read_element(Dtype dtype, const char* bytes, int64_t i) {
  if (dtype == Dtype::kF32) {
    float value;
    std::memcpy(&value, bytes + 4 * i, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, bytes + 2 * i, 2);
  return dtype == Dtype::kBF16 ? to_float(c10::BFloat16(bits, c10::BFloat16::from_bits()))
                               : static_cast<float>(c10::Half(bits, c10::Half::from_bits()));
}

bool is_finite(float value) { return (std::bit_cast<uint32_t>(value) & 0x7F800000u) != 0x7F800000u; }

// Converts elements [begin, end); false when one of the results is NaN or infinite.
template <Dtype kSource, typename T>
bool convert_range(const char* bytes, T* out, int64_t begin, int64_t end) {
  uint32_t bad = 0;
#pragma omp simd reduction(| : bad)
  for (int64_t i = begin; i < end; ++i) {
    out[i] = from_float<T>(read_element(kSource, bytes, i));
    bad |= static_cast<uint32_t>(!is_finite(to_float(out[i])));
  }
  return bad == 0;
}

template <typename T>
bool convert_range(Dtype source, const char* bytes, T* out, int64_t begin, int64_t end) {
  if (source == Dtype::kF32) return convert_range<Dtype::kF32>(bytes, out, begin, end);
  if (source == Dtype::kBF16) return convert_range<Dtype::kBF16>(bytes, out, begin, end);
  return convert_range<Dtype::kF16>(bytes, out, begin, end);
}

// Fills a contiguous CPU tensor from a file's bytes.
void read_tensor(const safetensors::File& file, const std::string& name, const safetensors::Entry& entry,
                 at::Tensor out) {
  if (entry.dtype != Dtype::kF32 && entry.dtype != Dtype::kBF16 && entry.dtype != Dtype::kF16)
    throw Error(file.path() + ": tensor " + name + " has dtype " +
                std::string(safetensors::name_of(entry.dtype)) +
                "; weights must be F32, BF16 or F16 (quantised checkpoints are not supported)");
  const char* bytes = file.data(entry);
  std::atomic<bool> finite{true};
  with_dtype(out.scalar_type(), "load_model", [&](auto zero) {
    using T = decltype(zero);
    T* values = out.data_ptr<T>();
    at::parallel_for(0, out.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
      if (!convert_range(entry.dtype, bytes, values, begin, end)) finite = false;
    });
    if (finite) return;
    for (int64_t i = 0; i < out.numel(); ++i) {
      if (is_finite(to_float(values[i]))) continue;
      const float value = read_element(entry.dtype, bytes, i);
      throw Error(file.path() + ": tensor " + name + ": element " + std::to_string(i) + " of " +
                  shape_text(out.sizes()) + " is " + std::to_string(value) +
                  (is_finite(value) ? ", which does not fit the requested dtype" : ""));
    }
  });
}

// A tied model may carry its head a second time; another head than the embedding would be ignored in silence.
void check_tied_head(const safetensors::File& file, const safetensors::Entry& entry,
                     const at::Tensor& embed) {
  if (embed.sizes() != at::IntArrayRef(entry.shape))
    throw Error(file.path() + ": tensor " + kHead + " has shape " + shape_text(entry.shape) + ", expected " +
                shape_text(embed.sizes()));
  const at::Tensor head = at::empty_like(embed);
  read_tensor(file, kHead, entry, head);
  if (!head.equal(embed))
    throw Error(file.path() + ": " + kHead + " differs from " + kEmbedding +
                ", but config.json says tie_word_embeddings: true; set it to false to use this head");
}

struct Found {
  const safetensors::File* file;
  const safetensors::Entry* entry;
};

std::map<std::string, Found> find_tensors(const std::vector<std::unique_ptr<safetensors::File>>& files) {
  std::map<std::string, Found> found;
  for (const auto& file : files)
    for (const auto& [name, entry] : file->header().tensors) {
      const auto [place, is_new] = found.emplace(name, Found{file.get(), &entry});
      if (!is_new)
        throw Error("tensor " + name + " is in " + place->second.file->path() + " and again in " +
                    file->path());
    }
  return found;
}

// Names every tensor that is missing, unexpected or of another shape, before anything is read.
void check_tensors(const std::map<std::string, Found>& found, const std::vector<NamedTensor>& wanted,
                   bool is_tied, const std::string& where) {
  std::vector<std::string> missing, unexpected, misshapen;
  std::set<std::string> known;
  for (const auto& [name, view] : wanted) {
    known.insert(name);
    const auto place = found.find(name);
    if (place == found.end()) {
      missing.push_back(name + " " + shape_text(view.sizes()));
    } else if (view.sizes() != at::IntArrayRef(place->second.entry->shape)) {
      misshapen.push_back(name + " has shape " + shape_text(place->second.entry->shape) + ", expected " +
                          shape_text(view.sizes()));
    }
  }
  for (const auto& [name, place] : found)
    if (!known.contains(name) && !is_rotary_buffer(name) && !(is_tied && name == kHead))
      unexpected.push_back(safetensors::json_string(name) + " " + shape_text(place.entry->shape));
  std::string text;
  const auto report = [&](const char* what, const std::vector<std::string>& items) {
    if (!items.empty()) text += (text.empty() ? "" : "; ") + std::string(what) + listing(items);
  };
  report("misshapen: ", misshapen);
  report("missing: ", missing);
  report("not part of the architecture: ", unexpected);
  if (!text.empty()) throw Error(where + ": the tensors do not match config.json: " + text);
}

std::shared_ptr<Model> to_device(Weights weights, at::ScalarType dtype, at::Device device) {
  if (!device.is_cpu()) {
    Weights moved = make_weights(weights.config, dtype, device);
    moved.flat.copy_(weights.flat);
    weights = std::move(moved);
  }
  return std::make_shared<Model>(Model{std::move(weights), dtype, device});
}

Dtype file_dtype(at::ScalarType dtype) { return dtype == at::kFloat ? Dtype::kF32 : Dtype::kBF16; }

// Consecutive ranges of `tensors` whose bytes fit a shard; a larger tensor gets a shard of its own.
std::vector<std::vector<safetensors::Source>> split(const std::vector<safetensors::Source>& tensors,
                                                    const std::vector<uint64_t>& bytes,
                                                    uint64_t max_shard_bytes) {
  std::vector<std::vector<safetensors::Source>> shards(1);
  uint64_t used = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!shards.back().empty() && used + bytes[i] > max_shard_bytes) {
      shards.emplace_back();
      used = 0;
    }
    shards.back().push_back(tensors[i]);
    used += bytes[i];
  }
  return shards;
}

std::string shard_name(size_t index, size_t count) {
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

}  // namespace

std::shared_ptr<Model> load_model(const ModelConfig& config, const std::vector<std::string>& paths,
                                  at::ScalarType dtype, at::Device device) {
  TORCH_CHECK_VALUE(!paths.empty(), "loadModel: files must name at least one safetensors file");
  std::vector<std::unique_ptr<safetensors::File>> files;
  for (const auto& path : paths) files.push_back(std::make_unique<safetensors::File>(path));
  const auto found = find_tensors(files);
  // The shapes are compared on a device without memory: a wrong config costs no allocation of its size.
  const auto shapes = hugging_face_tensors(make_weights(config, dtype, at::kMeta));
  check_tensors(found, shapes, config.tie_word_embeddings, paths.front());

  Weights weights = make_weights(config, dtype, at::kCPU);
  for (const auto& [name, view] : hugging_face_tensors(weights)) {
    const Found& place = found.at(name);
    read_tensor(*place.file, name, *place.entry, view);
  }
  if (config.tie_word_embeddings) {
    const auto head = found.find(kHead);
    if (head != found.end()) check_tied_head(*head->second.file, *head->second.entry, weights.embed);
  }
  return to_device(std::move(weights), dtype, device);
}

std::shared_ptr<Model> random_model(const ModelConfig& config, uint64_t seed, at::ScalarType dtype,
                                    at::Device device) {
  Weights weights = make_weights(config, dtype, at::kCPU);
  init_weights(weights, seed);
  return to_device(std::move(weights), dtype, device);
}

std::shared_ptr<Model> clone_model(const Model& model) {
  Weights weights = make_weights(model.weights.config, model.dtype, model.device);
  weights.flat.copy_(model.weights.flat);
  return std::make_shared<Model>(Model{std::move(weights), model.dtype, model.device});
}

std::vector<std::string> save_model(const Model& model, const std::string& directory,
                                    uint64_t max_shard_bytes) {
  std::vector<at::Tensor> on_cpu;  // keeps the bytes alive
  std::vector<safetensors::Source> tensors;
  std::vector<uint64_t> bytes;
  uint64_t total = 0;
  for (const auto& [name, view] : hugging_face_tensors(model.weights)) {
    on_cpu.push_back(view.cpu().contiguous());
    tensors.push_back({name, file_dtype(model.dtype), view.sizes().vec(), on_cpu.back().const_data_ptr()});
    bytes.push_back(on_cpu.back().nbytes());
    total += bytes.back();
  }
  const auto shards = split(tensors, bytes, max_shard_bytes);
  const std::map<std::string, std::string> metadata{{"format", "pt"}};
  if (shards.size() == 1) {
    safetensors::write(directory + "/model.safetensors", tensors, metadata);
    return {"model.safetensors"};
  }
  std::vector<std::string> names;
  std::string index =
      "{\n  \"metadata\": {\"total_size\": " + std::to_string(total) + "},\n  \"weight_map\": {";
  for (size_t i = 0; i < shards.size(); ++i) {
    names.push_back(shard_name(i, shards.size()));
    safetensors::write(directory + "/" + names.back(), shards[i], metadata);
    for (const auto& tensor : shards[i])
      index += (index.back() == '{' ? "\n    " : ",\n    ") + safetensors::json_string(tensor.name) + ": " +
               safetensors::json_string(names.back());
  }
  index += "\n  }\n}\n";
  names.emplace_back("model.safetensors.index.json");
  safetensors::write_file(directory + "/" + names.back(), {index});
  return names;
}

}  // namespace cream
