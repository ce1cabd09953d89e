#pragma once

#include <napi.h>

namespace cream {

void register_machine_speed(Napi::Env env, Napi::Object exports);

}  // namespace cream
