#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <napi.h>
#include <torch/version.h>

#include "addon/test_core.h"

namespace {

// info(): {libtorch, cpuCapability, threads, cuda, buildFlags}
Napi::Value Info(const Napi::CallbackInfo& info) {
  auto result = Napi::Object::New(info.Env());
  result.Set("libtorch", TORCH_VERSION);
  result.Set("cpuCapability", at::get_cpu_capability());
  result.Set("threads", at::get_num_threads());
#ifdef CREAM_CUDA
  result.Set("cuda", true);
#else
  result.Set("cuda", false);
#endif
  result.Set("buildFlags", CREAM_BUILD_FLAGS);
  return result;
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("info", Napi::Function::New(env, Info, "info"));
  cream::register_core_tests(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(cream, Init)
