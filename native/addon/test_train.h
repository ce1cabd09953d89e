#pragma once

#include <napi.h>

namespace cream {

void register_train_tests(Napi::Env env, Napi::Object exports);

}  // namespace cream
