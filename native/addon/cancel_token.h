// cancelToken(): a flag that JavaScript sets and a running verb sees.
#pragma once

#include <napi.h>

#include "addon/convert.h"

namespace cream::addon {

class CancelToken : public Napi::ObjectWrap<CancelToken> {
 public:
  static void define(Napi::Env env);
  static Napi::Value create(const Napi::CallbackInfo& info);
  // The flag of a token given as an argument.
  static CancelFlag flag_of(const Argument& argument);

  explicit CancelToken(const Napi::CallbackInfo& info);

 private:
  void cancel(const Napi::CallbackInfo& info);

  CancelFlag flag_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace cream::addon
