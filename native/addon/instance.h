// What one JavaScript environment (main thread or worker) has of the addon.
#pragma once

#include <napi.h>

#include <memory>

#include "addon/engine.h"

namespace cream::addon {

struct Instance {
  std::shared_ptr<Channel> channel;
  Napi::FunctionReference cancel_token;
  Napi::FunctionReference model;
  Napi::FunctionReference trainer;

  static Instance& of(Napi::Env env) { return *env.GetInstanceData<Instance>(); }
};

}  // namespace cream::addon
