// Where a test export computes: its option `device`, named as for loadModel; the CPU without one.
#pragma once

#include <napi.h>

#include "addon/convert.h"
#include "ops/device.h"

namespace cream::addon {

class TestDevice {
 public:
  explicit TestDevice(const Napi::Object& options)
      : TestDevice(Argument(options.Has("device") ? options.Get("device")
                                                  : Napi::Value(Napi::String::New(options.Env(), "cpu")),
                            "device")) {}
  ~TestDevice() { current_ = before_; }
  TestDevice(const TestDevice&) = delete;
  TestDevice& operator=(const TestDevice&) = delete;

  // Of the export that runs on this thread.
  static at::Device current() { return current_; }

 private:
  explicit TestDevice(const Argument& name)
      : scope_(checked(name), name.is_emulated()), before_(std::exchange(current_, name.device())) {}

  static at::Device checked(const Argument& name) {
    const at::Device device = name.device();
    check_device(device);
    if (name.is_emulated()) gpu::check_emulation();
    return device;
  }

  static inline thread_local at::Device current_ = at::kCPU;
  DeviceScope scope_;
  at::Device before_;
};

}  // namespace cream::addon
