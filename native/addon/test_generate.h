#pragma once

#include <napi.h>

namespace cream {

void register_generate_tests(Napi::Env env, Napi::Object exports);

}  // namespace cream
