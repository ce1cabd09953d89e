// Test exports of the head, the preference loss and the optimizer.
#include "addon/test_train.h"

#include <ATen/Functions.h>

#include "addon/convert.h"
#include "addon/errors.h"
#include "addon/test_device.h"
#include "ops/adamw.h"
#include "ops/token_logprobs.h"
#include "train/loss.h"

namespace cream {

namespace {

using addon::Argument;

std::vector<float> floats(const Napi::Object& options, const char* key) {
  const auto array = options.Get(key).As<Napi::Float32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

at::Tensor tensor(const Napi::Object& options, const char* key, at::ScalarType dtype = at::kFloat) {
  const auto values = floats(options, key);
  return at::tensor(values, at::kFloat).to(addon::TestDevice::current(), dtype);
}

double number(const Napi::Object& options, const char* key) {
  return options.Get(key).As<Napi::Number>().DoubleValue();
}

int64_t integer(const Napi::Object& options, const char* key) {
  return options.Get(key).As<Napi::Number>().Int64Value();
}

at::ScalarType dtype_of(const Napi::Object& options) {
  return Argument(options.Get("dtype"), "dtype").dtype();
}

Napi::Float32Array to_array(Napi::Env env, const at::Tensor& values) {
  return addon::to_float32_array(env, values.to(at::kCPU, at::kFloat).contiguous());
}

// _tokenLogprobs({hidden, head, width, dtype, targets, chunkRows, reference, weights?})
//   targets: Int32Array of (row, token); weights: one per target, asks for the gradients
//   -> {logprobs, lse?, dHidden?, dHead?}
Napi::Value TokenLogprobsOp(const Napi::CallbackInfo& info) {
  const auto options = info[0].As<Napi::Object>();
  const addon::TestDevice scope(options);
  const int64_t width = integer(options, "width"), chunk_rows = integer(options, "chunkRows");
  const auto hidden = tensor(options, "hidden", dtype_of(options)).view({-1, width});
  const auto head = tensor(options, "head", dtype_of(options)).view({-1, width});
  const auto pairs = options.Get("targets").As<Napi::Int32Array>();
  std::vector<Target> targets;
  for (size_t i = 0; i + 1 < pairs.ElementLength(); i += 2) targets.push_back({pairs[i], pairs[i + 1]});

  auto output = Napi::Object::New(info.Env());
  if (options.Get("reference").ToBoolean()) {
    output.Set("logprobs", to_array(info.Env(), token_logprobs_reference(hidden, head, targets)));
    return output;
  }
  const auto result = token_logprobs(hidden, head, targets, chunk_rows);
  output.Set("logprobs", addon::to_float32_array(info.Env(), result.logprobs));
  output.Set("lse", addon::to_float32_array(info.Env(), result.lse));
  if (options.Has("weights")) {
    const auto d_head = at::zeros(head.sizes(), head.options().dtype(at::kFloat));
    const auto d_hidden = token_logprobs_backward(hidden, head, targets, floats(options, "weights"),
                                                  result.lse, d_head, chunk_rows);
    output.Set("dHidden", to_array(info.Env(), d_hidden));
    output.Set("dHead", to_array(info.Env(), d_head));
  }
  return output;
}

// _preferenceLoss({chosen, rejected, referenceChosen, referenceRejected, chosenTokens, rejectedTokens,
// consistency, loss, beta, sftCoefficient, lengthTerm?, agreementCoefficient?, agreementEntropy?,
// implicitMargin?, judgeMargin?}) -> {loss, dChosen, dRejected, chosenReward, rejectedReward}
Napi::Value PreferenceLossOp(const Napi::CallbackInfo& info) {
  const auto options = info[0].As<Napi::Object>();
  const addon::TestDevice scope(options);
  const auto kind = Argument(options.Get("loss"), "loss").choice({"sigmoid", "hinge", "ipo", "sigmoid-norm"});
  const auto or_zero = [&](const char* key) { return options.Has(key) ? number(options, key) : 0; };
  const PairLoss result = preference_loss({.chosen = number(options, "chosen"),
                                           .rejected = number(options, "rejected"),
                                           .reference_chosen = number(options, "referenceChosen"),
                                           .reference_rejected = number(options, "referenceRejected"),
                                           .chosen_tokens = integer(options, "chosenTokens"),
                                           .rejected_tokens = integer(options, "rejectedTokens"),
                                           .implicit_margin = or_zero("implicitMargin"),
                                           .judge_margin = or_zero("judgeMargin")},
                                          number(options, "consistency"),
                                          {.loss = static_cast<PreferenceLoss>(kind),
                                           .beta = number(options, "beta"),
                                           .sft_coefficient = number(options, "sftCoefficient"),
                                           .length_term = or_zero("lengthTerm"),
                                           .agreement_coefficient = or_zero("agreementCoefficient"),
                                           .agreement_entropy = or_zero("agreementEntropy")});
  auto output = Napi::Object::New(info.Env());
  output.Set("loss", result.loss);
  output.Set("dChosen", result.d_chosen);
  output.Set("dRejected", result.d_rejected);
  output.Set("chosenReward", result.chosen_reward);
  output.Set("rejectedReward", result.rejected_reward);
  return output;
}

AdamWUpdate update_from(const Napi::Object& options) {
  const auto optional = [&](const char* key) { return options.Has(key) ? integer(options, key) : 0; };
  return {.learning_rate = number(options, "learningRate"),
          .beta1 = number(options, "beta1"),
          .beta2 = number(options, "beta2"),
          .epsilon = number(options, "epsilon"),
          .weight_decay = number(options, "weightDecay"),
          .gradient_scale = number(options, "gradientScale"),
          .step = integer(options, "step"),
          .decay_size = integer(options, "decaySize"),
          .first = optional("first"),
          .seed = static_cast<uint64_t>(optional("seed"))};
}

at::ScalarType dtype_or_float(const Napi::Object& options, const char* key) {
  return options.Has(key) ? Argument(options.Get(key), key).dtype() : at::kFloat;
}

// _adamw({master, gradient, m, v, dtype, gradientDtype?, momentsDtype?, learningRate, beta1, beta2, epsilon,
//   weightDecay, gradientScale, step, decaySize, first?, seed?, split?, device?})
//   -> {squaredNorm, moved, master, weights, m, v, gradient}: after one update of copies. split: the master
//   in bfloat16 weights and low halves.
Napi::Value AdamW(const Napi::CallbackInfo& info) {
  const auto options = info[0].As<Napi::Object>();
  const addon::TestDevice scope(options);
  const auto moments = dtype_or_float(options, "momentsDtype");
  const auto master = tensor(options, "master");
  AdamWTensors tensors;
  tensors.gradient = tensor(options, "gradient", dtype_or_float(options, "gradientDtype"));
  tensors.m = tensor(options, "m", moments);
  tensors.v = tensor(options, "v", moments);
  if (options.Get("split").ToBoolean()) {
    tensors.weights = at::empty_like(master, at::kBFloat16);
    tensors.low = at::empty_like(master, at::kShort);
    split_master(master, tensors.weights, tensors.low);
  } else {
    tensors.master = master;
    tensors.weights = dtype_of(options) == at::kFloat ? master : master.to(dtype_of(options));
  }

  auto output = Napi::Object::New(info.Env());
  output.Set("squaredNorm", squared_norm(tensors.gradient));
  const int64_t moved = adamw_(tensors, update_from(options));
  output.Set("moved", static_cast<double>(moved));
  output.Set("master",
             to_array(info.Env(),
                      tensors.low.defined() ? joined_master(tensors.weights, tensors.low) : tensors.master));
  output.Set("weights", to_array(info.Env(), tensors.weights));
  output.Set("m", to_array(info.Env(), tensors.m));
  output.Set("v", to_array(info.Env(), tensors.v));
  output.Set("gradient", to_array(info.Env(), tensors.gradient));
  return output;
}

template <Napi::Value (*function)(const Napi::CallbackInfo&)>
Napi::Value checked(const Napi::CallbackInfo& info) {
  return addon::guarded(info.Env(), [&] { return function(info); });
}

}  // namespace

void register_train_tests(Napi::Env env, Napi::Object exports) {
  exports.Set("_tokenLogprobs", Napi::Function::New(env, checked<TokenLogprobsOp>));
  exports.Set("_preferenceLoss", Napi::Function::New(env, checked<PreferenceLossOp>));
  exports.Set("_adamw", Napi::Function::New(env, checked<AdamW>));
}

}  // namespace cream
