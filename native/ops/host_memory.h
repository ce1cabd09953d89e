// Large buffers of host memory that a GPU copies to and from at full speed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace cream::gpu {

// `bytes` bytes, page-locked where `pinned`, of exactly that size: LibTorch's allocator of pinned memory
// rounds up to a power of two and never gives back, which for a model's weights may be as much again.
// Pageable where the system does not lock so much. Throws c10::Error where there is no such memory.
at::Tensor host_bytes(int64_t bytes, bool pinned);

}  // namespace cream::gpu
