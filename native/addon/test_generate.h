#pragma once

#include <napi.h>

namespace cream {

void register_generate_tests(Napi::Env env, Napi::Object exports);
void register_decode_tests(Napi::Env env, Napi::Object exports);

}  // namespace cream
