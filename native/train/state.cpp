// The training state as a safetensors file: master weights, moments, and as metadata everything that must
// agree for a continued run to compute the same bits.
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

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
    adapter = {{"lora.rank", text(lora.rank)},       {"lora.alpha", text(lora.alpha)},
               {"lora.dropout", text(lora.dropout)}, {"lora.rankStabilized", text(lora.rank_stabilized)},
               {"lora.targetModules", targets},      {"lora.seed", std::to_string(options.seed)}};
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

// A flat tensor of the file, copied: nothing promises that its bytes are aligned.
at::Tensor flat_tensor(const safetensors::File& file, const char* name, int64_t size, at::ScalarType dtype) {
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
  at::Tensor copy = at::empty({size}, dtype);
  std::memcpy(copy.data_ptr(), file.data(entry), copy.nbytes());
  return copy;
}

}  // namespace

void Trainer::save_state(const std::string& path) const {
  const State& state = *state_;
  auto metadata = identity(*state.model, state.options);
  metadata["format"] = kFormat;
  metadata["step"] = text(state.step);
  const at::Tensor master = state.master_on_cpu(), m = state.tensors.m.cpu(), v = state.tensors.v.cpu();
  const std::vector<int64_t> shape{master.numel()};
  safetensors::write(path,
                     {{"master", safetensors::Dtype::kF32, shape, master.const_data_ptr()},
                      {"exp_avg", file_dtype(m.scalar_type()), shape, m.const_data_ptr()},
                      {"exp_avg_sq", file_dtype(v.scalar_type()), shape, v.const_data_ptr()}},
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
  const at::Tensor master = flat_tensor(file, "master", size, at::kFloat);
  const at::Tensor m = flat_tensor(file, "exp_avg", size, state.options.moments);
  const at::Tensor v = flat_tensor(file, "exp_avg_sq", size, state.options.moments);
  state.set_master(master);
  state.tensors.m.copy_(m);
  state.tensors.v.copy_(v);
  state.step = step;
}

at::Tensor Trainer::State::master_on_cpu() const {
  return is_split() ? joined_master(tensors.weights, tensors.low) : tensors.master.cpu();
}

void Trainer::State::set_master(const at::Tensor& master) {
  if (is_split()) return split_master(master, tensors.weights, tensors.low);
  tensors.master.copy_(master);
  // The working weights are the master rounded to nearest even, which copy_ does.
  if (!tensors.weights.is_same(tensors.master)) tensors.weights.copy_(tensors.master);
}

}  // namespace cream
