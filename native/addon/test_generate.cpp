// Test exports of the sampler and of the decode step's ops: each beside its plain definition.
#include "addon/test_generate.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <cstring>

#include "generate/decode_attention.h"
#include "generate/gpu_decoder.h"
#include "ops/linear_rows.h"
#include "ops/philox.h"
#include "ops/sampler.h"

namespace cream {

namespace {

// A C++ exception as a JavaScript one.
template <typename Body>
Napi::Value checked(const Napi::CallbackInfo& info, Body&& body) {
  c10::InferenceMode no_grad;
  try {
    return body(info[0].As<Napi::Object>());
  } catch (const c10::Error& error) {
    throw Napi::Error::New(info.Env(), error.what_without_backtrace());
  }
}

int64_t integer(const Napi::Object& options, const char* key) {
  return options.Get(key).As<Napi::Number>().Int64Value();
}

double number(const Napi::Object& options, const char* key) {
  return options.Get(key).As<Napi::Number>().DoubleValue();
}

std::vector<float> floats(const Napi::Object& options, const char* key) {
  const auto array = options.Get(key).As<Napi::Float32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

at::Tensor matrix(const Napi::Object& options, const char* key, int64_t columns) {
  const auto values = floats(options, key);
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size()) / columns, columns}, at::kFloat);
  std::memcpy(tensor.data_ptr<float>(), values.data(), values.size() * sizeof(float));
  const bool half = options.Get("dtype").ToString().Utf8Value() == "bfloat16";
  return tensor.to(half ? at::kBFloat16 : at::kFloat);
}

Napi::Value to_array(Napi::Env env, const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kDouble).contiguous();
  auto array = Napi::Float64Array::New(env, values.numel());
  std::memcpy(array.Data(), values.const_data_ptr<double>(), array.ByteLength());
  return array;
}

SamplerOptions sampler_options(const Napi::Object& options) {
  return {static_cast<float>(number(options, "temperature")), static_cast<float>(number(options, "topP")),
          integer(options, "topK"), options.Has("minP") ? static_cast<float>(number(options, "minP")) : 0.0f};
}

// _sample({logits, vocab, uniforms, temperature, topP, topK, minP?, dtype}) -> {ids, logprobs}; draw i takes
// row i % (number of rows), so that one row can be drawn from many times.
Napi::Value SampleRows(const Napi::CallbackInfo& info) {
  return checked(info, [&](const Napi::Object& options) {
    const at::Tensor logits = matrix(options, "logits", integer(options, "vocab"));
    const auto uniforms = floats(options, "uniforms");
    std::vector<int64_t> rows(uniforms.size());
    for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int64_t>(i) % logits.size(0);
    const Sampled sampled = sample_rows(logits, rows, uniforms, sampler_options(options));
    auto ids = Napi::Int32Array::New(info.Env(), sampled.ids.size());
    std::copy(sampled.ids.begin(), sampled.ids.end(), ids.Data());
    auto logprobs = Napi::Float32Array::New(info.Env(), sampled.logprobs.size());
    std::copy(sampled.logprobs.begin(), sampled.logprobs.end(), logprobs.Data());
    auto result = Napi::Object::New(info.Env());
    result.Set("ids", ids);
    result.Set("logprobs", logprobs);
    return result;
  });
}

// _samplingDistribution({logits, vocab, temperature, topP, topK, minP?, dtype}) -> probabilities, float64 [B,
// V]
Napi::Value SamplingDistribution(const Napi::CallbackInfo& info) {
  return checked(info, [&](const Napi::Object& options) {
    const at::Tensor logits = matrix(options, "logits", integer(options, "vocab"));
    return to_array(info.Env(), sampling_distribution_reference(logits, sampler_options(options)));
  });
}

// _philox(counter: 4 numbers, key: 2 numbers) -> 4 numbers
Napi::Value Philox(const Napi::CallbackInfo& info) {
  const auto counter = info[0].As<Napi::Uint32Array>();
  const auto key = info[1].As<Napi::Uint32Array>();
  const auto bits = philox({counter[0], counter[1], counter[2], counter[3]}, {key[0], key[1]});
  auto result = Napi::Uint32Array::New(info.Env(), bits.size());
  std::copy(bits.begin(), bits.end(), result.Data());
  return result;
}

// _linearRows({x, w, bias?, k, dtype}) -> {y, single}: x w^T + b, and the same computed one row at a time
Napi::Value LinearRows(const Napi::CallbackInfo& info) {
  return checked(info, [&](const Napi::Object& options) {
    const int64_t k = integer(options, "k");
    const at::Tensor x = matrix(options, "x", k);
    const at::Tensor w = matrix(options, "w", k);
    const at::Tensor bias =
        options.Has("bias") ? matrix(options, "bias", w.size(0)).view({w.size(0)}) : at::Tensor();
    at::Tensor y = at::empty({x.size(0), w.size(0)}, at::kFloat);
    linear_rows(y, x, w, bias);
    at::Tensor single = at::empty_like(y);
    for (int64_t r = 0; r < x.size(0); ++r) {
      at::Tensor row = single.narrow(0, r, 1);
      linear_rows(row, x.narrow(0, r, 1), w, bias);
    }
    auto result = Napi::Object::New(info.Env());
    result.Set("y", to_array(info.Env(), y));
    result.Set("single", to_array(info.Env(), single));
    return result;
  });
}

// _decodeAttention({kv, groups, qkv, heads, kvHeads, headDim, window, dtype}) -> {out, reference}
//   groups: (prompt length, new length, siblings) triples; kv: keys then values [Hkv D each] of every token
//   but the siblings' last: per group the prompt's, then each sibling's; qkv: the last tokens, one row per
//   sibling
Napi::Value DecodeAttention(const Napi::CallbackInfo& info) {
  return checked(info, [&](const Napi::Object& options) {
    ModelConfig config;
    config.num_layers = 1;
    config.num_heads = integer(options, "heads");
    config.num_kv_heads = integer(options, "kvHeads");
    config.head_dim = integer(options, "headDim");
    const DecodeAttentionShape shape{config.num_heads, config.num_kv_heads, config.head_dim,
                                     integer(options, "window")};
    const at::Tensor qkv = matrix(options, "qkv", config.qkv_size());
    const at::Tensor kv = matrix(options, "kv", 2 * config.kv_size());
    const auto lengths = options.Get("groups").As<Napi::Int32Array>();

    KvCache cache(config, qkv.scalar_type(), 4096);
    int64_t token = 0;
    const auto fill = [&](int64_t length, int64_t capacity) {
      const KvRegion region = *cache.allocate(kv_blocks(capacity));
      for (int64_t t = 0; t < length; ++t, ++token) {
        for (int64_t head = 0; head < config.num_kv_heads; ++head) {
          const int64_t at = token * kv.stride(0) + head * config.head_dim;
          if (kv.scalar_type() == at::kFloat) {
            const float* key = kv.const_data_ptr<float>() + at;
            cache.write(region, 0, head, t, key, key + config.kv_size());
          } else {
            const c10::BFloat16* key = kv.const_data_ptr<c10::BFloat16>() + at;
            cache.write(region, 0, head, t, key, key + config.kv_size());
          }
        }
      }
      return region;
    };
    std::vector<DecodeGroup> groups;
    int64_t row = 0;
    for (size_t i = 0; i + 2 < lengths.ElementLength(); i += 3) {
      DecodeGroup group{row, fill(lengths[i], lengths[i]), lengths[i], lengths[i + 1], {}};
      for (int32_t s = 0; s < lengths[i + 2]; ++s) {
        group.responses.push_back(fill(group.new_length - 1, group.new_length));
      }
      row += lengths[i + 2];
      groups.push_back(std::move(group));
    }
    at::Tensor out = at::empty({qkv.size(0), config.q_size()}, qkv.options());
    decode_attention(out, qkv, cache, 0, groups, shape);
    auto result = Napi::Object::New(info.Env());
    result.Set("out", to_array(info.Env(), out));
    result.Set("reference", to_array(info.Env(), decode_attention_reference(qkv, cache, 0, groups, shape)));
    return result;
  });
}

// _decodeRows({rows, most}) -> {bucket, fewerSlots}: rows of the recorded step for `rows` responses of at
// most `most`; slots to try where `rows` are too many.
Napi::Value DecodeRows(const Napi::CallbackInfo& info) {
  return checked(info, [&](const Napi::Object& options) -> Napi::Value {
    const int64_t rows = integer(options, "rows");
    auto result = Napi::Object::New(info.Env());
    result.Set("bucket", static_cast<double>(bucket_of(rows, integer(options, "most"))));
    result.Set("fewerSlots", static_cast<double>(fewer_slots(rows)));
    return result;
  });
}

}  // namespace

void register_generate_tests(Napi::Env env, Napi::Object exports) {
  exports.Set("_sample", Napi::Function::New(env, SampleRows));
  exports.Set("_samplingDistribution", Napi::Function::New(env, SamplingDistribution));
  exports.Set("_philox", Napi::Function::New(env, Philox));
  exports.Set("_linearRows", Napi::Function::New(env, LinearRows));
  exports.Set("_decodeRows", Napi::Function::New(env, DecodeRows));
  exports.Set("_decodeAttention", Napi::Function::New(env, DecodeAttention));
}

}  // namespace cream
