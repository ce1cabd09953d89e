#include "addon/convert.h"

#include <ATen/Functions.h>

#include <cmath>
#include <cstring>

#include "addon/errors.h"
#include "ops/device.h"

namespace cream::addon {

namespace {

// `value` for a message: primitives as they are, the rest by kind.
std::string shown(const Napi::Value& value) {
  if (value.IsEmpty() || value.IsUndefined()) return "undefined";
  if (value.IsString()) {
    const std::string text = value.As<Napi::String>();
    return "'" + (text.size() > 80 ? text.substr(0, 80) + "..." : text) + "'";
  }
  if (value.IsNull() || value.IsNumber() || value.IsBoolean()) return value.ToString();
  if (value.IsBigInt()) return value.ToString().Utf8Value() + "n";
  if (value.IsFunction()) return "a function";
  if (value.IsArray()) return "an array";
  if (value.IsTypedArray()) return "a typed array of another kind";
  if (value.IsSymbol()) return "a symbol";
  return "an object";
}

std::string shown(double value) {
  return value == std::floor(value) && std::abs(value) < 1e15 ? std::to_string(static_cast<int64_t>(value))
                                                              : std::to_string(value);
}

template <typename Array, typename Value>
Array copied(Napi::Env env, const Value* values, size_t count) {
  Array array = Array::New(env, count);
  if (count > 0) std::memcpy(array.Data(), values, count * sizeof(Value));
  return array;
}

}  // namespace

void Argument::fail(const std::string& expected) const {
  throw InvalidArgument(path_ + " must be " + expected + ", got " + shown(value_));
}

Argument Argument::field(const char* name) const {
  if (!value_.IsObject() || value_.IsArray()) fail("an object");
  return {value_.As<Napi::Object>().Get(name), path_ + "." + name};
}

uint32_t Argument::length() const {
  if (!value_.IsArray()) fail("an array");
  return value_.As<Napi::Array>().Length();
}

Argument Argument::at(uint32_t index) const {
  return {value_.As<Napi::Array>().Get(index), path_ + "[" + std::to_string(index) + "]"};
}

bool Argument::boolean_or(bool missing) const { return value_.IsUndefined() ? missing : boolean(); }

bool Argument::boolean() const {
  if (!value_.IsBoolean()) fail("true or false");
  return value_.As<Napi::Boolean>();
}

double Argument::number(double min, double max) const {
  const double number = value_.IsNumber() ? value_.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= min && number <= max)) fail("a number in [" + shown(min) + ", " + shown(max) + "]");
  return number;
}

int64_t Argument::integer(int64_t min, int64_t max) const {
  const double number = value_.IsNumber() ? value_.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max) &&
        number == std::floor(number)))
    fail("an integer in [" + std::to_string(min) + ", " + std::to_string(max) + "]");
  return static_cast<int64_t>(number);
}

double Argument::number_or(double missing, double min, double max) const {
  return value_.IsUndefined() ? missing : number(min, max);
}

int64_t Argument::integer_or(int64_t missing, int64_t min, int64_t max) const {
  return value_.IsUndefined() ? missing : integer(min, max);
}

uint64_t Argument::uint64() const {
  if (!value_.IsBigInt()) fail("a bigint");
  bool lossless = false;
  const uint64_t number = value_.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) fail("a bigint in [0, 2^64)");
  return number;
}

std::string Argument::string() const {
  if (!value_.IsString()) fail("a string");
  std::string text = value_.As<Napi::String>();
  if (text.find('\0') != std::string::npos)
    throw InvalidArgument(path_ + " must not contain a NUL character");
  return text;
}

Napi::Function Argument::function() const {
  if (!value_.IsFunction()) fail("a function");
  return value_.As<Napi::Function>();
}

std::vector<std::string> Argument::strings() const {
  std::vector<std::string> items(length());
  for (uint32_t i = 0; i < items.size(); ++i) items[i] = at(i).string();
  return items;
}

std::vector<int64_t> Argument::integers(int64_t min, int64_t max) const {
  std::vector<int64_t> items(length());
  for (uint32_t i = 0; i < items.size(); ++i) items[i] = at(i).integer(min, max);
  return items;
}

size_t Argument::choice(std::initializer_list<const char*> choices) const {
  std::string expected;
  size_t index = 0;
  for (const char* choice : choices) {
    if (value_.IsString() && value_.As<Napi::String>().Utf8Value() == choice) return index;
    expected += (index++ > 0 ? ", '" : "'") + std::string(choice) + "'";
  }
  fail("one of " + expected);
}

std::vector<int32_t> Argument::ids(int64_t vocab_size, bool may_be_empty) const {
  if (!value_.IsTypedArray() || value_.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array)
    fail("an Int32Array of token ids");
  const auto array = value_.As<Napi::Int32Array>();
  std::vector<int32_t> ids(array.ElementLength());
  if (!ids.empty()) std::memcpy(ids.data(), array.Data(), ids.size() * sizeof(int32_t));
  if (ids.empty() && !may_be_empty) throw InvalidArgument(path_ + " must not be empty");
  // The copy is checked, not the array: another thread may write to shared memory.
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab_size)
      throw InvalidArgument(path_ + "[" + std::to_string(i) + "] is " + std::to_string(ids[i]) +
                            ", expected a token id in [0, " + std::to_string(vocab_size) + ")");
  return ids;
}

at::ScalarType Argument::dtype() const {
  return choice({"float32", "bfloat16"}) == 0 ? at::kFloat : at::kBFloat16;
}

bool Argument::is_emulated() const { return string() == "emulated"; }

at::Device Argument::device() const {
  if (is_emulated()) return at::kCPU;
  try {
    return parse_device(string());
  } catch (const std::invalid_argument& error) {
    fail(error.what());
  }
}

// The bounds keep every product of sizes far from 2^63.
ModelConfig Argument::model_config() const {
  constexpr int64_t kMaxWidth = 1 << 20;
  ModelConfig config;
  config.vocab_size = field("vocabSize").integer(1, 1 << 24);
  config.hidden_size = field("hiddenSize").integer(1, kMaxWidth);
  config.intermediate_size = field("intermediateSize").integer(1, kMaxWidth);
  config.num_layers = field("numLayers").integer(1, 1024);
  config.num_heads = field("numHeads").integer(1, 4096);
  config.num_kv_heads = field("numKvHeads").integer(1, config.num_heads);
  config.head_dim = field("headDim").integer(2, 1024);
  config.max_position_embeddings = field("maxPositionEmbeddings").integer(1, 1 << 30);
  config.rms_norm_eps = field("rmsNormEps").number(0, 1);
  config.rope_theta = field("ropeTheta").number(1e-3, 1e15);
  config.rope_scaling = static_cast<RopeScaling>(field("ropeScaling").choice({"none", "linear", "llama3"}));
  config.rope_factor = field("ropeFactor").number(1e-6, 1e6);
  config.rope_low_freq_factor = field("ropeLowFreqFactor").number(1e-6, 1e6);
  config.rope_high_freq_factor = field("ropeHighFreqFactor").number(1e-6, 1e6);
  config.rope_original_max_position_embeddings =
      field("ropeOriginalMaxPositionEmbeddings").integer(1, 1 << 30);
  config.qkv_bias = field("qkvBias").boolean();
  config.o_bias = field("oBias").boolean();
  config.mlp_bias = field("mlpBias").boolean();
  config.qk_norm = field("qkNorm").boolean();
  config.tie_word_embeddings = field("tieWordEmbeddings").boolean();
  const Argument num_labels = field("numLabels");
  if (!num_labels.value_.IsUndefined()) config.num_labels = num_labels.integer(0, 1 << 20);
  if (config.num_labels > 0 && config.tie_word_embeddings)
    throw InvalidArgument(path_ + ".tieWordEmbeddings must be false where numLabels is given");
  config.sliding_window = field("slidingWindow").integers(0, 1 << 30);

  if (config.num_heads % config.num_kv_heads != 0)
    throw InvalidArgument(path_ + ".numHeads (" + std::to_string(config.num_heads) +
                          ") must be a multiple of numKvHeads (" + std::to_string(config.num_kv_heads) + ")");
  if (config.head_dim % 2 != 0) field("headDim").fail("even");
  if (static_cast<int64_t>(config.sliding_window.size()) != config.num_layers)
    throw InvalidArgument(path_ + ".slidingWindow must have one number per layer (" +
                          std::to_string(config.num_layers) + "), got " +
                          std::to_string(config.sliding_window.size()));
  return config;
}

Napi::Float32Array to_float32_array(Napi::Env env, const std::vector<float>& values) {
  return copied<Napi::Float32Array>(env, values.data(), values.size());
}

Napi::Float32Array to_float32_array(Napi::Env env, const at::Tensor& values) {
  return copied<Napi::Float32Array>(env, values.const_data_ptr<float>(), static_cast<size_t>(values.numel()));
}

Napi::Float64Array to_float64_array(Napi::Env env, const std::vector<double>& values) {
  return copied<Napi::Float64Array>(env, values.data(), values.size());
}

Napi::Int32Array to_int32_array(Napi::Env env, const std::vector<int32_t>& values) {
  return copied<Napi::Int32Array>(env, values.data(), values.size());
}

Napi::Array to_array(Napi::Env env, at::IntArrayRef values) {
  auto array = Napi::Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); ++i) array[static_cast<uint32_t>(i)] = static_cast<double>(values[i]);
  return array;
}

Napi::Array to_tensors(Napi::Env env, const std::vector<NamedTensor>& tensors) {
  auto array = Napi::Array::New(env, tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    auto tensor = Napi::Object::New(env);
    tensor.Set("name", tensors[i].name);
    tensor.Set("shape", to_array(env, tensors[i].view.sizes()));
    tensor.Set("data", to_float32_array(env, tensors[i].view));
    array[static_cast<uint32_t>(i)] = tensor;
  }
  return array;
}

std::vector<NamedTensor> as_float32(const std::vector<NamedTensor>& tensors) {
  std::vector<NamedTensor> copies;
  copies.reserve(tensors.size());
  for (const auto& [name, view] : tensors)
    copies.push_back(
        {name, view.to(at::kCPU, at::kFloat, /*non_blocking=*/false, /*copy=*/true).contiguous()});
  return copies;
}

}  // namespace cream::addon
