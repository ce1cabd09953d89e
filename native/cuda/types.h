// What host code and kernels share: no CUDA headers, so that every translation unit may include it.
#pragma once

#include <cstdint>

namespace cream::gpu {

using Stream = void*;  // cudaStream_t

enum class Dtype { kFloat32, kBFloat16 };

}  // namespace cream::gpu
