// JavaScript values to C++ values, checked and copied at the door, and back. What is wrong is an
// InvalidArgument that names the place: "generate: prompts[3].ids[17] is 32000, expected ...".
#pragma once

#include <napi.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "model/model.h"

namespace cream::addon {

// A value with the path that led to it, for messages.
class Argument {
 public:
  Argument(Napi::Value value, std::string path) : value_(value), path_(std::move(path)) {}
  // Argument `index` of an export.
  Argument(const Napi::CallbackInfo& info, size_t index, const char* path) : Argument(info[index], path) {}

  Argument field(const char* name) const;
  Argument at(uint32_t index) const;
  uint32_t length() const;  // of an array

  bool boolean() const;
  bool boolean_or(bool missing) const;
  double number(double min, double max) const;
  double number_or(double missing, double min, double max) const;
  int64_t integer(int64_t min, int64_t max) const;
  int64_t integer_or(int64_t missing, int64_t min, int64_t max) const;
  uint64_t uint64() const;  // a bigint in [0, 2^64)
  std::string string() const;
  Napi::Function function() const;
  std::vector<std::string> strings() const;
  std::vector<int64_t> integers(int64_t min, int64_t max) const;  // of an array

  // Index of the string among `choices`.
  size_t choice(std::initializer_list<const char*> choices) const;

  // An Int32Array of token ids, each in [0, vocab_size).
  std::vector<int32_t> ids(int64_t vocab_size, bool may_be_empty) const;

  at::ScalarType dtype() const;
  at::Device device() const;
  bool is_emulated() const;  // the device is the emulation of a GPU on the CPU
  ModelConfig model_config() const;

  [[noreturn]] void fail(const std::string& expected) const;
  Napi::Value value() const { return value_; }
  const std::string& path() const { return path_; }

 private:
  Napi::Value value_;
  std::string path_;
};

Napi::Float32Array to_float32_array(Napi::Env env, const std::vector<float>& values);
// float32, contiguous, on the CPU; any shape.
Napi::Float32Array to_float32_array(Napi::Env env, const at::Tensor& values);
Napi::Float64Array to_float64_array(Napi::Env env, const std::vector<double>& values);
Napi::Int32Array to_int32_array(Napi::Env env, const std::vector<int32_t>& values);
Napi::Array to_array(Napi::Env env, at::IntArrayRef values);
// [{name, shape, data}]; the tensors are float32, contiguous and on the CPU.
Napi::Array to_tensors(Napi::Env env, const std::vector<NamedTensor>& tensors);

// Copies that to_tensors accepts; on the engine thread.
std::vector<NamedTensor> as_float32(const std::vector<NamedTensor>& tensors);

}  // namespace cream::addon
