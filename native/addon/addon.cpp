// The exports of cream.node, typed in lib/native/binding.ts.
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <napi.h>
#include <torch/version.h>

#include "addon/cancel_token.h"
#include "addon/convert.h"
#include "addon/errors.h"
#include "addon/instance.h"
#include "addon/machine_speed.h"
#include "addon/model_wrap.h"
#include "addon/process.h"
#include "addon/run_async.h"
#include "addon/test_core.h"
#include "addon/test_generate.h"
#include "addon/test_train.h"
#include "addon/trainer_wrap.h"
#include "model/safetensors.h"
#include "ops/cpu_features.h"
#include "ops/device.h"
#include "ops/phases.h"

namespace cream::addon {

namespace {

// info(): {libtorch, cpuCapability, cpuPath, gpuProducts, threads, cuda, cudaArchs, buildFlags}
Napi::Value info(const Napi::CallbackInfo& call) {
  auto result = Napi::Object::New(call.Env());
  result.Set("libtorch", TORCH_VERSION);
  result.Set("cpuCapability", at::get_cpu_capability());
  result.Set("cpuPath", cpu::path());
  result.Set("gpuProducts", gpu_products());
  result.Set("threads", Engine::get().threads());
#ifdef CREAM_CUDA
  result.Set("cuda", true);
#else
  result.Set("cuda", false);
#endif
  result.Set("cudaArchs", built_archs());
  result.Set("buildFlags", CREAM_BUILD_FLAGS);
  return result;
}

// devices(): {driver, runtime, gpus: [{name, computeCapability, totalBytes, multiprocessors, l2Bytes}],
// problem?}; the first call starts the driver, which may take a second.
Napi::Value devices(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    std::string why;
    const auto found = list_devices(&why);
    auto gpus = Napi::Array::New(call.Env(), found.size());
    for (uint32_t i = 0; i < found.size(); ++i) {
      auto gpu = Napi::Object::New(call.Env());
      gpu.Set("name", found[i].name);
      gpu.Set("computeCapability", std::to_string(found[i].major) + "." + std::to_string(found[i].minor));
      gpu.Set("totalBytes", static_cast<double>(found[i].total_bytes));
      gpu.Set("multiprocessors", static_cast<double>(found[i].num_multiprocessors));
      gpu.Set("l2Bytes", static_cast<double>(found[i].l2_bytes));
      gpus[i] = gpu;
    }
    const CudaVersions versions = cuda_versions();
    auto result = Napi::Object::New(call.Env());
    result.Set("driver", versions.driver);
    result.Set("runtime", versions.runtime);
    result.Set("gpus", gpus);
    if (found.empty()) result.Set("problem", why);
    return result;
  });
}

// deviceMemory(device, resetPeak): Promise<{free, total, allocated, reserved, peak}>, after the jobs before
// it.
Napi::Value memory_of_device(const Napi::CallbackInfo& call) {
  return guarded_promise(call.Env(), [&] {
    const at::Device device = Argument(call, 0, "deviceMemory: device").device();
    const bool reset = Argument(call, 1, "deviceMemory: resetPeak").boolean();
    return run_async(
        call.Env(),
        [device, reset] {
          check_device(device);
          synchronize(device);
          const DeviceMemory memory = device_memory(device);
          if (reset) reset_peak_memory(device);
          return memory;
        },
        [](Napi::Env env, const DeviceMemory& memory) -> Napi::Value {
          auto result = Napi::Object::New(env);
          result.Set("free", static_cast<double>(memory.free));
          result.Set("total", static_cast<double>(memory.total));
          result.Set("allocated", static_cast<double>(memory.allocated));
          result.Set("reserved", static_cast<double>(memory.reserved));
          result.Set("peak", static_cast<double>(memory.peak));
          return result;
        });
  });
}

// phases(mode): Promise<[{name, seconds, count}]>: what was counted since the last call, after the jobs
// before it; then goes on as 'off', 'ops' or 'steps' says (ops/phases.h).
Napi::Value count_phases(const Napi::CallbackInfo& call) {
  return guarded_promise(call.Env(), [&] {
    const auto mode =
        static_cast<phases::Mode>(Argument(call, 0, "phases: mode").choice({"off", "ops", "steps"}));
    return run_async(
        call.Env(),
        [mode] {
          auto totals = phases::totals();
          phases::set_mode(mode);
          return totals;
        },
        [](Napi::Env env, const std::vector<phases::Total>& totals) -> Napi::Value {
          auto array = Napi::Array::New(env, totals.size());
          for (uint32_t i = 0; i < totals.size(); ++i) {
            auto total = Napi::Object::New(env);
            total.Set("name", totals[i].name);
            total.Set("seconds", totals[i].seconds);
            total.Set("count", static_cast<double>(totals[i].count));
            array[i] = total;
          }
          return array;
        });
  });
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
  try {
    cpu::configure();
    choose_gpu_products();
  } catch (const std::invalid_argument& error) {
    throw to_error(env, {"INVALID_ARGUMENT", error.what()});
  }
  env.SetInstanceData(new Instance{Channel::open(env), {}, {}, {}});
  stop_engine_on_exit();
  use_full_precision();
  CancelToken::define(env);
  ModelWrap::define(env);
  TrainerWrap::define(env);

  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("info", info);
  add("devices", devices);
  add("deviceMemory", memory_of_device);
  add("phases", count_phases);
  add("setThreads", set_threads);
  add("cancelToken", CancelToken::create);
  add("dieWithParent", process_action<die_with_parent>);
  add("tuneMalloc", process_action<tune_malloc>);
  add("loadModel", ModelWrap::load);
  add("randomModel", ModelWrap::random);
  add("mergeCheckpoint", ModelWrap::merge_checkpoint);
  add("safetensorsHeader", safetensors_header);
  register_core_tests(env, exports);
  register_machine_speed(env, exports);
  register_generate_tests(env, exports);
  register_decode_tests(env, exports);
  register_train_tests(env, exports);
  return exports;
}

}  // namespace

}  // namespace cream::addon

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return cream::addon::init(env, exports); }

NODE_API_MODULE(cream, Init)
