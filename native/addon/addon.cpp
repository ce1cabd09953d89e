// The exports of cream.node, typed in lib/native/binding.ts.
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <napi.h>
#include <torch/version.h>

#include "addon/cancel_token.h"
#include "addon/convert.h"
#include "addon/errors.h"
#include "addon/instance.h"
#include "addon/model_wrap.h"
#include "addon/process.h"
#include "addon/test_core.h"
#include "addon/test_generate.h"
#include "addon/test_train.h"
#include "addon/trainer_wrap.h"
#include "model/safetensors.h"

namespace cream::addon {

namespace {

// info(): {libtorch, cpuCapability, threads, cuda, buildFlags}
Napi::Value info(const Napi::CallbackInfo& call) {
  auto result = Napi::Object::New(call.Env());
  result.Set("libtorch", TORCH_VERSION);
  result.Set("cpuCapability", at::get_cpu_capability());
  result.Set("threads", Engine::get().threads());
#ifdef CREAM_CUDA
  result.Set("cuda", true);
#else
  result.Set("cuda", false);
#endif
  result.Set("buildFlags", CREAM_BUILD_FLAGS);
  return result;
}

// setThreads(n): for the verbs that follow.
Napi::Value set_threads(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&] {
    Engine::get().set_threads(static_cast<int>(Argument(call, 0, "setThreads: threads").integer(1, 1024)));
    return call.Env().Undefined();
  });
}

// dieWithParent(), tuneMalloc(): for processes of our own (addon/process.h).
template <void (*kAction)()>
Napi::Value process_action(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&] {
    kAction();
    return call.Env().Undefined();
  });
}

// safetensorsHeader(path): [{name, dtype, shape}]
Napi::Value safetensors_header(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&] {
    const safetensors::File file(Argument(call, 0, "safetensorsHeader: path").string());
    auto entries = Napi::Array::New(call.Env(), file.header().tensors.size());
    uint32_t i = 0;
    for (const auto& [name, entry] : file.header().tensors) {
      auto object = Napi::Object::New(call.Env());
      object.Set("name", name);
      object.Set("dtype", std::string(safetensors::name_of(entry.dtype)));
      object.Set("shape", to_array(call.Env(), entry.shape));
      entries[i++] = object;
    }
    return entries;
  });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Instance{Channel::open(env), {}, {}, {}});
  stop_engine_on_exit(env);
  CancelToken::define(env);
  ModelWrap::define(env);
  TrainerWrap::define(env);

  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("info", info);
  add("setThreads", set_threads);
  add("cancelToken", CancelToken::create);
  add("dieWithParent", process_action<die_with_parent>);
  add("tuneMalloc", process_action<tune_malloc>);
  add("loadModel", ModelWrap::load);
  add("randomModel", ModelWrap::random);
  add("safetensorsHeader", safetensors_header);
  register_core_tests(env, exports);
  register_generate_tests(env, exports);
  register_train_tests(env, exports);
  return exports;
}

}  // namespace

}  // namespace cream::addon

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return cream::addon::init(env, exports); }

NODE_API_MODULE(cream, Init)
