// Host values on a device.
#pragma once

#include <ATen/Functions.h>

#include <cstring>
#include <vector>

namespace cream::gpu {

// A copy of `bytes` bytes on the device, as uint8. To a GPU it goes through pinned memory, which the caching
// allocator keeps until the copy is done, so that the host does not wait.
inline at::Tensor upload_bytes(const void* values, size_t bytes, at::Device device) {
  at::Tensor host = at::empty({static_cast<int64_t>(bytes)},
                              at::TensorOptions().dtype(at::kByte).pinned_memory(device.is_cuda()));
  if (bytes > 0) std::memcpy(host.data_ptr(), values, bytes);
  return device.is_cpu() ? host : host.to(device, /*non_blocking=*/true);
}

template <typename T>
at::Tensor upload(const T* values, size_t size, at::Device device) {
  return upload_bytes(values, size * sizeof(T), device).view(c10::CppTypeToScalarType<T>::value);
}
template <typename T>
at::Tensor upload(const std::vector<T>& values, at::Device device) {
  return upload(values.data(), values.size(), device);
}

}  // namespace cream::gpu
