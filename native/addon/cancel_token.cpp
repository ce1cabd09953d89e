#include "addon/cancel_token.h"

#include "addon/instance.h"

namespace cream::addon {

namespace {

constexpr napi_type_tag kTag{0x63616e63656c746b, 0x637265616d6c6d01};

}  // namespace

void CancelToken::define(Napi::Env env) {
  const auto constructor = DefineClass(env, "CancelToken", {InstanceMethod("cancel", &CancelToken::cancel)});
  Instance::of(env).cancel_token = Napi::Persistent(constructor);
}

Napi::Value CancelToken::create(const Napi::CallbackInfo& info) {
  return Instance::of(info.Env()).cancel_token.New({});
}

CancelToken::CancelToken(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

CancelFlag CancelToken::flag_of(const Argument& argument) {
  const auto value = argument.value();
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag))
    argument.fail("a token of cancelToken()");
  return Unwrap(value.As<Napi::Object>())->flag_;
}

void CancelToken::cancel(const Napi::CallbackInfo&) { *flag_ = true; }

}  // namespace cream::addon
