// The training state as a safetensors file: master weights, moments, and as metadata everything that must
// agree for a continued run to compute the same bits.
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>

#include "model/safetensors.h"
#include "train/trainer.h"
#include "train/trainer_state.h"

namespace cream {

namespace {

constexpr const char* kFormat = "cream-lm training state 2";

// Shortest text that reads back to the same float64.
std::string text(double value) {
  char buffer[32];
  return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr};
}
std::string text(int64_t value) { return std::to_string(value); }
std::string text(bool value) { return value ? "true" : "false"; }

std::string text(const std::vector<int64_t>& values) {
  std::string joined;
  for (const int64_t value : values) {
    if (!joined.empty()) joined += ',';
    joined += std::to_string(value);
  }
  return joined;
}

const char* text(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::kNone:
      return "none";
    case RopeScaling::kLinear:
      return "linear";
    case RopeScaling::kLlama3:
      return "llama3";
  }
  return "";
}

// What must be the same in the file and in the trainer, by the names that a user knows.
std::map<std::string, std::string> identity(const Model& model, const AdamWOptions& options) {
  const ModelConfig& config = model.weights.config;
  std::map<std::string, std::string> adapter{{"lora.rank", "0"}};
  if (model.weights.adapter != nullptr) {
    const LoraOptions& lora = model.weights.adapter->options;
    std::string targets;
    for (const bool target : lora.targets) targets += target ? '1' : '0';
    std::string modules;  // rank:alpha of each projection, layer by layer
    for (const auto& layer : lora.modules)
      for (const auto& [rank, alpha] : layer) modules += text(rank) + ":" + text(alpha) + " ";
    adapter = {{"lora.rank", text(lora.rank)},       {"lora.alpha", text(lora.alpha)},
               {"lora.dropout", text(lora.dropout)}, {"lora.rankStabilized", text(lora.rank_stabilized)},
               {"lora.targetModules", targets},      {"lora.seed", std::to_string(options.seed)}};
    // Only where there are some, so that states saved before modules could differ are still read.
    if (!modules.empty()) adapter.emplace("lora.modules", modules);
  }
  std::map<std::string, std::string> facts{
      {"dtype", model.dtype == at::kFloat ? "float32" : "bfloat16"},
      {"vocabSize", text(config.vocab_size)},
      {"hiddenSize", text(config.hidden_size)},
      {"intermediateSize", text(config.intermediate_size)},
      {"numLayers", text(config.num_layers)},
      {"numHeads", text(config.num_heads)},
      {"numKvHeads", text(config.num_kv_heads)},
      {"headDim", text(config.head_dim)},
      {"rmsNormEps", text(config.rms_norm_eps)},
      {"ropeTheta", text(config.rope_theta)},
      {"ropeScaling", text(config.rope_scaling)},
      {"ropeFactor", text(config.rope_factor)},
      {"ropeLowFreqFactor", text(config.rope_low_freq_factor)},
      {"ropeHighFreqFactor", text(config.rope_high_freq_factor)},
      {"ropeOriginalMaxPositionEmbeddings", text(config.rope_original_max_position_embeddings)},
      {"qkvBias", text(config.qkv_bias)},
      {"oBias", text(config.o_bias)},
      {"mlpBias", text(config.mlp_bias)},
      {"qkNorm", text(config.qk_norm)},
      {"tieWordEmbeddings", text(config.tie_word_embeddings)},
      {"slidingWindow", text(config.sliding_window)},
      {"beta1", text(options.beta1)},
      {"beta2", text(options.beta2)},
      {"epsilon", text(options.epsilon)},
      {"weightDecay", text(options.weight_decay)},
      {"maxGradNorm", text(options.max_grad_norm)},
      {"learningRateFactors.embeddings", text(options.rates.embeddings)},
      {"learningRateFactors.head", text(options.rates.head)},
      {"learningRateFactors.norms", text(options.rates.norms)},
      {"learningRateFactors.layerDecay", text(options.rates.layer_decay)},
      {"momentsDtype", options.moments == at::kFloat ? "float32" : "bfloat16"}};
  if (options.moments != at::kFloat) facts["momentsSeed"] = std::to_string(options.seed);
  facts.merge(adapter);
  return facts;
}

int64_t parse_step(const std::string& path, const std::map<std::string, std::string>& metadata) {
  const auto found = metadata.find("step");
  int64_t step = -1;
  if (found != metadata.end()) {
    const std::string& value = found->second;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), step);
    if (error != std::errc() || end != value.data() + value.size()) step = -1;
  }
  if (step < 0) throw safetensors::Error(path + ": the training state has no valid step count");
  return step;
}

safetensors::Dtype file_dtype(at::ScalarType dtype) {
  return dtype == at::kFloat ? safetensors::Dtype::kF32 : safetensors::Dtype::kBF16;
}

// A flat tensor of the file.
const safetensors::Entry& flat_entry(const safetensors::File& file, const char* name, int64_t size,
                                     at::ScalarType dtype) {
  const auto& tensors = file.header().tensors;
  const auto found = tensors.find(name);
  if (found == tensors.end())
    throw safetensors::Error(file.path() + ": the training state has no tensor " + name);
  const auto& entry = found->second;
  if (entry.dtype != file_dtype(dtype) || entry.shape != std::vector<int64_t>{size}) {
    throw safetensors::Error(file.path() + ": tensor " + name + " of the training state must be " +
                             std::string(safetensors::name_of(file_dtype(dtype))) + " [" +
                             std::to_string(size) + "], got " +
                             std::string(safetensors::name_of(entry.dtype)) + " [" + text(entry.shape) + "]");
  }
  return entry;
}

// take(begin, values) for piece after piece of it on the CPU, copied: nothing promises that its bytes are
// aligned.
template <typename Take>
void for_pieces(const safetensors::File& file, const safetensors::Entry& entry, at::ScalarType dtype,
                const Take& take) {
  const int64_t width = safetensors::size_of(entry.dtype), size = entry.shape[0];
  const auto most = static_cast<int64_t>(safetensors::kPieceBytes) / width;
  for (int64_t begin = 0; begin < size; begin += most) {
    const at::Tensor values = at::empty({std::min(most, size - begin)}, dtype);
    std::memcpy(values.data_ptr(), file.data(entry) + begin * width, values.nbytes());
    take(begin, values);
  }
}

// Bytes of a flat tensor wherever it is; `part(begin, size)` is a range of it on the CPU.
template <typename Part>
safetensors::Piece pieces(at::ScalarType dtype, const Part& part) {
  return [width = c10::elementSize(dtype), part, held = at::Tensor()](uint64_t begin, uint64_t size) mutable {
    held = part(static_cast<int64_t>(begin / width), static_cast<int64_t>(size / width));
    return std::string_view(static_cast<const char*>(held.const_data_ptr()), size);
  };
}

}  // namespace

void Trainer::save_state(const std::string& path) const {
  const State& state = *state_;
  auto metadata = identity(*state.model, state.options);
  metadata["format"] = kFormat;
  metadata["step"] = text(state.step);
  // Piece by piece, so that the host needs no memory for what a GPU holds.
  const auto master = [&](int64_t begin, int64_t size) { return state.master_on_cpu(begin, size); };
  const auto source = [&](const char* name, const at::Tensor& moment) -> safetensors::Source {
    const auto part = [moment](int64_t begin, int64_t size) { return moment.narrow(0, begin, size).cpu(); };
    return {name, file_dtype(moment.scalar_type()), {moment.numel()}, pieces(moment.scalar_type(), part)};
  };
  safetensors::write(
      path,
      {{"master", safetensors::Dtype::kF32, {state.tensors.weights.numel()}, pieces(at::kFloat, master)},
       source("exp_avg", state.tensors.m),
       source("exp_avg_sq", state.tensors.v)},
      metadata);
}

void Trainer::load_state(const std::string& path) {
  const at::NoGradGuard no_grad;
  State& state = *state_;
  const safetensors::File file(path);
  const auto& metadata = file.header().metadata;
  const auto value_of = [&](const char* key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? std::string("nothing") : found->second;
  };
  if (value_of("format") != kFormat) throw safetensors::Error(path + ": this is not a training state");
  for (const auto& [key, expected] : identity(*state.model, state.options)) {
    const std::string actual = value_of(key.c_str());
    TORCH_CHECK_VALUE(actual == expected, path, ": the training state was saved with ", key, " ", actual,
                      ", but this trainer has ", expected);
  }

  const int64_t size = state.tensors.weights.numel();
  const int64_t step = parse_step(path, metadata);
  const at::ScalarType moments = state.options.moments;
  const auto& master = flat_entry(file, "master", size, at::kFloat);
  const auto& m = flat_entry(file, "exp_avg", size, moments);
  const auto& v = flat_entry(file, "exp_avg_sq", size, moments);
  for_pieces(file, master, at::kFloat,
             [&](int64_t begin, const at::Tensor& values) { state.set_master(begin, values); });
  const auto copy_to = [](const at::Tensor& to) {
    return
        [&to](int64_t begin, const at::Tensor& values) { to.narrow(0, begin, values.numel()).copy_(values); };
  };
  for_pieces(file, m, moments, copy_to(state.tensors.m));
  for_pieces(file, v, moments, copy_to(state.tensors.v));
  state.step = step;
}

at::Tensor Trainer::State::master_on_cpu(int64_t begin, int64_t size) const {
  if (!is_split()) return tensors.master.narrow(0, begin, size).cpu();
  return joined_master(tensors.weights.narrow(0, begin, size), tensors.low.narrow(0, begin, size));
}

void Trainer::State::set_master(int64_t begin, const at::Tensor& values) {
  const auto range = [&](const at::Tensor& of) { return of.narrow(0, begin, values.numel()); };
  if (is_split()) return split_master(values, range(tensors.weights), range(tensors.low));
  at::Tensor master = range(tensors.master);
  master.copy_(values);
  // The working weights are the master rounded to nearest even, which copy_ does.
  if (!tensors.weights.is_same(tensors.master)) range(tensors.weights).copy_(master);
}

}  // namespace cream
