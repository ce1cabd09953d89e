// Test exports of the transformer's ops: each beside its plain definition.
#include "addon/test_core.h"

#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>

#include <cstring>

#include "addon/errors.h"
#include "addon/test_device.h"
#include "ops/linear.h"
#include "ops/packed_attention.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/swiglu.h"

namespace cream {

namespace {

at::Tensor rows_from(const Napi::Value& value, int64_t columns, at::ScalarType dtype) {
  const auto array = value.As<Napi::Float32Array>();
  at::Tensor tensor = at::empty({static_cast<int64_t>(array.ElementLength()) / columns, columns}, at::kFloat);
  std::memcpy(tensor.data_ptr<float>(), array.Data(), array.ByteLength());
  return tensor.to(addon::TestDevice::current(), dtype);
}

Napi::Value to_array(Napi::Env env, const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU, at::kFloat).contiguous();
  auto array = Napi::Float32Array::New(env, values.numel());
  std::memcpy(array.Data(), values.const_data_ptr<float>(), array.ByteLength());
  return array;
}

at::ScalarType dtype_from(const Napi::Object& options) {
  return options.Get("dtype").ToString().Utf8Value() == "bfloat16" ? at::kBFloat16 : at::kFloat;
}

int64_t integer(const Napi::Object& options, const char* key) {
  return options.Get(key).As<Napi::Number>().Int64Value();
}

// segments: rows of (length, prefix), as lengths follow each other from row 0.
Pack pack_from(const Napi::Value& value) {
  const auto segments = value.As<Napi::Int32Array>();
  Pack pack;
  for (size_t i = 0; i + 1 < segments.ElementLength(); i += 2) {
    const std::vector<int32_t> ids(segments[i], 0);
    if (segments[i + 1] < 0) {
      pack.add_trunk(ids.data(), segments[i]);
    } else {
      pack.add_leaf(segments[i + 1], ids.data(), segments[i]);
    }
  }
  return pack;
}

AttentionShape shape_from(const Napi::Object& options) {
  return {integer(options, "heads"), integer(options, "kvHeads"), integer(options, "headDim"),
          integer(options, "window")};
}

// _packedAttention({qkv, segments, heads, kvHeads, headDim, window, dtype, reference, dOut?})
//   -> {out, lse, dQkv?}: row-major float32 of [R, heads * headDim], [R, heads], and qkv's shape
Napi::Value PackedAttention(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const addon::TestDevice scope(options);
  const auto shape = shape_from(options);
  const auto dtype = dtype_from(options);
  const auto pack = pack_from(options.Get("segments"));
  const auto qkv =
      rows_from(options.Get("qkv"), (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim, dtype);
  const bool reference = options.Get("reference").ToBoolean();
  const auto result =
      reference ? packed_attention_reference(qkv, pack, shape) : packed_attention(qkv, pack, shape);
  auto output = Napi::Object::New(info.Env());
  output.Set("out", to_array(info.Env(), result.out_RE));
  output.Set("lse", to_array(info.Env(), result.lse_RH));
  if (options.Has("dOut")) {
    const auto d_out = rows_from(options.Get("dOut"), shape.num_heads * shape.head_dim, dtype);
    output.Set("dQkv", to_array(info.Env(), packed_attention_backward(d_out, qkv, result, pack, shape)));
  }
  return output;
}

// _rmsNorm({x, weight, epsilon, dtype, reference, dy?}) -> {y, dx?, dWeight?}
Napi::Value RmsNorm(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const addon::TestDevice scope(options);
  const auto width = static_cast<int64_t>(options.Get("weight").As<Napi::Float32Array>().ElementLength());
  const auto x = rows_from(options.Get("x"), width, dtype_from(options));
  const auto weight = rows_from(options.Get("weight"), width, dtype_from(options)).view({width});
  const double epsilon = options.Get("epsilon").As<Napi::Number>().DoubleValue();
  auto output = Napi::Object::New(info.Env());
  output.Set(
      "y", to_array(info.Env(), options.Get("reference").ToBoolean() ? rms_norm_reference(x, weight, epsilon)
                                                                     : rms_norm(x, weight, epsilon)));
  if (options.Has("dy")) {
    const auto d_weight = at::zeros({width}, x.options().dtype(at::kFloat));
    const auto dy = rows_from(options.Get("dy"), width, dtype_from(options));
    output.Set("dx", to_array(info.Env(), rms_norm_backward(dy, x, weight, epsilon, d_weight)));
    output.Set("dWeight", to_array(info.Env(), d_weight));
  }
  return output;
}

// _rmsNormMore({x, dy, weight, heads, epsilon, dtype, device?}) -> {sum, y, dx, heads, dHeads, dWeight}:
// add_rms_norm of x + dy, its backward with an addend, and the norm of each of `heads` parts of x's rows with
// its backward
Napi::Value RmsNormMore(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const addon::TestDevice scope(options);
  const auto head_width =
      static_cast<int64_t>(options.Get("weight").As<Napi::Float32Array>().ElementLength());
  const int64_t heads = integer(options, "heads"), width = heads * head_width;
  const auto dtype = dtype_from(options);
  const auto x = rows_from(options.Get("x"), width, dtype), dy = rows_from(options.Get("dy"), width, dtype);
  const auto head_weight = rows_from(options.Get("weight"), head_width, dtype).view({head_width});
  const auto weight = head_weight.repeat({heads});
  const double epsilon = options.Get("epsilon").As<Napi::Number>().DoubleValue();
  auto output = Napi::Object::New(info.Env());
  at::Tensor sum = at::empty_like(x);
  output.Set("y", to_array(info.Env(), add_rms_norm(sum, x, dy, weight, epsilon)));
  output.Set("sum", to_array(info.Env(), sum));
  const auto unused = at::zeros({width}, x.options().dtype(at::kFloat));
  output.Set("dx", to_array(info.Env(), rms_norm_backward(dy, x, weight, epsilon, unused, x)));
  // The heads after the first, in rows that are longer than what is normalised.
  at::Tensor wide = x.clone(), d_wide = dy.clone();
  at::Tensor part = wide.narrow(1, head_width, width - head_width);
  at::Tensor d_part = d_wide.narrow(1, head_width, width - head_width);
  rms_norm_heads_(part, heads - 1, head_weight, epsilon);
  const auto d_weight = at::zeros({head_width}, x.options().dtype(at::kFloat));
  rms_norm_heads_backward_(d_part, x.narrow(1, head_width, width - head_width), heads - 1, head_weight,
                           epsilon, d_weight);
  output.Set("heads", to_array(info.Env(), wide));
  output.Set("dHeads", to_array(info.Env(), d_wide));
  output.Set("dWeight", to_array(info.Env(), d_weight));
  return output;
}

// _swiglu({gateUp, width, dtype, reference, dy?}) -> {y, dGateUp?}; gateUp is [R, 2 width]
Napi::Value Swiglu(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const addon::TestDevice scope(options);
  const int64_t width = integer(options, "width");
  auto gate_up = rows_from(options.Get("gateUp"), 2 * width, dtype_from(options));
  auto output = Napi::Object::New(info.Env());
  output.Set("y", to_array(info.Env(), options.Get("reference").ToBoolean() ? swiglu_reference(gate_up)
                                                                            : swiglu(gate_up)));
  if (options.Has("dy")) {
    swiglu_backward_(gate_up, rows_from(options.Get("dy"), width, dtype_from(options)));
    output.Set("dGateUp", to_array(info.Env(), gate_up));
  }
  return output;
}

// _linear({x, w, dy, k, n, dtype, dw, dbias}) -> {y, yFloat, dx, dw, dbias}: x w^T in dtype and in float32,
// the gradient by x, and dw and dbias (float32) with the gradients by w and a bias added
Napi::Value Linear(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const at::ScalarType dtype = dtype_from(options);
  const int64_t k = integer(options, "k"), n = integer(options, "n");
  const auto x = rows_from(options.Get("x"), k, dtype), w = rows_from(options.Get("w"), k, dtype),
             dy = rows_from(options.Get("dy"), n, dtype);
  at::Tensor exact = at::empty({x.size(0), n}, at::kFloat);
  cream::linear_out(exact, x, w);
  at::Tensor dw = rows_from(options.Get("dw"), k, at::kFloat),
             dbias = rows_from(options.Get("dbias"), n, at::kFloat).view({n});
  linear_backward_weight(dy, x, dw, dbias);
  auto output = Napi::Object::New(info.Env());
  output.Set("y", to_array(info.Env(), cream::linear(x, w)));
  output.Set("yFloat", to_array(info.Env(), exact));
  output.Set("dx", to_array(info.Env(), linear_backward_input(dy, w)));
  output.Set("dw", to_array(info.Env(), dw));
  output.Set("dbias", to_array(info.Env(), dbias));
  return output;
}

// _rope({x, heads, headDim, positions, theta, inverse}) -> rotated x, float32, without frequency scaling
Napi::Value Rope(const Napi::CallbackInfo& info) {
  c10::InferenceMode no_grad;
  const auto options = info[0].As<Napi::Object>();
  const addon::TestDevice scope(options);
  ModelConfig config;
  config.head_dim = integer(options, "headDim");
  config.rope_theta = options.Get("theta").As<Napi::Number>().DoubleValue();
  const auto positions = options.Get("positions").As<Napi::Int32Array>();
  int32_t last = 0;
  for (size_t i = 0; i < positions.ElementLength(); ++i) last = std::max<int32_t>(last, positions[i]);
  auto x = rows_from(options.Get("x"), integer(options, "heads") * config.head_dim, at::kFloat);
  rope_(x, integer(options, "heads"), config.head_dim, positions.Data(),
        rope_table(config, last + 1).to(x.device()), options.Get("inverse").ToBoolean());
  return to_array(info.Env(), x);
}

// _fail({kind, message}): throws as LibTorch ('torch', 'memory') or a kernel's launcher ('launch') does
Napi::Value Fail(const Napi::CallbackInfo& info) {
  const addon::Argument options(info, 0, "_fail: options");
  const std::string message = options.field("message").string();
  const size_t kind = options.field("kind").choice({"torch", "memory", "launch"});
  if (kind == 2) throw std::runtime_error(message);
  TORCH_CHECK_WITH(OutOfMemoryError, kind != 1, message);
  TORCH_CHECK(false, message);
}

template <Napi::Value (*function)(const Napi::CallbackInfo&)>
Napi::Value checked(const Napi::CallbackInfo& info) {
  return addon::guarded(info.Env(), [&] { return function(info); });
}

}  // namespace

void register_core_tests(Napi::Env env, Napi::Object exports) {
  exports.Set("_packedAttention", Napi::Function::New(env, checked<PackedAttention>));
  exports.Set("_rmsNorm", Napi::Function::New(env, checked<RmsNorm>));
  exports.Set("_rmsNormMore", Napi::Function::New(env, checked<RmsNormMore>));
  exports.Set("_swiglu", Napi::Function::New(env, checked<Swiglu>));
  exports.Set("_fail", Napi::Function::New(env, checked<Fail>));
  exports.Set("_linear", Napi::Function::New(env, checked<Linear>));
  exports.Set("_rope", Napi::Function::New(env, checked<Rope>));
}

}  // namespace cream
